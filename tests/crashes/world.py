"""The product in one process, and its callers: they do not give up, and neither lose nor
double anything on purpose.

A queue delivers a message again that was not handled, the stream its records; clients ask again
under the same key, and Lambda and people repeat what failed. That is all the recovery there is.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar
from unittest.mock import patch

from chalicelib.api import authorizer
from chalicelib.api.issuer_keys import IssuerKeys
from chalicelib.domain.errors import CreditsError
from chalicelib.settings import TokenSettings
from infra.faults import FAULTS
from tests.crashes.failures import Failures
from tests.simulation import aws
from tests.simulation import world as simulation
from tests.simulation.aws import ISSUER, Call, Mail, Refused
from tests.simulation.faults import Killed
from tests.simulation.world import STAGE, Context, Reply, World

Json = dict[str, Any]
T = TypeVar("T")

QUEUES = ("sweeps", "allocations", "expiries", "checks", "notifications", "events")
MOST_RECEIVES = dict.fromkeys(QUEUES, 5)
"""Fewer than the stack has for notifications: an email in doubt is on its way sooner."""

MOST_TRIES = 6
NEVER_QUIET = 2_000


@dataclass
class CrashingWorld(World):
    """A world whose calls to AWS fail where they are told to, and whose invokers repeat."""

    failures: Failures = field(default_factory=Failures)
    at_once: int = 10
    """How many messages one invocation gets."""
    milliseconds: int = 30_000
    """How much time an invocation has."""
    answers: list[Any] = field(default_factory=list)
    """What those who asked were answered in the end."""
    asked_for: dict[str, set[str]] = field(default_factory=dict)
    """For each message of the notifications queue, the records of the emails it asks for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.aws.interfere = self.failures

    def restart(self) -> None:
        """A new process: whatever the old one knew is forgotten."""
        super().restart()
        self.token_checker: authorizer.TokenChecker | None = None

    def copy(self, failures: Failures, at_once: int = 10) -> "CrashingWorld":
        """The same world, to go on in another way."""
        random.seed(1)
        aws.refill_retries()
        other = CrashingWorld(
            now=self.now,
            plans=self.plans,
            low_balance=self.low_balance,
            shadow_until=self.shadow_until,
            failures=failures,
            at_once=at_once,
        )
        other.aws.state = self.aws.state.copy()
        other.aws.keys = self.aws.keys
        other.streamed = self.streamed
        return other

    # --- Those who invoke -------------------------------------------------------------------------

    def until_done(self, act: Callable[[], T], is_done: Callable[[T], bool] = bool) -> T:
        """What ``act`` answers when it is done at last."""
        for _ in range(MOST_TRIES):
            answer = self.once(act)
            if answer is not None and is_done(answer):
                return answer
        raise AssertionError(f"not done after {MOST_TRIES} tries")

    def once(self, act: Callable[[], T]) -> T | None:
        """Nobody repeats this one."""
        try:
            return act()
        except Killed:
            self.failures.is_dead = False
            self.restart()
        except (CreditsError, *FAULTS):
            pass  # the invocation has failed
        finally:
            aws.refill_retries()
        return None

    def ask(
        self,
        method: str,
        path: str,
        caller: Mapping[str, str],
        body: object = None,
        key: str = "",
        **query: str,
    ) -> Reply:
        """A client of the API: asks again while nobody answers, or not for good."""
        headers = {"Idempotency-Key": key} if key else {}
        reply = self.until_done(
            lambda: self.call(method, path, caller, body, headers, query),
            lambda reply: reply.status not in (409, 503),
        )
        # One value, not one a line.
        is_json = re.search(r"json\b", reply.headers["content-type"])
        answer: Any = reply.json if is_json else reply.text
        if isinstance(answer, dict):
            answer.pop("request_id", None)  # each request has its own
        if path.endswith("/use-many"):
            # Who asks again is told that what was charged then is charged: which, and not when.
            told = {each["key"] for each in answer.get("already_charged", ())}
            answer = sorted({*answer.get("charged", ()), *told})
        # Who registers again is told that it is there (200) and not that it is new (201).
        self.answers.append((reply.status // 100, answer))
        return reply

    def told_by_stripe(self, event: Json) -> None:
        """Stripe delivers an event until it is answered well."""
        reply = self.until_done(lambda: self.hear(event), lambda reply: reply.status == 200)
        self.answers.append((reply.status, reply.json))

    def settle(self) -> None:
        """Everything that was set off comes to its end, however late it is to be received."""
        while True:
            self.settle_now()
            later = [message.visible_at for name in QUEUES for message in self.queue(name)]
            if not later:
                return
            self.now = max(self.now, datetime.fromtimestamp(int(min(later)) + 1, UTC))

    def settle_now(self, queues: Sequence[str] = QUEUES) -> None:
        """Everything in the stream and in these queues that can be received now."""
        for _ in range(NEVER_QUIET):
            queue = next((name for name in queues if self.waiting(name)), None)
            if "notifications" in queues and self.streamed < len(self.stream):
                self._hand_over_stream()
            elif queue is not None:
                self._deliver_some(queue)
            else:
                return
        raise AssertionError("it is never quiet")

    def _hand_over_stream(self) -> None:
        records = self.stream[self.streamed : self.streamed + 100]

        def hand_over() -> bool:
            self.deliver_stream(records)
            return True

        self.until_done(hand_over)
        self.streamed += len(records)

    def _deliver_some(self, queue: str) -> None:
        messages = self.waiting(queue)[: self.at_once]
        recorded = len(self.failures.recorded)
        self.once(lambda: self.deliver(queue, messages, self.milliseconds))
        if queue == "notifications" and len(messages) == 1:
            asked = self.asked_for.setdefault(_uncorrelated(messages[0].body), set())
            asked.update(self.failures.recorded[recorded:])

    def check_token(self, token: str) -> Json:
        """What API Gateway does before the first request with a token."""
        import app

        method = "arn:aws:execute-api:eu-west-1:123456789012:api/v1/GET/api/plans"
        event = {"type": "TOKEN", "authorizationToken": f"Bearer {token}", "methodArn": method}
        answer: Json = app.authorizer(event, Context())
        return answer

    def checker(self) -> authorizer.TokenChecker:
        """The checker of this process. Its clock is the world's, and a fetch a call like others."""
        if self.token_checker is None:

            def fetch() -> Json:
                try:
                    return self.aws.answer(Call(ISSUER, "GetKeys", {}))
                except (Refused, *FAULTS) as error:
                    raise OSError("the issuer does not answer") from error

            self.token_checker = authorizer.TokenChecker(
                TOKENS,
                IssuerKeys(fetch, lambda: self.now.timestamp()),  # noqa: PLW0108 - as above
            )
        return self.token_checker

    # --- What is to be compared -------------------------------------------------------------------

    def end_state(self) -> Json:
        """All there is, without what says when, in which invocation, and how it is sealed."""
        self._check_seals()
        return {
            "ledger": {key: _entry(item) for key, item in self.table("ledger").items.items()},
            "subscriptions": dict(self.table("subscriptions").items),
            # Without their ids and their operations, which are new in every run.
            "edits": [
                (user_id, {**json.loads(item["body"]["S"]), "correlation_id": None})
                for (user_id, _), item in sorted(self.table("edits").items.items())
            ],
            "records of mails": {
                key: _record(item) for (key, _), item in self.table("mails").items.items()
            },
            "mails": sorted(map(self.told, self.aws.state.mails)),
            "events": self._events(),
            "queues": {
                name: sorted({_uncorrelated(message.body) for message in messages})
                for name, messages in self.aws.state.queues.items()
            },
            "reports": {key: _report(text) for key, text in self.aws.state.objects.items()},
            "Stripe": dict(self.table("stripe").items),
            "answers": self.answers,
        }

    def told(self, mail: Mail) -> tuple[str, ...]:
        """What a user sees of an email. It witnesses its entry by the hash that the ledger has."""

        def witnessed(found: re.Match[str]) -> str:
            number, digits = found.groups()
            place = (mail.user_id, f"entry#{int(number):012d}")
            is_there = self.table("ledger").items[place]["hash"]["S"].startswith(digits)
            # Not the digits: the hash covers the name of the operation, which is another each time.
            return f"{number}:{'its hash' if is_there else 'the hash of something else'}"

        text = re.sub(r"\b([1-9][0-9]*):([0-9a-f]{12})\b", witnessed, mail.text)
        return mail.user_id, mail.kind, mail.address, mail.subject, text

    def _events(self) -> Json:
        """What was published, each once, by its id; without the hash, as of the ledger.

        What was published again must say the same.
        """
        found: Json = {}
        for entry in self.aws.state.events:
            detail = json.loads(entry["Detail"])
            said = [entry["DetailType"], entry["EventBusName"], {**detail, "hash": None}]
            assert found.setdefault(detail["id"], said) == said
        return found

    def _check_seals(self) -> None:
        hashes: dict[str, str] = {}
        for (user_id, key), item in sorted(self.table("ledger").items.items()):
            if "erased" in item:
                hashes[user_id] = item["hash"]["S"]
            elif key.startswith("entry#"):
                text = f"{hashes.get(user_id, '0' * 64)}\n{user_id}\n{item['body']['S']}"
                hashes[user_id] = hashlib.sha256(text.encode()).hexdigest()
                assert item["hash"]["S"] == hashes[user_id], f"{user_id}: {key} is not sealed"


def _entry(item: Json) -> Json:
    if "body" not in item:
        return item
    body = json.loads(item["body"]["S"])
    body.pop("correlation", None)
    return {**item, "body": body, "hash": None}


def _record(item: Json) -> Json:
    said = json.loads(item["data"]["S"]) if "data" in item else None
    said = said and {**said, "message_id": None, "sent_at": None}
    return {"status": item["status"]["S"], "said": said}


def _report(text: str) -> str:
    """A report without when it was made."""
    return re.sub(r'"counted_at": "[^"]*"', '"counted_at": null', text)


def _uncorrelated(body: str) -> str:
    values = json.loads(body)
    values.pop("correlation_id", None)
    return json.dumps(values, sort_keys=True)


# --- Around it ------------------------------------------------------------------------------------


@cache
def functions() -> dict[str, str]:
    """Every Lambda function of ``app.py``: its name, by the attribute that it is there."""
    import app

    by_handler = {id(handler): name for name, handler in app.app.handler_map.items()}
    found = {
        attribute: by_handler[id(value)]
        for attribute, value in vars(app).items()
        if id(value) in by_handler
    }
    return {"app": "api", **found}


@cache
def reachable() -> set[str]:
    """The names of all functions but the API's, and of this one all routes.

    Without those of the console: they call nothing of AWS.
    """
    import app

    routes = {
        f"{method} {path}"
        for path, found in app.app.routes.items()
        for method in found
        if not path.startswith("/console")
    }
    return {*functions().values()} - {"api"} | routes


def _checker() -> authorizer.TokenChecker:
    world = simulation._CURRENT[-1]
    assert isinstance(world, CrashingWorld)
    return world.checker()


@contextmanager
def crashing() -> Iterator[set[str]]:
    """Within the block the product is small; gives the names of the functions that were invoked."""
    import app

    invoked: set[str] = set()
    reachable()  # looked up while everything is in its place

    def noting(name: str, handler: Any) -> Any:
        def invoke(event: Any, context: Any) -> Any:
            invoked.add(name if name != "api" else f"{event['httpMethod']} {event['resource']}")
            return handler(event, context)

        return invoke

    with ExitStack() as stack:
        stack.enter_context(simulation.simulated(zones=ZONES, users_a_page=4))
        # A zone has two ranges, which are divided no more: there are the fewer calls to fail at.
        stack.enter_context(patch("chalicelib.domain.ranges.BITS_A_SPLIT", 1))
        stack.enter_context(patch("chalicelib.domain.ranges.MOST_BITS", 1))
        stack.enter_context(patch.dict(simulation.MOST_RECEIVES, MOST_RECEIVES))
        # What failed in passing comes back at once: the end of a run says when it was posted.
        stack.enter_context(patch("chalicelib.jobs.records.FIRST_DELAY", 0))
        stack.enter_context(patch.object(authorizer, "token_checker", _checker))
        for attribute, name in functions().items():
            noted = noting(name, getattr(app, attribute))
            stack.enter_context(patch.object(app, attribute, noted))
        yield invoked


ZONES = ("America/New_York", "Europe/Paris", "Pacific/Kiritimati")
TOKENS = TokenSettings.read(
    {"STAGE": STAGE, "TOKEN_ISSUER": "https://issuer.example.com/", "TOKEN_AUDIENCE": "credits-api"}
)
