"""Tokens of an OAuth 2 issuer: kept, renewed in time, by one thread or task alone."""

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from clients.python.tests.api import USED, problem

from credits_client import AsyncCredits, ClientCredentials, Credits, NoToken, Unauthenticated

SECRET = "s3cret/+:"  # noqa: S105 - of a test


class Issuer:
    """An issuer and an API that only takes its newest token."""

    def __init__(self, **token: Any) -> None:
        self.token = {"token_type": "Bearer", "expires_in": 3600, **token}
        self.asked: list[httpx.Request] = []
        self.used: list[str] = []
        self.pauses: list[float] = []
        self.refused: set[str] = set()
        self.troubles: list[Any] = []
        self.now = 0.0
        self.everybody: threading.Barrier | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "issuer":
            self.asked.append(request)
            if self.troubles:
                trouble = self.troubles.pop(0)
                if isinstance(trouble, Exception):
                    raise trouble
                found: httpx.Response = trouble
                return found
            return httpx.Response(200, json={"access_token": f"t{len(self.asked)}", **self.token})
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.used.append(token)
        if self.everybody is not None and token in self.refused:
            self.everybody.wait(10)
        if token in self.refused:
            return problem(401, "unauthenticated")
        return httpx.Response(200, json=USED)

    def credentials(self, **more: Any) -> ClientCredentials:
        words: dict[str, Any] = {"scope": "credits:backend", "clock": lambda: self.now, **more}
        return ClientCredentials("https://issuer/token", "shop:1", SECRET, **words)

    def client(self, **more: Any) -> Credits:
        http = httpx.Client(transport=httpx.MockTransport(self.answer))
        return Credits("https://api", self.credentials(**more), http=http, sleep=self.pauses.append)


def test_a_token_is_asked_for_once_and_renewed_before_its_end() -> None:
    issuer = Issuer(expires_in=3600)
    client = issuer.client()
    for now in (0, 1, 3539, 3540, 3541, 9999):
        issuer.now = now
        client.use("1", 1)
    assert issuer.used == ["t1", "t1", "t1", "t2", "t2", "t3"]


def test_a_token_of_a_short_life_is_used_for_most_of_it() -> None:
    issuer = Issuer(expires_in="10")
    client = issuer.client()
    for now in (0, 8.9, 9.0):
        issuer.now = now
        client.use("1", 1)
    assert issuer.used == ["t1", "t1", "t2"]


@pytest.mark.parametrize("life", [None, "long"])
def test_a_token_of_unknown_life_is_used_for_some_minutes(life: object) -> None:
    issuer = Issuer(expires_in=life)
    client = issuer.client()
    for now in (0, 200, 280):
        issuer.now = now
        client.use("1", 1)
    assert issuer.used == ["t1", "t1", "t2"]


def test_the_secret_goes_into_the_header_form_encoded_and_nowhere_else() -> None:
    issuer = Issuer()
    issuer.client(audience="https://credits").use("1", 1)
    (asked,) = issuer.asked
    basic = base64.b64decode(asked.headers["Authorization"].removeprefix("Basic ")).decode()
    assert basic == "shop%3A1:s3cret%2F%2B%3A"
    assert parse_qs(asked.content.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["credits:backend"],
        "audience": ["https://credits"],
    }


def test_the_secret_goes_into_the_body_where_the_issuer_wants_it_there() -> None:
    issuer = Issuer()
    issuer.client(secret_in_body=True).use("1", 1)
    (asked,) = issuer.asked
    assert "Authorization" not in asked.headers
    form = parse_qs(asked.content.decode())
    assert (form["client_id"], form["client_secret"]) == (["shop:1"], [SECRET])
    assert "audience" not in form


def test_a_refused_token_is_renewed_once() -> None:
    issuer = Issuer()
    issuer.refused = {"t1"}
    issuer.client().use("1", 1)
    assert issuer.used == ["t1", "t2"]
    issuer.refused = {"t3", "t4"}
    client = issuer.client()
    with pytest.raises(Unauthenticated):
        client.use("1", 1)
    assert issuer.used == ["t1", "t2", "t3", "t4"]


def test_many_threads_that_need_a_token_ask_once() -> None:
    issuer = Issuer()
    client = issuer.client()
    client.use("1", 1)
    issuer.refused, issuer.everybody = {"t1"}, threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.use("1", 1), range(8)))
    assert len(issuer.asked) == 2
    assert issuer.used.count("t2") == 8


class Together:
    """A lock that nobody gets before everybody waits for it: they all have seen no good token."""

    def __init__(self, threads: int) -> None:
        self.everybody = threading.Barrier(threads)
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        self.everybody.wait(10)
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_threads_that_wait_while_one_renews_the_token_take_the_new_one() -> None:
    issuer = Issuer()
    credentials = issuer.credentials()
    credentials.renewing = Together(8)  # type: ignore[assignment] # all that is asked of it
    http = httpx.Client(transport=httpx.MockTransport(issuer.answer))
    client = Credits("https://api", credentials, http=http)
    for newest in ("t1", "t2"):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.use("1", 1), range(8)))
        assert issuer.used == [newest] * 8
        assert len(issuer.asked) == int(newest.removeprefix("t"))
        issuer.used.clear()
        issuer.now += 9999


def test_many_tasks_that_need_a_token_ask_once() -> None:
    issuer = Issuer()

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return issuer.answer(request)

    async def work() -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        client = AsyncCredits("https://api", issuer.credentials(), http=http)
        await asyncio.gather(*(client.use("1", 1) for _ in range(8)))
        issuer.refused = {"t1"}
        await asyncio.gather(*(client.use("1", 1) for _ in range(8)))

    asyncio.run(work())
    assert len(issuer.asked) == 2


def test_an_issuer_in_passing_trouble_is_asked_again() -> None:
    issuer = Issuer()
    issuer.troubles = [httpx.ConnectError("refused"), httpx.Response(500), httpx.Response(429)]
    issuer.client().use("1", 1)
    assert len(issuer.pauses) == 3
    assert issuer.used == ["t4"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(401, json={"error": "invalid_client"}), r"answered 401 \(invalid_client\)"),
        (httpx.Response(400, text="no"), r"answered 400 \(no reason given\)"),
        (httpx.Response(302), r"answered 302 \(no reason given\)"),
        (httpx.Response(200, json={"token": "t"}), "answered without an access_token"),
        (httpx.Response(200, json={"access_token": ""}), "answered without an access_token"),
        (httpx.Response(200, text="<html>"), "answered without an access_token"),
    ],
)
def test_an_issuer_that_gives_no_token_is_not_asked_again(
    answer: httpx.Response, said: str
) -> None:
    issuer = Issuer()
    issuer.troubles = [answer]
    with pytest.raises(NoToken, match=said) as failed:
        issuer.client().use("1", 1)
    assert SECRET not in str(failed.value)
    assert (len(issuer.asked), issuer.used) == (1, [])


def test_nothing_shows_the_secret_or_a_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    issuer = Issuer()
    issuer.troubles = [httpx.Response(503)]
    credentials = issuer.credentials()
    http = httpx.Client(transport=httpx.MockTransport(issuer.answer))
    client = Credits("https://api", credentials, http=http, sleep=issuer.pauses.append)
    client.use("1", 1)
    shown = repr(credentials) + str(credentials) + repr(client) + caplog.text
    assert "shop:1" in shown
    for secret in (SECRET, "s3cret", "t2"):
        assert secret not in shown.replace("https://issuer/token", "")


def test_a_route_that_needs_no_token_asks_for_none() -> None:
    issuer = Issuer()

    def answer(request: httpx.Request) -> httpx.Response:
        assert "Authorization" not in request.headers
        return httpx.Response(200, json={"status": "ok", "version": "1.0.0"})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    assert Credits("https://api", issuer.credentials(), http=http).health().version == "1.0.0"
    assert issuer.asked == []
