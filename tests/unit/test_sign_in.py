"""The local issuer as the console sees it: whom it sends back, with what, and what it exchanges."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest

from infra.local import tokens
from infra.local.client_credentials import Refused
from infra.local.sign_in import (
    CODE_SECONDS,
    BadRequest,
    SignedIn,
    SignIn,
    challenge_of,
    page,
    policy,
)

HOME = "http://127.0.0.1:4000/_aws/execute-api/abc/v1/console"
ISSUER = "http://127.0.0.1:5000"
# RFC 7636, appendix B.
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

GOOD = {
    "response_type": "code",
    "client_id": "console",
    "redirect_uri": HOME,
    "scope": "openid credits:admin",
    "state": "the-state",
    "nonce": "the-nonce",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "audience": "credits",
}
PERSON = "subject=ada&scope=credits%3Aadmin"


class Issuer(SignIn):
    def __init__(self) -> None:
        self.time = 1000.0
        super().__init__(lambda: self.time)
        self.redirect_uris = frozenset({HOME})

    def code(self, form: str = PERSON, **more: str) -> str:
        address = self.answered(urlencode({**GOOD, **more}), form, ISSUER)
        return dict(parse_qsl(urlsplit(address).query))["code"]


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def exchange(issuer: Issuer, code: str, **more: str) -> SignedIn:
    asked = {"code": code, "redirect_uri": HOME, "client_id": "console", "code_verifier": VERIFIER}
    return issuer.exchange({**asked, **more})


def test_the_challenge_is_that_of_the_standard() -> None:
    assert challenge_of(VERIFIER) == CHALLENGE


def test_who_signs_in_is_sent_back_with_a_code_that_stands_for_them(issuer: Issuer) -> None:
    address = issuer.answered(urlencode(GOOD), PERSON, ISSUER)
    assert address.startswith(f"{HOME}?")
    told = dict(parse_qsl(urlsplit(address).query))
    assert (told["state"], told["iss"]) == ("the-state", ISSUER)
    found = exchange(issuer, told["code"])
    assert found == SignedIn("ada", "openid credits:admin", "the-nonce")


def test_people_have_the_scopes_that_they_chose_and_no_others(issuer: Issuer) -> None:
    form = "subject=ada&scope=credits%3Aread&scope=root&scope=openid"
    assert exchange(issuer, issuer.code(form)).scope == "openid credits:read"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"client_id": "backend"}, "client_id"),
        ({"redirect_uri": f"{HOME}/"}, "redirect_uri must be, to the letter"),
        ({"redirect_uri": f"{HOME}?x=1"}, "redirect_uri"),
        ({"redirect_uri": HOME.replace("127.0.0.1", "localhost")}, "redirect_uri"),
        ({"redirect_uri": ""}, "redirect_uri"),
        ({"state": "x" * 513}, "512"),
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_known(
    issuer: Issuer, change: dict[str, str], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        issuer.asked(urlencode({**GOOD, **change}))


def test_a_field_that_comes_twice_is_refused(issuer: Issuer) -> None:
    with pytest.raises(BadRequest, match="twice"):
        issuer.asked(f"{urlencode(GOOD)}&{urlencode({'redirect_uri': 'http://evil.example.com'})}")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"state": ""}, "invalid_request"),
        ({"nonce": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "openid credits:root"}, "invalid_scope"),
    ],
)
def test_a_page_that_asks_wrongly_is_told_so_at_its_own_address(
    issuer: Issuer, change: dict[str, str], error: str
) -> None:
    query = urlencode({**GOOD, **change})
    with pytest.raises(Refused) as caught:
        issuer.asked(query)
    assert caught.value.error == error
    address = urlsplit(issuer.where_to_refuse(query, caught.value))
    assert f"{address.scheme}://{address.netloc}{address.path}" == HOME
    assert dict(parse_qsl(address.query))["error"] == error


def test_who_declines_gets_no_code(issuer: Issuer) -> None:
    with pytest.raises(Refused, match="access_denied"):
        issuer.code("subject=ada&deny=1")


@pytest.mark.parametrize("subject", ["", "  ", "system", "a\tb"])
def test_nobody_signs_in_under_a_name_that_no_caller_can_have(issuer: Issuer, subject: str) -> None:
    with pytest.raises(BadRequest):
        issuer.code(urlencode({"subject": subject}))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code": "unknown"}, "invalid_grant"),
        ({"redirect_uri": "http://localhost:3000/"}, "invalid_grant"),
        ({"client_id": "backend"}, "invalid_client"),
        ({"client_secret": "local-secret"}, "invalid_client"),
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": CHALLENGE}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"code": ""}, "invalid_request"),
    ],
)
def test_a_code_is_exchanged_only_by_the_page_that_began(
    issuer: Issuer, change: dict[str, str], error: str
) -> None:
    code = issuer.code()
    with pytest.raises(Refused) as caught:
        exchange(issuer, **{"code": code, **change})
    assert caught.value.error == error


def test_a_code_is_good_for_one_try(issuer: Issuer) -> None:
    code = issuer.code()
    exchange(issuer, code)
    with pytest.raises(Refused, match="invalid_grant"):
        exchange(issuer, code)
    guessed = issuer.code()
    with pytest.raises(Refused, match="invalid_grant"):
        exchange(issuer, guessed, code_verifier="x" * 43)
    with pytest.raises(Refused, match="invalid_grant"):
        exchange(issuer, guessed)


def test_a_code_is_good_for_a_minute(issuer: Issuer) -> None:
    late, soon = issuer.code(), issuer.code()
    issuer.time += CODE_SECONDS - 1
    exchange(issuer, soon)
    issuer.time += 1
    with pytest.raises(Refused, match="invalid_grant"):
        exchange(issuer, late)


def test_codes_that_nobody_exchanges_do_not_pile_up(issuer: Issuer) -> None:
    for _ in range(100):
        issuer.code()
    with pytest.raises(Refused, match="temporarily_unavailable"):
        issuer.code()
    issuer.time += CODE_SECONDS
    assert exchange(issuer, issuer.code()).subject == "ada"


def test_the_page_says_that_it_is_a_toy_and_leads_nowhere_else(issuer: Issuer) -> None:
    asked = issuer.asked(urlencode(GOOD))
    assert "A toy of the local stack" in page(asked)
    assert 'value="credits:admin" checked' in page(asked)
    assert 'value="credits:billing" checked' not in page(asked)
    assert "form-action 'self' http://127.0.0.1:4000" in policy(asked)
    assert "frame-ancestors 'none'" in policy(asked)


# --- Over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    with tokens.issuer() as running:
        tokens.lead_back_to(running, [HOME])
        yield running


Answer = tuple[int, dict[str, str], str]


def send(url: str, method: str, path: str, body: str = "", **headers: str) -> Answer:
    """`headers` have _ in the place of -."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, body or None, sent)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


FORM = "application/x-www-form-urlencoded"
ORIGIN = "http://127.0.0.1:4000"


def exchanged(url: str, code: str, **headers: str) -> Answer:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": HOME,
        "client_id": "console",
        "code_verifier": VERIFIER,
    }
    return send(url, "POST", "/oauth/token", urlencode(form), Content_Type=FORM, **headers)


def signed_in(url: str) -> str:
    """The code that the page's form is answered with."""
    path = f"/authorize?{urlencode(GOOD)}"
    status, headers, _ = send(url, "POST", path, PERSON, Content_Type=FORM)
    assert status == 303
    return dict(parse_qsl(urlsplit(headers["location"]).query))["code"]


def test_the_console_signs_somebody_in_and_may_read_the_tokens_from_its_own_origin(
    url: str,
) -> None:
    status, headers, text = exchanged(url, signed_in(url), Origin=ORIGIN)
    assert (status, headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert headers["cache-control"] == "no-store"
    told: dict[str, Any] = json.loads(text)
    key = jwt.PyJWKClient(f"{url}/jwks.json").get_signing_key_from_jwt(told["access_token"])
    access = jwt.decode(told["access_token"], key, ["RS256"], audience="credits", issuer=url)
    assert (access["sub"], access["scope"]) == ("ada", "openid credits:admin")
    who = jwt.decode(told["id_token"], key, ["RS256"], audience="console", issuer=url)
    assert (who["sub"], who["nonce"]) == ("ada", "the-nonce")


def test_no_page_of_another_origin_exchanges_a_code_or_makes_a_token(url: str) -> None:
    status, headers, _ = exchanged(url, signed_in(url), Origin="http://localhost:3000")
    assert (status, "access-control-allow-origin" in headers) == (403, False)
    # The console's origin may exchange a code, and nothing else.
    for path in ("/token", "/redirect-uris", "/authorize"):
        assert send(url, "POST", path, "{}", Origin=ORIGIN)[0] == 403


def test_a_page_may_lead_a_person_to_the_sign_in_and_not_ask_for_it_itself(url: str) -> None:
    path = f"/authorize?{urlencode(GOOD)}"
    led = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert send(url, "GET", path, Sec_Fetch_Dest="document", **led)[0] == 200
    assert send(url, "GET", path, Sec_Fetch_Dest="iframe", **led)[0] == 403
    assert send(url, "GET", path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert send(url, "GET", "/jwks.json", Sec_Fetch_Dest="document", **led)[0] == 403
    assert send(url, "POST", path, PERSON, Sec_Fetch_Dest="document", **led)[0] == 403


def test_a_wrong_request_is_told_so_where_it_belongs(url: str) -> None:
    status, _, text = send(url, "GET", f"/authorize?{urlencode({**GOOD, 'client_id': 'x'})}")
    assert (status, json.loads(text)["error_description"]) == (400, "client_id must be console")
    wrong = urlencode({**GOOD, "scope": "root"})
    status, headers, _ = send(url, "GET", f"/authorize?{wrong}")
    assert status == 303
    assert headers["location"].startswith(f"{HOME}?error=invalid_scope")
    status, _, text = exchanged(url, "unknown", Origin=ORIGIN)
    assert (status, json.loads(text)["error"]) == (400, "invalid_grant")


def test_the_discovery_document_says_how_people_sign_in(url: str) -> None:
    told = json.loads(send(url, "GET", "/.well-known/openid-configuration")[2])
    assert told["authorization_endpoint"] == f"{url}/authorize"
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert set(told["grant_types_supported"]) == {"client_credentials", "authorization_code"}
