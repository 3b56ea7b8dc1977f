"""Many requests for the same credits at the same time, through the deployed API."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from infra.local.stacks import LocalStack
from tests.aws import contract
from tests.aws.api import Reply
from tests.stack.api import Api

USER = "parallel"
USE = "/api/credits/use"
REQUESTS = 50
AMOUNT = 10
BALANCE = 300

# How many of the requests are in the function at the same time. Of each of its processes the
# emulator makes a copy of the archive first: fifty are more than two cores can do in a minute.
PROCESSES = 10
RETRIED = {409, 429, 500, 502, 503, 504}


@contextmanager
def limited_concurrency(stack: LocalStack) -> Iterator[None]:
    functions = stack.client("lambda")
    name = stack.functions["api"]
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=PROCESSES)
    try:
        yield
    finally:
        functions.delete_function_concurrency(FunctionName=name)


def test_fifty_uses_of_ten_credits_on_a_balance_of_300_and_the_same_fifty_again(
    stack: LocalStack,
) -> None:
    api = Api(stack)
    api.subscribe(USER)
    api.grant(USER, BALANCE, key="parallel")
    token = api.as_user(USER)
    assert api.send("GET", "/api/plans", token).status == 200  # the token is known from here on

    def use(number: int) -> Reply:
        """Uses the credits as a client should: what can be retried is, with the same key."""
        body = {"amount": AMOUNT, "description": f"Export {number}"}
        for _ in range(500):
            reply = api.send("POST", USE, token, body, key=f"export-{number}", is_checked=False)
            if reply.status not in RETRIED:
                contract.check_answer("POST", USE, reply.status, reply.headers, reply.text)
                return reply
            time.sleep(random.uniform(0.05, 0.5))
        raise AssertionError(f"request {number} is still answered {reply.status}: {reply.text}")

    def use_all() -> list[Reply]:
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(use, range(REQUESTS)))

    with limited_concurrency(stack):
        first = use_all()
        balance = api.balance(USER)
        history = api.send("GET", "/api/credits/history?limit=100", token).text
        again = use_all()

    assert Counter(reply.status for reply in first) == {200: 30, 402: 20}
    done = [reply for reply in first if reply.status == 200]
    assert sorted(reply.json["new_balance"] for reply in done) == [*range(0, BALANCE, AMOUNT)]
    assert {reply.json["available_balance"] for reply in first if reply.status == 402} == {0}
    assert balance == 0

    for before, after in zip(first, again, strict=True):
        assert after.status == before.status
        if before.status == 200:
            assert after.text == before.text
            assert after.headers["idempotency-replayed"] == "true"
    assert api.balance(USER) == 0
    assert api.send("GET", "/api/credits/history?limit=100", token).text == history
