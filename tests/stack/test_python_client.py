"""The Python client against the deployed stack, over HTTP and through API Gateway."""

import asyncio

import pytest
from credits_client import AsyncCredits, Credits, HoldEnded, InsufficientCredits, Unauthenticated

from infra.local.stacks import LocalStack
from tests.stack.api import Api

USER = "python"


def test_a_backend_holds_captures_and_reads_in_sync_and_async_code(stack: LocalStack) -> None:
    api = Api(stack)
    api.subscribe(USER)
    api.grant(USER, 100, key="python-1")
    before = api.balance(USER)
    # A token that API Gateway refuses is renewed on the way.
    with Credits(stack.api_url, lambda refused: api.backend if refused else "a.b.c") as client:
        with client.hold(USER, 50, "Crawl", key="job-7") as hold:
            assert client.balance(USER).available_balance == before - 50
            assert hold.capture(31).new_balance == before - 31
        with pytest.raises(HoldEnded) as ended:
            client.release(hold.hold_id)
        assert ended.value.ended == "captured"
        with pytest.raises(InsufficientCredits) as refused:
            client.use(USER, 1_000_000_000)
        assert refused.value.available_balance == before - 31
        assert client.use(USER, 1, key="use-7") == client.use(USER, 1, key="use-7")

    async def work() -> list[int]:
        async with AsyncCredits(stack.api_url, api.backend) as client:
            async with client.hold(USER, 50, key="job-8") as hold:
                await hold.capture(9)
            return [line.amount async for line in client.history(USER, limit=2)]

    assert asyncio.run(work())[:5] == [-9, 0, -1, -31, 0]


def test_a_token_that_is_refused_for_good_is_said_so(stack: LocalStack) -> None:
    with Credits(stack.api_url, "a.b.c") as client:
        assert client.health().status == "ok"
        with pytest.raises(Unauthenticated, match="401 unauthenticated"):
            client.plans()
