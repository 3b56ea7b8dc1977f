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
LIMITED = ("scope", "state", "nonce", "code_challenge", "code_challenge_method", "response_type")
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
    form = "subject=+Zo%C3%AB+&scope=credits%3Aread&scope=root&scope=openid"
    assert exchange(issuer, issuer.code(form)) == SignedIn(
        "Zoë", "openid credits:read", "the-nonce"
    )
    without = {"scope": "credits:admin", "nonce": ""}
    form = form.replace("subject=", "subject=deny%3D")
    assert exchange(issuer, issuer.code(form, **without)) == SignedIn(
        "deny= Zoë", "credits:read", ""
    )


def test_a_code_cannot_be_guessed(issuer: Issuer) -> None:
    codes = {issuer.code() for _ in range(10)}
    assert len(codes) == 10
    assert min(map(len, codes)) >= 43, "32 bytes of chance"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"client_id": "backend"}, "client_id"),
        ({"redirect_uri": f"{HOME}/"}, "redirect_uri must be, to the letter"),
        ({"redirect_uri": f"{HOME}?x=1"}, "redirect_uri"),
        ({"redirect_uri": HOME.replace("127.0.0.1", "localhost")}, "redirect_uri"),
        ({"redirect_uri": ""}, "redirect_uri"),
        *(({field: "x" * 513}, "512") for field in LIMITED),
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_known(
    issuer: Issuer, change: dict[str, str], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        issuer.asked(urlencode({**GOOD, **change}))


def test_a_field_may_have_512_characters_and_all_addresses_are_named_in_order(
    issuer: Issuer,
) -> None:
    longest = "x" * 512
    asked = issuer.asked(urlencode({**GOOD, "state": longest, "nonce": longest}))
    assert (asked.state, asked.nonce) == (longest, longest)
    issuer.redirect_uris = frozenset(f"http://{letter}" for letter in "fbdaec")
    with pytest.raises(BadRequest, match=r"letter, http://a or http://b or .* or http://f$"):
        issuer.asked(urlencode(GOOD))
    issuer.redirect_uris = frozenset()
    with pytest.raises(BadRequest, match="to the letter, none yet"):
        issuer.asked(urlencode(GOOD))


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
    told = {"error": error, "error_description": caught.value.description}
    state = {} if change.get("state") == "" else {"state": "the-state"}
    assert dict(parse_qsl(address.query, keep_blank_values=True)) == told | state


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


def test_a_verifier_has_43_to_128_characters(issuer: Issuer) -> None:
    for length, is_good in ((42, False), (43, True), (128, True), (129, False)):
        verifier = "~" * length
        code = issuer.code(code_challenge=challenge_of(verifier))
        if is_good:
            assert exchange(issuer, code, code_verifier=verifier).subject == "ada"
        else:
            with pytest.raises(Refused, match="invalid_grant"):
                exchange(issuer, code, code_verifier=verifier)


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
    issuer.time += 59
    exchange(issuer, soon)
    issuer.time += 1
    with pytest.raises(Refused, match="invalid_grant"):
        exchange(issuer, late)


def test_codes_that_nobody_exchanges_do_not_pile_up(issuer: Issuer) -> None:
    for _ in range(100):
        issuer.code()
    with pytest.raises(Refused, match="temporarily_unavailable"):
        issuer.code()
    issuer.time += 60
    assert exchange(issuer, issuer.code()).subject == "ada"


def test_the_page_says_that_it_is_a_toy_and_leads_nowhere_else(issuer: Issuer) -> None:
    asked = issuer.asked(urlencode(GOOD))
    assert "A toy of the local stack" in page(asked)
    assert 'value="credits:admin" checked' in page(asked)
    assert 'value="credits:billing" checked' not in page(asked)
    assert "<span>see, use and hold anybody&#x27;s</span>" in page(asked)
    assert policy(asked) == (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'self' http://127.0.0.1:4000"
    )


# --- Over HTTP ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with tokens.issuer() as running:
        tokens.lead_back_to(running, ["http://localhost:9/console"])
        tokens.lead_back_to(running, ["http://localhost:1/console", HOME])
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
    assert (headers["vary"], headers["content-type"]) == ("Origin", "application/json")
    assert headers["cache-control"] == "no-store"
    told: dict[str, Any] = json.loads(text)
    key = jwt.PyJWKClient(f"{url}/jwks.json").get_signing_key_from_jwt(told["access_token"])
    access = jwt.decode(told["access_token"], key, ["RS256"], audience="credits", issuer=url)
    assert (access["sub"], access["scope"]) == ("ada", "openid credits:admin")
    assert (access["client_id"], access["exp"] - access["iat"]) == ("console", 3600)
    assert [told[name] for name in ("expires_in", "scope")] == [3600, "openid credits:admin"]
    who = jwt.decode(told["id_token"], key, ["RS256"], audience="console", issuer=url)
    assert (who["sub"], who["nonce"]) == ("ada", "the-nonce")


def test_who_signs_in_without_openid_has_no_id_token_and_any_letters_in_their_name(
    url: str,
) -> None:
    path = f"/authorize?{urlencode({**GOOD, 'scope': 'credits:admin'})}"
    form = "subject=Zoë&scope=credits:admin".encode().decode("latin-1")
    _, headers, _ = send(url, "POST", path, form, Content_Type=FORM)
    code = dict(parse_qsl(urlsplit(headers["location"]).query))["code"]
    told = json.loads(exchanged(url, code)[2])
    assert "id_token" not in told
    claims = jwt.decode(told["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["scope"]) == ("Zoë", "credits:admin")


def test_the_page_of_the_sign_in_may_do_nothing_but_that(url: str) -> None:
    status, headers, text = send(url, "GET", f"/authorize?{urlencode(GOOD)}")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "form-action 'self' http://127.0.0.1:4000" in headers["content-security-policy"]
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-store")
    assert "Local sign-in" in text


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
    gone = urlencode({**GOOD, "redirect_uri": "http://localhost:9/console"})
    assert send(url, "GET", f"/authorize?{gone}")[0] == 400
    wrong = urlencode({**GOOD, "scope": "root"})
    status, headers, _ = send(url, "GET", f"/authorize?{wrong}")
    assert status == 303
    assert headers["location"].startswith(f"{HOME}?error=invalid_scope")
    status, headers, text = exchanged(url, "unknown", Origin=ORIGIN)
    assert (status, json.loads(text)["error"]) == (400, "invalid_grant")
    assert headers["access-control-allow-origin"] == ORIGIN, "or the page could not read why"


def test_the_discovery_document_says_how_people_sign_in(url: str) -> None:
    told = json.loads(send(url, "GET", "/.well-known/openid-configuration")[2])
    assert told["authorization_endpoint"] == f"{url}/authorize"
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert set(told["grant_types_supported"]) == {"client_credentials", "authorization_code"}
    assert {"openid", "credits:read", "credits:admin"} <= set(told["scopes_supported"])
    assert (told["issuer"], told["jwks_uri"]) == (url, f"{url}/jwks.json")
