"""Which pages may call the API, whatever the route says."""

from collections.abc import Iterator
from typing import Any

import pytest
from chalice.app import Request, Response

from chalicelib.api.cors import answer_browsers
from chalicelib.settings import allowed_origins

APP = "https://app.example.com"
SHARING = "Access-Control-Allow-Origin"


@pytest.fixture(autouse=True)
def _origins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ALLOWED_ORIGINS", f"{APP}, https://www.example.com")
    allowed_origins.cache_clear()
    yield
    allowed_origins.cache_clear()


def answer(method: str = "GET", origin: str | None = APP) -> dict[str, Any]:
    """The headers of the answer to a request from a page of an origin."""
    event = {
        "headers": {} if origin is None else {"Origin": origin},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "requestContext": {"httpMethod": method, "resourcePath": "/api/plans"},
        "body": None,
        "stageVariables": None,
        "isBase64Encoded": False,
    }
    if method == "OPTIONS":
        given = Response({"Code": "MethodNotAllowedError"}, {"Allow": "GET, PUT"}, 405)
    else:
        given = Response("{}", {"ETag": '"1"'}, 200)
    response = answer_browsers(Request(event), lambda _: given)
    assert response.status_code == (204 if method == "OPTIONS" else 200)
    return dict(response.headers)


@pytest.mark.parametrize("origin", [APP, "https://www.example.com"])
def test_a_page_of_a_configured_origin_may_read_the_answer_and_its_headers(origin: str) -> None:
    headers = answer(origin=origin)
    assert headers[SHARING] == origin
    exposed = headers["Access-Control-Expose-Headers"].split(",")
    assert {"ETag", "Idempotency-Replayed", "Next-Cursor", "Retry-After", "X-Request-Id"} <= {
        *exposed
    }
    assert headers["ETag"] == '"1"'


@pytest.mark.parametrize(
    "origin",
    [None, "null", "https://evil.example.com", f"{APP}.evil.com", "http://app.example.com"],
)
def test_no_other_page_may_and_caches_are_told_that_it_depends(origin: str | None) -> None:
    for method in ("GET", "OPTIONS"):
        headers = answer(method, origin)
        assert not any(name.startswith("Access-Control-") for name in headers)
        assert headers["Vary"] == "Origin"


def test_a_browser_is_told_beforehand_what_the_page_may_send() -> None:
    headers = answer("OPTIONS")
    assert headers[SHARING] == APP
    assert headers["Allow"] == headers["Access-Control-Allow-Methods"] == "GET, PUT"
    assert "Idempotency-Key" in headers["Access-Control-Allow-Headers"]
    assert headers["Access-Control-Max-Age"] == "7200"


def test_a_star_is_any_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "*")
    allowed_origins.cache_clear()
    assert answer(origin="https://whoever.example.com")[SHARING] == "https://whoever.example.com"


def test_what_a_page_may_send_and_read_is_all_that_the_contract_has() -> None:
    """A header that is left out is not sent, or not seen, in browsers alone."""
    headers = answer("OPTIONS")
    assert headers["Access-Control-Allow-Headers"] == (
        "Accept,Authorization,Content-Type,Idempotency-Key,If-Match,If-None-Match"
    )
    assert headers["Access-Control-Expose-Headers"] == (
        "Content-Disposition,ETag,Idempotency-Replayed,Location,Next-Cursor,Retry-After,"
        "WWW-Authenticate,X-Request-Id"
    )
