"""What is sent again, when, and what is said if it was in vain; the same in both clients."""

import asyncio
import logging
import operator
import pickle
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from clients.python.tests.api import Api, problem, used

from credits_client import (
    APIError,
    AsyncCredits,
    Contention,
    Credits,
    CreditsError,
    HoldEnded,
    InsufficientCredits,
    InternalError,
    InvalidInput,
    NoAnswer,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from credits_client import Timeout as TimedOut


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def use(client: Any) -> Any:
    return client.use("1", 31, key="job-7")


def edit(client: Any) -> Any:
    return client.patch_subscription("1", status="paused", etag='"3"')


def sign_up(client: Any) -> Any:
    terms = {"timezone": "UTC", "plan": "pro", "billing_interval": "yearly", "status": "active"}
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return client.put_subscription("1", **terms, started_at=began, only_new=True)


SUBSCRIPTION: dict[str, Any] = {
    "user_id": "1",
    "email": None,
    "timezone": "UTC",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "paused",
    "started_at": "2026-01-01T00:00:00.000Z",
    "eligible_from": "2026-01-01T00:00:00Z",
    "resumed_at": None,
    "ends_at": None,
    "observed_at": None,
    "allocation_amount": None,
    "next_credit_allocation": None,
    "credit_allocation_amount": 0,
    "not_allocated_because": {"code": "subscription_paused", "words": "It is paused."},
    "notifications": [],
    "language": "en",
    "mail_suppressed_because": None,
}


# --- What is sent again ---------------------------------------------------------------------------

PASSING: list[Any] = [
    lambda: problem(409, "contention", "1"),
    lambda: problem(429, "too_many_requests", "1"),
    lambda: problem(503, "unavailable", "1"),
    lambda: problem(504, "unavailable", "1"),
    lambda: httpx.Response(502, text="<html>Bad gateway</html>"),
    lambda: httpx.Response(503, text=""),
    lambda: httpx.ConnectError("refused"),
    lambda: httpx.ConnectTimeout("slow"),
    lambda: httpx.ReadTimeout("slow"),
    lambda: httpx.ReadError("reset"),
    lambda: httpx.RemoteProtocolError("went away"),
    lambda: httpx.PoolTimeout("busy"),
    lambda: httpx.DecodingError("cut off"),
]


@pytest.mark.parametrize("trouble", PASSING)
def test_after_a_passing_problem_the_same_request_is_sent_again(kind: str, trouble: Any) -> None:
    api = Api([trouble(), trouble(), trouble(), used()])
    assert api.ask(kind, use).new_balance == 69
    assert len(api.sent) == 4
    assert len({(each.method, str(each.url), each.content) for each in api.sent}) == 1
    assert {each.headers["Idempotency-Key"] for each in api.sent} == {"job-7"}


def test_a_key_that_was_not_given_is_made_once_and_kept(kind: str) -> None:
    api = Api([httpx.ReadTimeout("slow"), used(), used()])

    api.ask(kind, lambda client: client.use("1", 31))
    first, second = (each.headers["Idempotency-Key"] for each in api.sent)
    assert first == second
    api.ask(kind, lambda client: client.use("1", 31))
    assert api.sent[2].headers["Idempotency-Key"] != first


LASTING: list[tuple[int, str, type[APIError]]] = [
    (400, "invalid_input", InvalidInput),
    (402, "insufficient_credits", InsufficientCredits),
    (404, "not_found", NotFound),
    (410, "hold_ended", HoldEnded),
    (500, "internal_error", InternalError),
    (418, "of_a_newer_server", APIError),
]


@pytest.mark.parametrize(("status", "code", "error"), LASTING)
def test_any_other_refusal_is_final(
    kind: str, status: int, code: str, error: type[APIError]
) -> None:
    api = Api([problem(status, code)])
    with pytest.raises(error) as refused:
        api.ask(kind, use)
    assert type(refused.value) is error
    assert len(api.sent) == 1
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: problem(409, "contention"), Contention),
        (lambda: problem(429, "too_many_requests"), TooManyRequests),
        (lambda: problem(503, "unavailable"), Unavailable),
        (lambda: problem(504, "unavailable"), TimedOut),
        (lambda: httpx.Response(502, text="<html>"), NoAnswer),
        (lambda: httpx.ReadTimeout("slow"), TimedOut),
        (lambda: httpx.ConnectError("refused"), Unreachable),
    ],
)
def test_after_the_last_attempt_the_last_trouble_is_raised(
    kind: str, answer: Any, error: type[CreditsError]
) -> None:
    api = Api([answer(), answer()])
    with pytest.raises(error) as failed:
        api.ask(kind, use, attempts=2)
    assert type(failed.value) is error
    assert len(api.sent) == 2


def test_what_can_never_be_sent_is_not_tried_again(kind: str) -> None:
    for failure in (httpx.UnsupportedProtocol("gopher"), httpx.LocalProtocolError("no host")):
        api = Api([failure])
        with pytest.raises(Unreachable):
            api.ask(kind, use)


def test_an_answer_that_is_not_the_apis_is_no_answer(kind: str) -> None:
    for answer in (
        httpx.Response(200, text="<html>Sign in to the Wi-Fi</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"new_balance": "69"}),
        httpx.Response(404, text="Not here"),
    ):
        api = Api([answer])
        with pytest.raises(
            NoAnswer, match=f"POST /api/credits/use: an answer {answer.status_code}"
        ) as raised:
            api.ask(kind, use)
        assert (raised.value.__cause__ is not None) == answer.is_success


# An edit of a version is refused once it was done: by its own version.
def test_an_edit_of_a_version_is_not_sent_again_if_it_may_have_been_done(kind: str) -> None:
    for trouble, error in (
        (httpx.ReadTimeout("slow"), TimedOut),
        (problem(504, "unavailable"), TimedOut),
        (httpx.Response(502, text=""), NoAnswer),
    ):
        for call in (edit, sign_up):
            api = Api([trouble])
            with pytest.raises(error):
                api.ask(kind, call)


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: httpx.ConnectTimeout("slow"),
        lambda: httpx.PoolTimeout("busy"),
        lambda: problem(503, "unavailable"),
    ],
)
def test_an_edit_of_a_version_is_sent_again_if_it_was_surely_not_done(
    kind: str, trouble: Any
) -> None:
    done = httpx.Response(200, json=SUBSCRIPTION, headers={"ETag": '"4"'})
    assert Api([trouble(), trouble(), done]).ask(kind, edit).etag == '"4"'


def test_an_edit_of_any_version_is_sent_again(kind: str) -> None:
    done = httpx.Response(200, json=SUBSCRIPTION, headers={"ETag": '"4"'})
    api = Api([httpx.ReadTimeout("slow"), done])
    found = api.ask(kind, lambda client: client.patch_subscription("1", status="paused"))
    assert found.value.not_allocated_because.code == "subscription_paused"


# --- When -----------------------------------------------------------------------------------------


def test_pauses_double_and_are_random_from_nothing_on(kind: str) -> None:
    for share, pauses in (
        (1.0, [0.25, 0.5, 1, 2, 4, 8, 16, 20, 20]),
        (0.5, [0.125, 0.25, 0.5, 1, 2, 4, 8, 10, 10]),
        (0.0, [0.0] * 9),
    ):
        api = Api([*[httpx.ConnectError("refused")] * 9, used()])
        api.ask(kind, use, attempts=10, patience=1000, random=lambda share=share: share)
        assert api.pauses == pauses


def test_what_the_api_asks_to_wait_comes_first(kind: str) -> None:
    in_a_while = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    api = Api(
        [
            problem(429, "too_many_requests", "7"),
            problem(503, "unavailable", in_a_while),
            problem(503, "unavailable", "soon"),
            used(),
        ]
    )
    api.ask(kind, use, random=lambda: 0.0)
    first, second, third = api.pauses
    assert (first, third) == (7, 0)
    assert 25 < second <= 30


def test_all_who_are_asked_to_wait_as_long_do_not_come_back_together(kind: str) -> None:
    api = Api([problem(429, "too_many_requests", "7"), problem(503, "unavailable", "2"), used()])
    api.ask(kind, use, random=lambda: 0.5)
    assert api.pauses == [7.125, 2.25]


@pytest.mark.parametrize("when", ["Thu, 15 Jan 2099 12:00:00 -0000", "soon", "nan", "inf", "-5"])
def test_a_time_to_wait_that_makes_no_sense_is_none(kind: str, when: str) -> None:
    """A date without a zone is of no moment."""
    api = Api([problem(503, "unavailable", when), used()])
    api.ask(kind, use, random=lambda: 0.0)
    assert api.pauses == [0.0]


def test_no_attempt_begins_after_the_patience_is_over(kind: str) -> None:
    api = Api([problem(503, "unavailable", "8"), problem(503, "unavailable", "8")])
    with pytest.raises(Unavailable):
        api.ask(kind, use, patience=10, attempts=9)
    assert len(api.pauses) == 1
    api = Api([problem(503, "unavailable", "8"), used()])
    api.ask(kind, use, patience=8, random=lambda: 0.0)
    assert api.pauses == [8.0]
    api = Api([problem(429, "too_many_requests", "3600")])
    with pytest.raises(TooManyRequests):
        api.ask(kind, use)
    assert api.pauses == []


# --- Tokens ---------------------------------------------------------------------------------------


def test_a_refused_token_is_renewed_once_and_that_is_no_attempt(kind: str) -> None:
    tokens = {None: "old", "old": "new"}
    api = Api([problem(401, "unauthenticated"), used()])
    api.ask(kind, use, tokens.__getitem__, attempts=1)
    assert [each.headers["Authorization"] for each in api.sent] == ["Bearer old", "Bearer new"]
    assert {each.headers["Idempotency-Key"] for each in api.sent} == {"job-7"}
    assert api.pauses == []


def test_a_token_that_is_refused_again_is_not_renewed_again(kind: str) -> None:
    asked: list[str | None] = []

    def token(refused: str | None) -> str:
        asked.append(refused)
        return f"token {len(asked)}"

    api = Api([problem(401, "unauthenticated"), problem(401, "unauthenticated")])
    with pytest.raises(Unauthenticated):
        api.ask(kind, use, token)
    assert asked == [None, "token 1"]


def test_a_refused_token_without_another_is_final(kind: str) -> None:
    api = Api([problem(401, "unauthenticated")])
    with pytest.raises(Unauthenticated):
        api.ask(kind, use)
    assert len(api.sent) == 1


def test_a_renewed_token_stays_for_the_attempts_that_follow(kind: str) -> None:
    tokens = {None: "old", "old": "new"}
    api = Api([problem(401, "unauthenticated"), problem(503, "unavailable"), used()])
    api.ask(kind, use, tokens.__getitem__, attempts=2)
    assert api.sent[2].headers["Authorization"] == "Bearer new"


def test_an_async_function_may_give_the_token() -> None:
    async def token(refused: str | None) -> str:
        return "new" if refused else "old"

    api = Api([problem(401, "unauthenticated"), used()])
    api.ask("async", use, token)
    assert api.sent[1].headers["Authorization"] == "Bearer new"


# --- What is said ---------------------------------------------------------------------------------


def test_a_refusal_says_what_the_api_says_and_can_be_pickled(kind: str) -> None:
    errors = [{"field": "amount", "message": "must be more"}]
    api = Api([problem(400, "invalid_input", errors=errors)])
    with pytest.raises(InvalidInput, match="400 invalid_input: in detail") as refused:
        api.ask(kind, use)
    error = refused.value
    assert (error.title, error.detail, error.request_id) == ("A title", "in detail", "r-1")
    assert [(each.field, each.message) for each in error.errors] == [("amount", "must be more")]
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what was just pickled
    assert (type(again), again.problem) == (InvalidInput, error.problem)


def test_without_an_answer_the_cause_is_that_of_httpx(kind: str) -> None:
    api = Api([httpx.ConnectError("refused")])
    with pytest.raises(Unreachable, match="POST /api/credits/use was not answered") as failed:
        api.ask(kind, use, attempts=1)
    assert isinstance(failed.value.__cause__, httpx.ConnectError)


def test_each_attempt_that_follows_is_logged_without_a_user_or_a_token(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="credits_client")
    done = httpx.Response(200, json=SUBSCRIPTION, headers={"ETag": '"4"'})
    api = Api([problem(503, "unavailable"), done])
    api.ask(kind, lambda client: client.subscription("ada@example.com"), "a secret")
    (said,) = [each.getMessage() for each in caplog.records if each.name == "credits_client"]
    assert said == (
        "GET /api/subscriptions/{user_id}: unavailable; attempt 2 of 4 follows in 0.25 s"
    )


def test_a_client_shows_its_address_and_no_token(kind: str) -> None:
    client = Api([]).client("a secret") if kind == "sync" else Api([]).twin("a secret")
    assert repr(client).endswith("Credits('https://api.example.com/v1')")


# --- What is wrong with the call ------------------------------------------------------------------


def test_what_cannot_be_sent_names_the_field_and_the_fix(kind: str) -> None:
    for call, words in (
        (lambda client: client.use("1", 1, key="my key"), "key must be 1 to 255 visible ASCII"),
        (lambda client: client.use("1", 1, key=""), "key must be 1 to 255 visible ASCII"),
        (lambda client: client.subscription(""), "user_id must not be empty"),
        (lambda client: client.capture("", 1), "hold_id must not be empty"),
        (
            lambda client: client.refund("p", 1, "r", observed_at=datetime(2026, 1, 1)),  # noqa: DTZ001
            "observed_at must be an aware datetime",
        ),
        (
            lambda client: client.history_page("1", until=datetime(2026, 1, 1)),  # noqa: DTZ001
            "until must be an aware datetime",
        ),
    ):
        api = Api([])
        with pytest.raises(ValueError, match=words):
            api.ask(kind, call)


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="url must begin with https://"):
        Credits("api.example.com", "t")
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Credits("https://api.example.com", "t", attempts=0)


def test_no_name_can_lead_to_another_route(kind: str) -> None:
    done = httpx.Response(200, json=SUBSCRIPTION, headers={"ETag": '"4"'})
    for name, path in (("..", "%2E%2E"), ("a/b?c#d", "a%2Fb%3Fc%23d"), ("ada|7", "ada%7C7")):
        api = Api([done])
        api.ask(kind, operator.methodcaller("subscription", name))
        assert api.sent[0].url.raw_path == f"/v1/api/subscriptions/{path}".encode()


# --- Its connections ------------------------------------------------------------------------------


def test_it_waits_for_seconds_by_default_and_for_what_was_asked_for_else() -> None:
    def timeout_of(**more: Any) -> dict[str, float]:
        api = Api([used()])
        http = httpx.Client(transport=httpx.MockTransport(api.answer), timeout=77)
        Credits("https://api.example.com", "t", http=http, **more).use("1", 1)
        found: dict[str, float] = api.sent[0].extensions["timeout"]
        return found

    assert set(timeout_of().values()) == {77}
    assert set(timeout_of(timeout=5).values()) == {5}
    assert set(timeout_of(timeout=0).values()) == {0}
    with Credits("https://api.example.com", "t") as client:
        own = client._http.timeout
    assert (own.connect, own.read, own.write, own.pool) == (3, 10, 10, 10)
    assert client._http.is_closed


def test_a_client_that_was_handed_in_stays_open() -> None:
    with httpx.Client() as http:
        with Credits("https://api.example.com", "t", http=http):
            pass
        assert not http.is_closed


def test_an_async_client_that_was_handed_in_stays_open() -> None:
    async def both() -> tuple[bool, bool]:
        async with httpx.AsyncClient() as http:
            async with AsyncCredits("https://api.example.com", "t", http=http):
                pass
            handed_in = http.is_closed
        own = AsyncCredits("https://api.example.com", "t")
        async with own:
            assert own._http.timeout == httpx.Timeout(10, connect=3)
        return handed_in, own._http.is_closed

    assert asyncio.run(both()) == (False, True)


def test_a_refusal_that_does_not_say_what_is_there_promises_nothing(kind: str) -> None:
    for said, available in ((None, 0), (7, 7)):
        refusal = problem(402, "insufficient_credits", available_balance=said)
        with pytest.raises(InsufficientCredits) as refused:
            Api([refusal]).ask(kind, use)
        assert refused.value.available_balance == available
