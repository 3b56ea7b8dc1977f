"""A hold as a context: what becomes of it when its block, its capture or its release fails."""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from clients.python.tests.api import CAPTURED, HELD, RELEASED, Answer, Api, problem

from credits_client import (
    AsyncHeld,
    CreditsError,
    Held,
    HoldEnded,
    InsufficientCredits,
    NotAllowed,
    Unavailable,
    Unreachable,
)
from credits_client import Timeout as TimedOut


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def held() -> httpx.Response:
    return httpx.Response(200, json=HELD)


def captured() -> httpx.Response:
    return httpx.Response(200, json=CAPTURED)


def released() -> httpx.Response:
    return httpx.Response(200, json=RELEASED)


def ended(how: str) -> httpx.Response:
    return problem(
        410, "hold_ended", ended=how, ended_at="2026-01-15T12:30:00Z", transaction_id="1-6"
    )


def run(kind: str, api: Api, *steps: Any) -> None:
    """Holds 50 credits for a block of steps: an error to raise, or an amount to capture."""

    def step(hold: Held | AsyncHeld, what: Any) -> Any:
        if isinstance(what, BaseException):
            raise what
        return hold.capture(what)

    if kind == "sync":
        with api.client(attempts=1).hold("1", 50, key="job-7") as hold:
            for what in steps:
                step(hold, what)
        return

    async def work() -> None:
        async with api.twin(attempts=1).hold("1", 50, key="job-7") as hold:
            for what in steps:
                await step(hold, what)

    asyncio.run(work())


def paths(api: Api) -> list[str]:
    return [request.url.path.rpartition("/api/credits/")[2] for request in api.sent]


def test_a_captured_hold_is_left_alone(kind: str) -> None:
    api = Api([held(), captured()])
    run(kind, api, 31)
    assert paths(api) == ["holds", "holds/1-5/capture"]


def test_a_captured_hold_is_left_alone_also_when_the_block_raises_then(kind: str) -> None:
    api = Api([held(), captured()])
    with pytest.raises(ZeroDivisionError):
        run(kind, api, 31, ZeroDivisionError())
    assert len(api.sent) == 2


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
def test_a_block_that_raises_releases_its_hold_and_its_error_goes_on(
    kind: str, error: BaseException
) -> None:
    api = Api([held(), released()])
    with pytest.raises(type(error)) as raised:
        run(kind, api, error)
    assert raised.value is error or isinstance(error, asyncio.CancelledError)
    assert paths(api) == ["holds", "holds/1-5/release"]


def test_a_block_without_a_capture_releases_its_hold(kind: str) -> None:
    api = Api([held(), released()])
    run(kind, api)
    assert paths(api) == ["holds", "holds/1-5/release"]


def test_a_release_that_fails_does_not_hide_the_error_of_the_block(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api([held(), httpx.ConnectError("refused")])
    with pytest.raises(ZeroDivisionError) as raised:
        run(kind, api, ZeroDivisionError())
    words = "hold 1-5 was not released, and ends at 2026-01-15T13:00:00Z"
    (said,) = [each for each in caplog.records if each.name == "credits_client"]
    assert (said.levelno, said.getMessage()) == (logging.WARNING, words)
    assert said.exc_info is not None
    assert isinstance(said.exc_info[1], Unreachable)
    if sys.version_info >= (3, 11):
        assert raised.value.__notes__ == [f"{words}: {said.exc_info[1]}"]


def test_not_even_a_bug_in_what_gives_the_tokens_hides_the_error_of_the_block() -> None:
    tokens = iter(["t"])
    api = Api([held()])
    with pytest.raises(ZeroDivisionError), api.client(lambda _: next(tokens)).hold("1", 50):
        raise ZeroDivisionError


def test_a_release_that_fails_after_a_block_without_an_error_is_raised(kind: str) -> None:
    api = Api([held(), problem(503, "unavailable")])
    with pytest.raises(Unavailable):
        run(kind, api)


@pytest.mark.parametrize("how", ["lapsed", "captured", "released"])
def test_a_hold_that_has_ended_meanwhile_needs_no_release(kind: str, how: str) -> None:
    api = Api([held(), ended(how)])
    run(kind, api)
    api = Api([held(), ended(how)])
    with pytest.raises(ZeroDivisionError):
        run(kind, api, ZeroDivisionError())


def test_a_capture_that_is_refused_releases_the_hold_and_is_what_is_raised(kind: str) -> None:
    for refusal, error in (
        (problem(422, "not_allowed"), NotAllowed),
        (problem(402, "insufficient_credits", available_balance=3), InsufficientCredits),
        (problem(503, "unavailable"), Unavailable),
    ):
        api = Api([held(), refusal, released()])
        with pytest.raises(error):
            run(kind, api, 60)
        assert paths(api)[-1] == "holds/1-5/release"
    api = Api([held(), ended("lapsed"), ended("lapsed")])
    with pytest.raises(HoldEnded) as refused:
        run(kind, api, 31)
    assert refused.value.ended == "lapsed"


# A release would free what was worked for, if the capture was not done.
def test_a_capture_without_an_answer_leaves_the_hold_as_it_is(kind: str) -> None:
    for trouble in (httpx.ReadTimeout("slow"), problem(504, "unavailable")):
        api = Api([held(), trouble])
        with pytest.raises(TimedOut):
            run(kind, api, 31)
        assert paths(api) == ["holds", "holds/1-5/capture"]


def test_a_capture_that_is_asked_for_again_in_the_block_counts(kind: str) -> None:
    api = Api([held(), problem(422, "not_allowed"), captured()])
    if kind == "sync":
        with api.client().hold("1", 50) as hold:
            with pytest.raises(NotAllowed):
                hold.capture(60)
            hold.capture(31)
    else:

        async def work() -> None:
            async with api.twin().hold("1", 50) as hold:
                with pytest.raises(NotAllowed):
                    await hold.capture(60)
                await hold.capture(31)

        asyncio.run(work())
    assert len(api.sent) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: problem(503, "unavailable"),
        lambda: httpx.ReadTimeout("slow"),
        lambda: httpx.ConnectError("refused"),
    ],
    ids=["refused", "not answered", "not sent"],
)
def test_a_release_that_fails_in_the_block_is_tried_again_at_its_end(
    kind: str, trouble: Callable[[], Answer]
) -> None:
    api = Api([held(), trouble(), released()])
    if kind == "sync":
        with api.client(attempts=1).hold("1", 50) as hold, suppress(CreditsError):
            hold.release()
    else:

        async def work() -> None:
            async with api.twin(attempts=1).hold("1", 50) as hold:
                with suppress(CreditsError):
                    await hold.release()

        asyncio.run(work())
    assert paths(api) == ["holds", "holds/1-5/release", "holds/1-5/release"]


def test_a_hold_knows_what_it_is(kind: str) -> None:
    api = Api([held(), released()])
    hold = api.ask(kind, lambda client: client.hold("1", 50))
    assert (hold.hold_id, hold.amount, hold.replayed) == ("1-5", 50, False)
    assert f"{hold.expires_at:%FT%TZ}" == "2026-01-15T13:00:00Z"
    assert repr(hold).startswith(f"{type(hold).__name__}(HoldAnswer(hold_id='1-5', ")


def test_a_hold_that_was_released_in_its_block_is_left_alone(kind: str) -> None:
    api = Api([held(), released()])
    if kind == "sync":
        with api.client().hold("1", 50) as hold:
            hold.release()
    else:

        async def work() -> None:
            async with api.twin().hold("1", 50) as hold:
                await hold.release()

        asyncio.run(work())
    assert len(api.sent) == 2
