"""The guard in front of what listens on this machine, without a socket."""

import asyncio
from typing import Any

import pytest

from infra.local.guard import guarded, is_api, refusal

PORT = 51234
OWN = f"127.0.0.1:{PORT}"
APP = "http://localhost:3000"


def asked(
    host: str | None = OWN,
    *more: tuple[str, str],
    origin: str | None = None,
    site: str | None = None,
) -> list[tuple[str, str]]:
    """The headers of a request, as far as they say where it comes from."""
    said = {"Host": host, "Origin": origin, "Sec-Fetch-Site": site}
    return [(name, value) for name, value in said.items() if value is not None] + [*more]


@pytest.mark.parametrize(
    "host",
    [OWN, f"localhost:{PORT}", f"[::1]:{PORT}", f"LocalHost:{PORT}", f"my-bucket.localhost:{PORT}"],
)
def test_a_program_on_this_machine_is_answered_by_any_name_of_loopback(host: str) -> None:
    assert refusal(asked(host), PORT) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        f"evil.example.com:{PORT}",
        f"localhost.evil.example.com:{PORT}",
        f"evillocalhost:{PORT}",
        f"127.0.0.1.evil.example.com:{PORT}",
        f"127.0.0.1.nip.io:{PORT}",
        f"0.0.0.0:{PORT}",
        f"169.254.169.254:{PORT}",
        f"{OWN}@evil.example.com:{PORT}",
        f"{OWN}\nevil",
        "127.0.0.1",
        "localhost",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1:{PORT}0",
        "",
        None,
    ],
)
def test_another_name_is_refused_with_the_address_to_use(host: str | None) -> None:
    reason = refusal(asked(host), PORT)
    assert reason is not None
    assert f"This is http://{OWN} of a local stack" in reason
    assert (repr(host) if host is not None else "missing") in reason


def test_of_two_names_none_is_believed() -> None:
    reason = refusal(asked(OWN, ("host", "evil.example.com")), PORT)
    assert reason is not None
    assert f"'{OWN}' and 'evil.example.com'" in reason


def test_a_relay_may_name_its_own_port_and_no_other_machine() -> None:
    assert refusal(asked("127.0.0.1:1"), PORT, is_relayed=True) is None
    assert refusal(asked("evil.example.com:1"), PORT, is_relayed=True) is not None


@pytest.mark.parametrize("site", [None, "same-origin"])
@pytest.mark.parametrize("host", [OWN, f"localhost:{PORT}"])
def test_a_page_of_the_port_itself_may_ask(host: str, site: str | None) -> None:
    assert refusal(asked(host, origin=f"http://{host}", site=site), PORT) is None


FOREIGN = [
    "https://evil.example.com",
    "null",
    "",
    APP,
    f"http://localhost:{PORT}",  # asks 127.0.0.1: to a browser that is another page
    f"https://{OWN}",
    f"http://{OWN}.evil.example.com",
    f"http://{OWN}/",
    "http://127.0.0.1",
    "file://",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("site", [None, "same-site", "cross-site"])
def test_a_page_of_another_origin_is_refused_and_told_where_pages_may_ask(
    origin: str, site: str | None
) -> None:
    reason = refusal(asked(origin=origin, site=site), PORT)
    assert reason is not None
    assert repr(origin) in reason
    assert "AllowedOrigins" in reason


def test_of_two_origins_both_have_to_be_allowed() -> None:
    own = ("Origin", f"http://{OWN}")
    assert refusal(asked(OWN, own, own), PORT) is None
    assert refusal(asked(OWN, own, ("origin", "https://evil.example.com")), PORT) is not None


def test_a_page_that_may_call_is_let_through_and_no_other() -> None:
    assert refusal(asked(origin=APP, site="cross-site"), PORT, [APP]) is None
    assert refusal(asked(origin="http://localhost:3001"), PORT, [APP]) is not None
    assert refusal(asked("evil.example.com", origin=APP), PORT, [APP]) is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "none, cross-site", "whatever"])
def test_what_a_page_loads_or_leads_to_without_an_origin_is_refused(site: str) -> None:
    """An image, a script, a link, a form that is sent by GET: none of them has an Origin."""
    for pages in ([], [APP]):
        reason = refusal(asked(site=site), PORT, pages)
        assert reason is not None
        assert repr(site) in reason
        assert "Type the address by hand" in reason


@pytest.mark.parametrize("site", ["none", "same-origin", " none "])
def test_an_address_that_somebody_typed_is_answered(site: str) -> None:
    assert refusal(asked(site=site), PORT) is None


LED = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
"""What a browser says of a link that somebody follows, or of an address they are sent to."""


def test_other_pages_may_lead_a_person_to_an_entrance_and_nowhere_else() -> None:
    led = asked(OWN, *LED, site="cross-site")
    assert refusal(led, PORT, is_entrance=True) is None
    assert refusal(led, PORT) is not None
    for mode, dest in (("navigate", "iframe"), ("no-cors", "document"), ("cors", "empty")):
        other = [("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]
        assert refusal(asked(OWN, *other, site="cross-site"), PORT, is_entrance=True) is not None
    for less in (LED[:1], LED[1:], [*LED, LED[1]]):
        assert refusal(asked(OWN, *less, site="cross-site"), PORT, is_entrance=True) is not None
    foreign = asked(OWN, *LED, origin="https://evil.example.com", site="cross-site")
    assert refusal(foreign, PORT, is_entrance=True) is not None


def test_a_form_of_a_page_that_sends_no_referrer_is_its_own() -> None:
    assert refusal(asked(origin="null", site="same-origin"), PORT) is None
    two = asked(OWN, ("Sec-Fetch-Site", "cross-site"), origin="null", site="same-origin")
    assert refusal(two, PORT) is not None


def test_a_long_name_is_not_repeated_at_length() -> None:
    assert len(refusal(asked("e" * 10_000), PORT) or "") < 400


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        (OWN, "/_aws/execute-api/ab12/v1/api/plans", True),
        (f"ab12cd34.execute-api.localhost:{PORT}", "/v1/api/plans", True),
        (f"AB12.Execute-Api.localhost:{PORT}", "/", True),
        (OWN, "/", False),
        (OWN, "/_ministack/reset", False),
        (OWN, "/x/_aws/execute-api/ab12/v1", False),
        (OWN, "/_aws/execute-apis", False),
        ("execute-api.localhost", "/", False),
        (f"ab12.execute-api.localhost.evil.example.com:{PORT}", "/", False),
        (f"ab12.execute-api.localhost:{PORT}.evil.example.com", "/", False),
    ],
)
def test_the_api_alone_serves_pages_of_other_origins(
    host: str, path: str, *, expected: bool
) -> None:
    assert is_api(host, path) is expected


# --- In front of an app ---------------------------------------------------------------------------


def run(
    kind: str, path: str, headers: list[tuple[str, str]], **more: str
) -> tuple[list[str], list[Any]]:
    """What came of a request: what the app did, and what was sent."""
    done: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        done.append(scope["type"])

    async def receive() -> None:
        done.append("received")

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "path": path, "headers": raw, **more}
    asyncio.run(guarded(app, PORT, [APP])(scope, receive, send))
    return done, sent


API = "/_aws/execute-api/ab12/v1/api/plans"


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("path", ["/", API])
def test_an_app_is_asked_what_is_let_through(kind: str, path: str) -> None:
    assert run(kind, path, asked()) == ([kind], [])
    assert run(kind, API, asked(origin=APP)) == ([kind], [])
    relayed = asked("127.0.0.1:1")  # what listens there passes on what was signed for it
    assert run(kind, path, relayed) == ([kind], [])


def test_an_app_starts_and_ends_without_being_asked_for_headers() -> None:
    assert run("lifespan", "", []) == (["lifespan"], [])


@pytest.mark.parametrize(
    "headers",
    [
        asked("evil.example.com"),
        asked(origin="https://evil.example.com"),
        asked(site="cross-site"),
        [],
    ],
)
@pytest.mark.parametrize("path", ["/", API, "/_ministack/reset"])
def test_an_app_is_asked_nothing_that_is_refused(path: str, headers: list[tuple[str, str]]) -> None:
    done, (start, body) = run("http", path, headers)
    assert done == []
    assert (start["type"], start["status"]) == ("http.response.start", 403)
    answered = dict(start["headers"])
    assert answered[b"content-type"] == b"text/plain; charset=utf-8"
    assert int(answered[b"content-length"]) == len(body["body"])
    assert answered[b"cache-control"] == b"no-store"
    assert answered[b"x-content-type-options"] == b"nosniff"
    assert answered[b"connection"] == b"close"
    assert b"access-control-allow-origin" not in answered
    assert body["body"].startswith(b"This is http://127.0.0.1:51234 of a local stack of Credits.")
    assert run("websocket", path, headers) == ([], [{"type": "websocket.close", "code": 1008}])


def test_a_page_that_may_call_the_api_may_call_nothing_else_of_the_emulator() -> None:
    assert run("http", "/", asked(origin=APP))[0] == []
    assert run("http", "/_ministack/reset", asked(origin=APP))[0] == []


CONSOLE = "/_aws/execute-api/ab12/v1/console"


@pytest.mark.parametrize(
    ("method", "path", "is_let_in"),
    [
        ("GET", CONSOLE, True),
        ("POST", CONSOLE, False),
        ("GET", f"{CONSOLE}/main.js", False),
        ("GET", API, False),
        ("GET", f"{API}/console", False),
        ("GET", "/elsewhere/v1/console", False),
        ("GET", "/_ministack/v1/console", False),
    ],
)
def test_the_sign_in_leads_back_to_the_console_and_to_nothing_else(
    method: str, path: str, *, is_let_in: bool
) -> None:
    done, _ = run("http", path, asked(OWN, *LED, site="cross-site"), method=method)
    assert done == (["http"] if is_let_in else [])
