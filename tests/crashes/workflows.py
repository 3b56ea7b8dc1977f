"""Everything the product does, each as a workflow: what was before, and what sets it off.

A workflow whose `run` meets a new call to AWS, or a new function of ``app.py``, needs no line here.
A new function that none of them reaches fails a test.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chalicelib.operations import on_request
from tests.crashes.world import CrashingWorld, Json
from tests.simulation.aws import Message
from tests.simulation.world import Context, at

ADMIN = {"caller": "admin", "user_id": "", "scopes": "credits:admin"}
SHOP = {"caller": "shop", "user_id": "", "scopes": "credits:backend"}
ADA = {"caller": "ada", "user_id": "ada", "scopes": "credits:read credits:use"}

START = "2026-01-15T12:00:00Z"
FEBRUARY = "2026-01-31T23:00:00Z"  # begins in Paris
REMINDER = "2026-02-27T23:00:00Z"
EXPIRY = "2026-03-02T23:00:00Z"

Step = Callable[[CrashingWorld], None]


@dataclass(frozen=True)
class Workflow:
    """``before`` goes well. What ``run`` sets off may fail anywhere, and is settled afterwards."""

    group: str
    name: str
    before: Sequence[Step]
    run: Step
    milliseconds: int = 30_000
    parks: bool = False
    """Whether messages are parked at once when they fail, and dead letters left where they are."""


WORKFLOWS: dict[str, Workflow] = {}


def workflow(group: str, name: str, *before: Step, **more: Any) -> Callable[[Step], Step]:
    """Makes a workflow of the function that runs it."""

    def add(run: Step) -> Step:
        WORKFLOWS[name] = Workflow(group, name, before, run, **more)
        return run

    return add


# --- What was before ------------------------------------------------------------------------------


def subscribed(*users: str, **more: Any) -> Step:
    def step(world: CrashingWorld) -> None:
        for user_id in users:
            world.ask("PUT", f"/api/subscriptions/{user_id}", SHOP, subscription(**more))

    return step


def subscription(
    plan: str = "starter", timezone: str = "Europe/Paris", **more: object
) -> dict[str, object]:
    return {
        **more,
        "email": "user@example.com",
        "timezone": timezone,
        "plan": plan,
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
    }


def tick(world: CrashingWorld, kind: str, time: str) -> None:
    """EventBridge's tick of a moment. Lambda repeats an invocation that failed."""
    world.now = max(world.now, at(time))
    world.until_done(lambda: world.tick(kind, at(time)), lambda answer: answer["success"])


def allocated(world: CrashingWorld) -> None:
    tick(world, "allocation", FEBRUARY)
    world.settle()


def granted(world: CrashingWorld) -> None:
    """Two batches more, one of which expires."""
    by_hand(world, 50, "first")
    by_hand(world, 30, "second", expires_in_days=60)
    world.settle()


def used(world: CrashingWorld) -> None:
    use(world, 170, "used")
    world.settle()


def used_little(world: CrashingWorld) -> None:
    for key in ("one", "two"):
        use(world, 5, key)
    world.settle()


def expired(world: CrashingWorld) -> None:
    tick(world, "expiry", EXPIRY)
    world.settle()


def unreadable(user_id: str) -> Step:
    """A subscription of a release that was rolled back: its status is none that this one knows."""

    def step(world: CrashingWorld) -> None:
        items = world.table("subscriptions").items
        for key, item in [*items.items()]:
            if item["user_id"]["S"] == user_id:
                items[key] = {**item, "status": {"S": "frozen"}}

    return step


# --- What is asked for ----------------------------------------------------------------------------


def by_hand(world: CrashingWorld, amount: int, key: str, **more: object) -> None:
    body = {"user_id": "ada", "amount": amount, "reason": "Goodwill", **more}
    world.ask("POST", "/api/credits/allocate", ADMIN, body, key)


def by_lambda(world: CrashingWorld, amount: int) -> None:
    event = {
        "user_id": "ada",
        "amount": amount,
        "reason": "Goodwill",
        "actor": "admin",
        "idempotency_key": "key",
    }
    world.answers.append(world.until_done(lambda: world.manual_allocate(event)))


def use(world: CrashingWorld, amount: int, key: str) -> None:
    body = {"user_id": "ada", "amount": amount, "description": "Report"}
    world.ask("POST", "/api/credits/use", SHOP, body, key)


def reverse(world: CrashingWorld, number: int, amount: int | None, key: str) -> None:
    body: Json = {"user_id": "ada", "transaction_id": f"ada-{number}", "reason": "Oops"}
    body |= {} if amount is None else {"amount": amount}
    world.ask("POST", "/api/credits/reverse", SHOP, body, key)


# --- Allocation -----------------------------------------------------------------------------------


@workflow("allocation", "allocation to one user", subscribed("ada"))
def _allocation(world: CrashingWorld) -> None:
    tick(world, "allocation", FEBRUARY)


@workflow(
    "allocation",
    "allocation to users on several pages",
    subscribed("ada", "bob", "cem", "dan", notifications=[]),
    subscribed("eva", plan="pro", notifications=[]),
)
def _allocation_of_several(world: CrashingWorld) -> None:
    tick(world, "allocation", FEBRUARY)


@workflow(
    "allocation",
    "allocation by sweeps that run out of time",
    subscribed("ada", "bob", "cem", "dan", "eva", plan="pro", notifications=[]),
    milliseconds=5_000,
)
def _allocation_in_haste(world: CrashingWorld) -> None:
    tick(world, "allocation", FEBRUARY)


@workflow(
    "allocation",
    "allocation of missed months",
    subscribed("ada", plan="pro", notifications=[]),
    subscribed("bob", notifications=[]),
)
def _missed_months(world: CrashingWorld) -> None:
    """Of two users in one message: their entries share requests, month by month."""
    tick(world, "allocation", "2026-03-31T22:00:00Z")


@workflow(
    "allocation",
    "allocation beside a message that is handed back",
    subscribed("ada", "bob", notifications=[]),
)
def _handed_back(world: CrashingWorld) -> None:
    """It names nobody: it comes back, and in the end is a dead letter."""
    world.queue("allocations").append(Message("poison", '{"user_ids":[]}'))
    tick(world, "allocation", FEBRUARY)


@workflow(
    "allocation",
    "allocation beside a user who cannot be read",
    subscribed("ada", "bob", "cem", notifications=[]),
    unreadable("bob"),
)
def _beside_the_unreadable(world: CrashingWorld) -> None:
    """The message of all three comes back for one, and in the end is a dead letter."""
    tick(world, "allocation", FEBRUARY)


@workflow(
    "allocation",
    "allocation mended by the re-sweep alone",
    subscribed("ada", "bob", notifications=[]),
    parks=True,
)
def _re_sweep(world: CrashingWorld) -> None:
    """Nobody repeats a tick, or delivers a message again: a later tick finds what was left."""
    world.now = at("2026-01-31T23:15:00Z")
    for moment in (FEBRUARY, "2026-01-31T23:15:00Z", "2026-01-31T23:15:00Z"):
        world.once(partial(world.tick, "allocation", at(moment)))
        world.settle_now()


@workflow("allocation", "allocation run by an admin", subscribed("ada", "bob"))
def _allocation_run(world: CrashingWorld) -> None:
    world.now = at("2026-02-03T10:00:00Z")
    body = {"period": "2026-02", "zones": ["Europe/Paris", "America/New_York"]}
    world.ask("POST", "/api/credits/allocation-runs", ADMIN, body)


# --- Other scheduled work -------------------------------------------------------------------------


@workflow(
    "scheduled", "expiry of several users' batches", subscribed("ada", "bob"), allocated, granted
)
def _expiry(world: CrashingWorld) -> None:
    tick(world, "expiry", EXPIRY)


def granted_for_longer(world: CrashingWorld) -> None:
    """One that expires two days after those of the month."""
    by_hand(world, 40, "longer", expires_in_days=32)
    world.settle()


@workflow(
    "scheduled",
    "expiry of several batches of a user after days without ticks",
    subscribed("ada"),
    allocated,
    granted_for_longer,
)
def _late_expiry(world: CrashingWorld) -> None:
    tick(world, "expiry", "2026-03-05T23:00:00Z")


@workflow("scheduled", "reminders", subscribed("ada", "bob"), allocated)
def _reminders(world: CrashingWorld) -> None:
    tick(world, "expiry", REMINDER)


@workflow("scheduled", "completeness check", subscribed("ada", "bob"), allocated)
def _completeness(world: CrashingWorld) -> None:
    import app

    event = {"period": "2026-02", "zones": ["Europe/Paris", "Pacific/Kiritimati"]}
    world.answers.append(world.until_done(lambda: app.check_completeness(event, Context())))


@workflow(
    "scheduled",
    "completeness check of a zone that is divided",
    subscribed("ada", "bob", "cem", "dan", "eva", notifications=[]),
    allocated,
    milliseconds=5_000,
)
def _completeness_in_ranges(world: CrashingWorld) -> None:
    """Its only page is not over when its time is; the zone and its ranges may come twice."""
    import app

    event = {"period": "2026-02", "zones": ["Europe/Paris"]}
    world.answers.append(world.until_done(lambda: app.check_completeness(event, Context())))


@workflow(
    "scheduled",
    "completeness check of every zone that runs out of time",
    subscribed("ada", "bob", "cem", "dan", "eva", notifications=[]),
    allocated,
    milliseconds=5_000,
)
def _completeness_in_haste(world: CrashingWorld) -> None:
    import app

    event = {"period": "2026-02"}
    world.answers.append(world.until_done(lambda: app.check_completeness(event, Context())))


@workflow(
    "scheduled",
    "audit",
    subscribed("ada", "bob"),
    allocated,
    granted,
    subscribed("eva", timezone="America/New_York"),
)
def _audit(world: CrashingWorld) -> None:
    """Eva has no lines yet."""
    import app

    # The place where a sample begins is a matter of chance, and each run has the same calls.
    with patch("chalicelib.jobs.audits.secrets.token_hex", lambda _: "a place"):
        for event in (
            *({"user_id": "ada"}, {"user_id": "eva"}),
            *({"timezone": "Europe/Paris"}, {"sample": 5}),
        ):
            world.answers.append(world.until_done(partial(app.audit_ledgers, event, Context())))


@workflow(
    "scheduled",
    "anchors of what was written, and the audit of the day",
    subscribed("ada", "bob"),
    allocated,
    granted,
)
def _anchors(world: CrashingWorld) -> None:
    """Of what was changed by hand, nothing is kept: it is told of."""
    import app

    records = [
        {**record, "eventID": record["dynamodb"]["SequenceNumber"]}
        for record in world.stream
        if record["dynamodb"]["Keys"]["entry"]["S"].startswith("entry#")
    ]
    changed = {**records[0], "eventName": "MODIFY"}

    def watch() -> bool:
        app.watch_ledger({"Records": [*records, changed]}, Context())
        return True

    world.until_done(watch)
    world.now += timedelta(hours=3)
    event = {"detail-type": "Scheduled Event", "id": "e", "time": "2026-02-01T13:40:00Z"}
    for _ in range(2):
        world.answers.append(world.until_done(partial(app.audit_ledgers, event, Context())))


# --- Requests -------------------------------------------------------------------------------------


@workflow("requests", "use of all there is", subscribed("ada"), allocated)
def _use(world: CrashingWorld) -> None:
    """Asked again, it could no longer be granted: the answer must be the one that was lost."""
    use(world, 100, "key")


@workflow(
    "requests", "use of several batches, down to little", subscribed("ada"), allocated, granted
)
def _use_of_several(world: CrashingWorld) -> None:
    use(world, 170, "key")


@workflow("requests", "use of more than there is", subscribed("ada"), allocated)
def _refused(world: CrashingWorld) -> None:
    use(world, 101, "key")


@workflow("requests", "use by a user who never had credits", subscribed("ada"))
def _never(world: CrashingWorld) -> None:
    use(world, 1, "key")


@workflow("requests", "reversal of a whole usage", subscribed("ada"), allocated, granted, used)
def _reversal(world: CrashingWorld) -> None:
    reverse(world, 4, None, "key")


@workflow("requests", "two reversals of parts", subscribed("ada"), allocated, granted, used)
def _reversals(world: CrashingWorld) -> None:
    reverse(world, 4, 60, "key-1")
    reverse(world, 4, None, "key-2")


@workflow(
    "requests", "reversal of what has expired", subscribed("ada"), allocated, granted, used, expired
)
def _late_reversal(world: CrashingWorld) -> None:
    reverse(world, 4, 170, "key")


# --- Holds ----------------------------------------------------------------------------------------


def hold(world: CrashingWorld, amount: int, key: str, seconds: int = 3600) -> None:
    body = {"user_id": "ada", "amount": amount, "description": "Render"}
    world.ask("POST", "/api/credits/holds", SHOP, body | {"expires_in_seconds": seconds}, key)


def capture(world: CrashingWorld, number: int, amount: int, **more: object) -> None:
    path = f"/api/credits/holds/ada-{number}/capture"
    world.ask("POST", path, SHOP, {"amount": amount, **more})


def release(world: CrashingWorld, number: int) -> None:
    world.ask("POST", f"/api/credits/holds/ada-{number}/release", SHOP, {})


def held(world: CrashingWorld) -> None:
    """As entry 4: credits of all three batches."""
    hold(world, 160, "held")
    world.settle()


def held_for_longer(world: CrashingWorld) -> None:
    """As entry 2: for longer than its batch lives, of which it leaves 20."""
    world.now = at("2026-03-01T12:00:00Z")
    hold(world, 80, "held", 4 * 24 * 3600)
    world.settle()


def settled_at(time: str) -> Step:
    def step(world: CrashingWorld) -> None:
        world.now = at(time)
        world.settle()

    return step


@workflow("requests", "hold of credits of several batches", subscribed("ada"), allocated, granted)
def _hold(world: CrashingWorld) -> None:
    """Asked again, there would be too little for it."""
    hold(world, 160, "key")


@workflow("requests", "hold of more than there is", subscribed("ada"), allocated)
def _hold_too_much(world: CrashingWorld) -> None:
    hold(world, 101, "key")


@workflow("requests", "hold that outlives its batch", subscribed("ada"), allocated)
def _hold_for_longer(world: CrashingWorld) -> None:
    """Its zone is read, and it is swept for once it has lapsed."""
    world.now = at("2026-03-01T12:00:00Z")
    hold(world, 80, "key", 4 * 24 * 3600)


@workflow("requests", "capture of a part of a hold", subscribed("ada"), allocated, granted, held)
def _capture(world: CrashingWorld) -> None:
    """The rest can be used at once: asked again, the first answer comes, and not 410."""
    capture(world, 4, 120)
    use(world, 60, "rest")
    world.ask("GET", "/api/credits/holds", ADMIN, user_id="ada")


@workflow("requests", "capture beyond a hold", subscribed("ada"), allocated, granted, held)
def _capture_beyond(world: CrashingWorld) -> None:
    capture(world, 4, 175, beyond_hold=True)


@workflow("requests", "release of a hold", subscribed("ada"), allocated, granted, held)
def _release(world: CrashingWorld) -> None:
    release(world, 4)


@workflow("requests", "two ends of a hold", subscribed("ada"), allocated, granted, held)
def _two_ends(world: CrashingWorld) -> None:
    """The second is told how it ended; the first, asked again, that it is done."""
    capture(world, 4, 120)
    release(world, 4)
    capture(world, 4, 120)


@workflow(
    "requests",
    "capture of a part of a hold that has outlived its batch",
    subscribed("ada"),
    allocated,
    held_for_longer,
    expired,
    settled_at("2026-03-04T12:00:00Z"),
)
def _capture_of_the_dead(world: CrashingWorld) -> None:
    """What it frees is dead, and the next sweep books it out."""
    capture(world, 2, 50)
    tick(world, "expiry", "2026-03-04T23:00:00Z")


@workflow(
    "scheduled",
    "expiry of what a hold has kept, and let lapse",
    subscribed("ada"),
    allocated,
    held_for_longer,
)
def _expiry_beside_a_hold(world: CrashingWorld) -> None:
    for moment in (EXPIRY, "2026-03-05T23:00:00Z"):
        tick(world, "expiry", moment)
        world.settle()


@workflow("requests", "grant by hand", subscribed("ada"))
def _grant(world: CrashingWorld) -> None:
    by_hand(world, 50, "key", expires_in_days=10)


@workflow("requests", "grant by the Lambda function", subscribed("ada"))
def _grant_by_lambda(world: CrashingWorld) -> None:
    by_lambda(world, 50)


@workflow("requests", "claw-back by hand", subscribed("ada"), allocated, granted)
def _claw_back(world: CrashingWorld) -> None:
    by_hand(world, -120, "key")


@workflow("requests", "claw-back by the Lambda function", subscribed("ada"), allocated)
def _claw_back_by_lambda(world: CrashingWorld) -> None:
    by_lambda(world, -30)


@workflow("requests", "claw-back of what is left", subscribed("ada"), allocated, granted)
def _claw_back_what_is_left(world: CrashingWorld) -> None:
    by_hand(world, -1_000, "key", up_to_available=True)


@workflow("requests", "claw-back of what is left where nothing is", subscribed("ada"))
def _claw_back_nothing(world: CrashingWorld) -> None:
    by_hand(world, -1_000, "key", up_to_available=True)


@workflow("requests", "void of a batch", subscribed("ada"), allocated, granted)
def _void(world: CrashingWorld) -> None:
    wanted = on_request.Void("ada", 2, "Mistake", "ops", "infra", "key")

    def void() -> Json:
        entry = on_request.void_batch(world.services, wanted).entry
        return {"transaction": entry.transaction_id, "amount": entry.amount}

    world.answers.append(world.until_done(void))


@workflow("requests", "import of credits from elsewhere", subscribed("ada"))
def _carry_over(world: CrashingWorld) -> None:
    """The command is run again, and begins with its first row again."""

    def import_rows() -> list[int]:
        return [
            on_request.carry_over(
                world.services,
                on_request.CarryOver(
                    "ada",
                    amount,
                    at("2025-12-20T10:00:00Z"),
                    at("2026-02-20T23:00:00Z"),
                    "Carried over",
                    caller="infra",
                    key=str(amount),
                ),
            ).entry.number
            for amount in (70, 20)
        ]

    world.answers.append(world.until_done(import_rows))


@workflow("requests", "erasure of a person", subscribed("ada"), allocated, used_little)
def _erase(world: CrashingWorld) -> None:
    """The command is run again, and finds what it had not come to."""

    def erase() -> bool:
        world.services.subscriptions.remove("ada")
        list(world.services.edits.erase("ada"))
        list(world.services.ledger.erase("ada"))
        return bool(world.services.ledger.verify("ada"))

    world.until_done(erase)


@workflow("requests", "registration of a subscription")
def _put(world: CrashingWorld) -> None:
    world.ask("PUT", "/api/subscriptions/ada", SHOP, subscription())


@workflow("requests", "replacement of a subscription", subscribed("ada"))
def _put_again(world: CrashingWorld) -> None:
    body = subscription("pro", "America/New_York")
    world.ask("PUT", "/api/subscriptions/ada", SHOP, body)


@workflow("requests", "pause and return", subscribed("ada"))
def _patch(world: CrashingWorld) -> None:
    for status in ("paused", "active"):
        world.ask("PATCH", "/api/subscriptions/ada", SHOP, {"status": status})


@workflow("requests", "edit of one version of a subscription", subscribed("ada"))
def _patch_version(world: CrashingWorld) -> None:
    """Who is told that it was changed meanwhile looks who did it: it may have been oneself."""
    path, wanted = "/api/subscriptions/ada", {"plan": "pro"}

    def edit() -> bool:
        reply = world.call("PATCH", path, SHOP, wanted, {"If-Match": '"1"'})
        if reply.status == 412:
            reply = world.call("GET", path, SHOP)
        return reply.status == 200 and bool(reply.json["plan"] == "pro")

    world.until_done(edit)


@workflow("requests", "edit that makes a month due", subscribed("ada"))
def _patch_makes_due(world: CrashingWorld) -> None:
    """Who sees that the month is still overdue sends the edit again, and it is posted then."""

    def edit() -> bool:
        reply = world.call(
            "PATCH", "/api/subscriptions/ada", ADMIN, {"eligible_from": "2026-01-01"}
        )
        return reply.status == 200 and bool(reply.json["next_credit_allocation"] == "2026-02-01")

    world.until_done(edit)


@workflow(
    "requests", "an own amount that an admin sets and a backend may not raise", subscribed("ada")
)
def _own_amount(world: CrashingWorld) -> None:
    path = "/api/subscriptions/ada"
    world.ask("PATCH", path, ADMIN, {"allocation_amount": 200})
    world.ask("PATCH", path, SHOP, {"allocation_amount": 201})
    world.ask("PATCH", path, SHOP, {"allocation_amount": 199})


@workflow("requests", "end of mails by a link", subscribed("ada"))
def _unsubscribe(world: CrashingWorld) -> None:
    token = world.services.unsubscribe_links.token("ada", None)
    for method in ("GET", "POST"):
        world.ask(method, "/api/unsubscribe", {}, token=token)


@workflow("requests", "reading", subscribed("ada"), allocated, granted, used)
def _reading(world: CrashingWorld) -> None:
    world.ask("GET", "/api/credits/balance", ADA)
    world.ask("GET", "/api/credits/balance", ADA, at=FEBRUARY)
    world.ask("GET", "/api/credits/allocation-schedule", ADA)
    world.ask("GET", "/api/credits/history", ADA, type="usage")
    world.ask("GET", "/api/subscriptions/ada", ADMIN)
    world.ask("GET", "/api/subscriptions/ada/edits", ADMIN)
    for path in ("/api/plans", "/api/health", "/api/openapi.json"):
        world.ask("GET", path, ADA)
    body = {"period": "2026-02", "zones": ["Europe/Paris"], "dry_run": True}
    world.ask("POST", "/api/credits/allocation-runs", ADMIN, body)


@cache
def _issuer() -> tuple[str, Json]:
    """A token, and the keys to check it with."""
    key = ec.derive_private_key(42, ec.SECP256R1())
    now = int(time.time())
    claims = {"iss": "https://issuer.example.com/", "aud": "credits-api", "sub": "ada"}
    claims |= {"scope": "credits:read", "iat": now, "exp": now + 86_400}  # type: ignore[dict-item]
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "one"})
    public = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one"}
    return token, {"keys": [public]}


@workflow("requests", "check of a token")
def _token(world: CrashingWorld) -> None:
    token, world.aws.keys = _issuer()

    def check() -> Json | None:
        from chalicelib.api.issuer_keys import RETRY_SECONDS, KeysUnavailable

        try:
            return world.check_token(token)
        except KeysUnavailable:
            world.now += timedelta(seconds=RETRY_SECONDS)
            return None

    world.answers.append(world.until_done(check))


# --- Mails ----------------------------------------------------------------------------------------


def unheard(world: CrashingWorld) -> None:
    """Allocations of which the stream has not told yet."""
    world.now = at(FEBRUARY)
    world.tick("allocation", world.now)
    world.drain()


@workflow("mails", "mails of allocations", subscribed("ada", "bob", "cem", plan="pro"), unheard)
def _mails(world: CrashingWorld) -> None:
    """Nothing but what the stream sets off: one batch of three."""


def unheard_expirations(world: CrashingWorld) -> None:
    """The same of expirations, of which a user has two."""
    for instant in (EXPIRY, "2026-03-04T23:00:00Z"):
        world.now = at(instant)
        world.tick("expiry", world.now)
        world.drain()


@workflow(
    "mails",
    "mails of expirations",
    subscribed("ada"),
    allocated,
    granted_for_longer,
    unheard_expirations,
)
def _expiration_mails(world: CrashingWorld) -> None:
    """As above: each expiration is told in a mail of its own."""


@workflow("mails", "an address that bounces", subscribed("ada", "bob"))
def _bounce(world: CrashingWorld) -> None:
    import app

    def event(user_id: str) -> Json:
        message = {
            "eventType": "Bounce",
            "bounce": {
                "bounceType": "Permanent",
                "bouncedRecipients": [{"emailAddress": "user@example.com"}],
            },
            "mail": {"tags": {"user": [user_id.encode().hex()], "kind": ["allocation"]}},
        }
        return {"Sns": {"Subject": "", "Message": json.dumps(message), "MessageAttributes": {}}}

    def deliver() -> bool:
        app.mail_events({"Records": [event("ada"), event("bob")]}, Context())
        return True

    world.until_done(deliver)
