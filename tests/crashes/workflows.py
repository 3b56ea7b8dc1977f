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

from chalicelib.domain.errors import Contention
from chalicelib.operations import on_request
from chalicelib.settings import STILL_A_SHADOW
from chalicelib.store.ledger import LedgerStore
from infra.imports.importing import import_rows
from infra.imports.promotions import Promotion
from infra.imports.usages import USAGES
from tests.crashes.world import CrashingWorld, Json
from tests.simulation.aws import Message
from tests.simulation.reference import SHIPPED
from tests.simulation.world import SUBSCRIBED, Context, at, stream_records, taking_turns

ADMIN = {"caller": "admin", "user_id": "", "scopes": "credits:admin"}
SHOP = {"caller": "shop", "user_id": "", "scopes": "credits:backend"}
TILL = {"caller": "till", "user_id": "", "scopes": "credits:billing"}
HOOK = {"caller": "hook", "user_id": "", "scopes": "credits:billing"}
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


def add(group: str, name: str, run: Step, *before: Step, **more: Any) -> None:
    WORKFLOWS[name] = Workflow(group, name, before, run, **more)


def workflow(group: str, name: str, *before: Step, **more: Any) -> Callable[[Step], Step]:
    """Makes a workflow of the function that runs it."""

    def enter(run: Step) -> Step:
        add(group, name, run, *before, **more)
        return run

    return enter


# --- What was before ------------------------------------------------------------------------------


def subscribed(*users: str, **more: Any) -> Step:
    def step(world: CrashingWorld) -> None:
        for user_id in users:
            world.ask("PUT", f"/api/subscriptions/{user_id}", SHOP, subscription(**more))

    return step


def subscription(**more: object) -> dict[str, object]:
    return {**SUBSCRIBED, **more}


def tick(world: CrashingWorld, kind: str, time: str) -> None:
    """EventBridge's tick of a moment. Lambda repeats an invocation that failed."""
    world.now = max(world.now, at(time))
    world.until_done(lambda: world.tick(kind, at(time)), lambda answer: answer["success"])


def settled(step: Callable[..., None], *given: Any, **more: Any) -> Step:
    """What comes to its end before anything else happens."""

    def settle(world: CrashingWorld) -> None:
        step(world, *given, **more)
        world.settle()

    return settle


allocated = settled(tick, "allocation", FEBRUARY)
expired = settled(tick, "expiry", EXPIRY)


def unreadable(user_id: str) -> Step:
    """A subscription of a release that was rolled back: this one does not know its status."""

    def step(world: CrashingWorld) -> None:
        items = world.table("subscriptions").items
        for key, item in [*items.items()]:
            if item["user_id"]["S"] == user_id:
                items[key] = {**item, "status": {"S": "frozen"}}

    return step


# --- What is asked for ----------------------------------------------------------------------------


def by_hand(world: CrashingWorld, amount: int, key: str, **more: object) -> None:
    body = {"user_id": "ada", "amount": amount, "description": "Goodwill", **more}
    world.ask("POST", "/api/credits/allocate", ADMIN, body, key)


def by_lambda(world: CrashingWorld, amount: int) -> None:
    event = {"user_id": "ada", "amount": amount, "description": "Goodwill", "actor": "admin"}
    event["idempotency_key"] = "key"
    world.answers.append(world.until_done(lambda: world.manual_allocate(event)))


def use(world: CrashingWorld, amount: int, key: str) -> None:
    body = {"user_id": "ada", "amount": amount, "description": "Report"}
    world.ask("POST", "/api/credits/use", SHOP, body, key)


def reverse(world: CrashingWorld, number: int, amount: int | None, key: str) -> None:
    body: Json = {"user_id": "ada", "transaction_id": f"ada-{number}", "description": "Oops"}
    body |= {} if amount is None else {"amount": amount}
    world.ask("POST", "/api/credits/reverse", SHOP, body, key)


def granted(world: CrashingWorld) -> None:
    """Two batches more, one of which expires."""
    by_hand(world, 50, "first")
    by_hand(world, 30, "second", expires_in_days=60)
    world.settle()


def used_little(world: CrashingWorld) -> None:
    for key in ("one", "two"):
        use(world, 5, key)
    world.settle()


used = settled(use, 170, "used")
granted_for_longer = settled(by_hand, 40, "longer", expires_in_days=32)
"""It expires two days after those of the month."""

ADA_ONLY = (subscribed("ada"), allocated)
BOTH = (subscribed("ada", "bob"), allocated)
FIVE = ("ada", "bob", "cem", "dan", "eva")


# --- Allocation -----------------------------------------------------------------------------------


in_february = partial(tick, kind="allocation", time=FEBRUARY)

add("allocation", "allocation to one user", in_february, subscribed("ada"))
add(
    "allocation",
    "allocation to users on several pages",
    in_february,
    subscribed(*FIVE[:4], notifications=[]),
    subscribed(FIVE[4], plan="pro", notifications=[]),
)
add(
    "allocation",
    "allocation by sweeps that run out of time",
    in_february,
    subscribed(*FIVE, plan="pro", notifications=[]),
    milliseconds=5_000,
)
# Of two users in one message: their entries share requests, month by month.
add(
    "allocation",
    "allocation of missed months",
    partial(tick, kind="allocation", time="2026-03-31T22:00:00Z"),
    subscribed("ada", plan="pro", notifications=[]),
    subscribed("bob", notifications=[]),
)
# The message of all three comes back for one, and in the end is a dead letter.
add(
    "allocation",
    "allocation beside a user who cannot be read",
    in_february,
    subscribed("ada", "bob", "cem", notifications=[]),
    unreadable("bob"),
)


@workflow(
    "allocation",
    "allocation beside a message that is handed back",
    subscribed("ada", "bob", notifications=[]),
)
def _handed_back(world: CrashingWorld) -> None:
    """It names nobody: it comes back, and in the end is a dead letter."""
    world.queue("allocations").append(Message("poison", '{"user_ids":[]}'))
    in_february(world)


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


def on_anniversaries(world: CrashingWorld) -> None:
    """Months of all plans begin on anniversaries, and their credits live until the next."""
    plans = {
        name: {
            **{key: value for key, value in plan.items() if key != "credit_lifetime_days"},
            "allocate_on": "anniversary",
            "billing_intervals": ["yearly", "monthly"],
            "credit_lifetime_months": 1,
        }
        for name, plan in SHIPPED.items()
    }
    world.deploy(plans)


# Who started on the 31st, and on the 28th: both months begin at the end of February.
add(
    "allocation",
    "anniversaries at the end of a short month",
    partial(tick, kind="allocation", time="2026-02-27T23:00:00Z"),
    on_anniversaries,
    subscribed(*FIVE[:3], started_at="2025-01-31T12:00:00Z", notifications=[]),
    subscribed(FIVE[3], started_at="2025-01-28T12:00:00Z", billing_interval="monthly"),
)


def welcoming(world: CrashingWorld) -> None:
    """New subscribers of the pro plan are given the running month; of whatever fits under a cap."""
    pro = {**SHIPPED["pro"], "on_signup": "full", "balance_cap": 700}
    world.deploy({**SHIPPED, "pro": pro})


NEW = {"plan": "pro", "started_at": "2026-01-15T11:00:00Z"}


def lost_post(world: CrashingWorld) -> None:
    """Ada signs up, and her first credits cannot be posted."""
    lost = patch.object(LedgerStore, "post", side_effect=Contention("too busy"))
    with lost:
        world.ask("PUT", "/api/subscriptions/ada", SHOP, subscription(**NEW))


@workflow("allocation", "sign-up that is granted the running month", welcoming)
def _sign_up(world: CrashingWorld) -> None:
    """Who sees that the month is still overdue registers again, and it is posted then."""

    def register() -> bool:
        reply = world.call("PUT", "/api/subscriptions/ada", SHOP, subscription(**NEW))
        is_there = reply.status in (200, 201)
        return is_there and bool(reply.json["next_credit_allocation"] == "2026-02-01")

    world.until_done(register)


add(
    "allocation",
    "first credits that were lost at the sign-up, and a month that is capped",
    in_february,
    welcoming,
    lost_post,
)


def topping_up(world: CrashingWorld) -> None:
    """A user who moves up to the pro plan is given the difference at once."""
    world.deploy({**SHIPPED, "pro": {**SHIPPED["pro"], "on_plan_change": "difference"}})


def lost_step(world: CrashingWorld) -> None:
    """Ada moves up, and what that brings cannot be posted."""
    world.now = at("2026-02-10T12:00:00Z")
    with patch.object(LedgerStore, "post", side_effect=Contention("too busy")):
        world.ask("PATCH", "/api/subscriptions/ada", SHOP, {"plan": "pro"})


@workflow("allocation", "step up within a month", *ADA_ONLY, topping_up)
def _step_up(world: CrashingWorld) -> None:
    """Who sees that nothing has come sends the edit again, and it is posted then."""
    world.now = at("2026-02-10T12:00:00Z")

    def edit() -> bool:
        reply = world.call("PATCH", "/api/subscriptions/ada", SHOP, {"plan": "pro"})
        history = world.call("GET", "/api/credits/history", SHOP, query={"user_id": "ada"})
        is_there = reply.status == 200 and history.status == 200
        return is_there and len(history.json["items"]) == 2

    world.until_done(edit)


add(
    "allocation",
    "what a step up brings that was lost, and the month after it",
    partial(tick, kind="allocation", time="2026-02-28T23:00:00Z"),
    *ADA_ONLY,
    topping_up,
    lost_step,
)


@workflow("allocation", "allocation run by an admin", subscribed("ada", "bob"))
def _allocation_run(world: CrashingWorld) -> None:
    world.now = at("2026-02-03T10:00:00Z")
    body = {"period": "2026-02", "zones": ["Europe/Paris", "America/New_York"]}
    world.ask("POST", "/api/credits/allocation-runs", ADMIN, body)


# --- Other scheduled work -------------------------------------------------------------------------


def counted(world: CrashingWorld, **event: object) -> None:
    import app

    asked = {"period": "2026-02", **event}
    world.answers.append(world.until_done(lambda: app.check_completeness(asked, Context())))


IN_HASTE = {"milliseconds": 5_000}

add(
    "scheduled",
    "expiry of several users' batches",
    partial(tick, kind="expiry", time=EXPIRY),
    *(*BOTH, granted),
)
add(
    "scheduled",
    "expiry of several batches of a user after days without ticks",
    partial(tick, kind="expiry", time="2026-03-05T23:00:00Z"),
    *(*ADA_ONLY, granted_for_longer),
)
add("scheduled", "reminders", partial(tick, kind="expiry", time=REMINDER), *BOTH)
add(
    "scheduled",
    "completeness check",
    partial(counted, zones=["Europe/Paris", "Pacific/Kiritimati"]),
    *BOTH,
)
# Its only page is not over when its time is; the zone and its ranges may come twice.
add(
    "scheduled",
    "completeness check of a zone that is divided",
    partial(counted, zones=["Europe/Paris"]),
    *(subscribed(*FIVE, notifications=[]), allocated),
    **IN_HASTE,
)
add(
    "scheduled",
    "completeness check of every zone that runs out of time",
    counted,
    *(subscribed(*FIVE, notifications=[]), allocated),
    **IN_HASTE,
)


@workflow(
    "scheduled",
    "audit",
    *(*BOTH, granted),
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
    *(*BOTH, granted),
)
def _anchors(world: CrashingWorld) -> None:
    """Of what was changed by hand, nothing is kept: it is told of."""
    import app

    records = stream_records(world.stream)
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


def reversed_in_two_parts(world: CrashingWorld) -> None:
    reverse(world, 4, 60, "key-1")
    reverse(world, 4, None, "key-2")


all_there_is = partial(by_hand, amount=-1_000, key="key", up_to_available=True)

for _name, _run, _before in (
    # Asked again, it could no longer be granted: the answer must be the one that was lost.
    ("use of all there is", partial(use, amount=100, key="key"), ADA_ONLY),
    (
        "use of several batches, down to little",
        partial(use, amount=170, key="key"),
        (*ADA_ONLY, granted),
    ),
    ("use of more than there is", partial(use, amount=101, key="key"), ADA_ONLY),
    (
        "use by a user who never had credits",
        partial(use, amount=1, key="key"),
        (subscribed("ada"),),
    ),
    (
        "reversal of a whole usage",
        partial(reverse, number=4, amount=None, key="key"),
        (*ADA_ONLY, granted, used),
    ),
    ("two reversals of parts", reversed_in_two_parts, (*ADA_ONLY, granted, used)),
    (
        "reversal of what has expired",
        partial(reverse, number=4, amount=170, key="key"),
        (*ADA_ONLY, granted, used, expired),
    ),
    (
        "grant by hand",
        partial(by_hand, amount=50, key="key", expires_in_days=10),
        (subscribed("ada"),),
    ),
    ("grant by the Lambda function", partial(by_lambda, amount=50), (subscribed("ada"),)),
    ("claw-back by hand", partial(by_hand, amount=-120, key="key"), (*ADA_ONLY, granted)),
    ("claw-back by the Lambda function", partial(by_lambda, amount=-30), ADA_ONLY),
    ("claw-back of what is left", all_there_is, (*ADA_ONLY, granted)),
    ("claw-back of what is left where nothing is", all_there_is, (subscribed("ada"),)),
):
    add("requests", _name, _run, *_before)

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


def captured_in_part(world: CrashingWorld) -> None:
    """The rest can be used at once: asked again, the first answer comes, and not 410."""
    capture(world, 4, 120)
    use(world, 60, "rest")
    world.ask("GET", "/api/credits/holds", ADMIN, user_id="ada")


def ended_twice(world: CrashingWorld) -> None:
    """The second is told how it ended; the first, asked again, that it is done."""
    capture(world, 4, 120)
    release(world, 4)
    capture(world, 4, 120)


def held_into_its_batchs_death(world: CrashingWorld) -> None:
    """Its zone is read, and it is swept for once it has lapsed."""
    world.now = at("2026-03-01T12:00:00Z")
    hold(world, 80, "key", 4 * 24 * 3600)


def captured_of_the_dead(world: CrashingWorld) -> None:
    """What it frees is dead, and the next sweep books it out."""
    capture(world, 2, 50)
    tick(world, "expiry", "2026-03-04T23:00:00Z")


def use_many(world: CrashingWorld, *keys: str) -> None:
    items = [{"key": key, "amount": 30, "description": "Lead"} for key in keys]
    world.ask("POST", "/api/credits/use-many", SHOP, {"user_id": "ada", "items": items})


def used_many_and_again(world: CrashingWorld) -> None:
    """Of what is asked for again nothing is charged again, by whichever route."""
    use_many(world, "lead-1", "lead-2")
    use_many(world, "lead-2", "lead-3")
    world.ask("GET", "/api/credits/transactions/ada-2", ADMIN)


for _name, _run, _before in (
    # Asked again, there would be too little for it.
    (
        "hold of credits of several batches",
        partial(hold, amount=160, key="key"),
        (*ADA_ONLY, granted),
    ),
    ("hold of more than there is", partial(hold, amount=101, key="key"), ADA_ONLY),
    ("hold that outlives its batch", held_into_its_batchs_death, ADA_ONLY),
    ("capture of a part of a hold", captured_in_part, (*ADA_ONLY, granted, held)),
    (
        "capture beyond a hold",
        partial(capture, number=4, amount=175, beyond_hold=True),
        (*ADA_ONLY, granted, held),
    ),
    ("release of a hold", partial(release, number=4), (*ADA_ONLY, granted, held)),
    ("two ends of a hold", ended_twice, (*ADA_ONLY, granted, held)),
    (
        "capture of a part of a hold that has outlived its batch",
        captured_of_the_dead,
        (*ADA_ONLY, held_for_longer, expired, settled_at("2026-03-04T12:00:00Z")),
    ),
    ("several usages at once, some of them again", used_many_and_again, ADA_ONLY),
):
    add("requests", _name, _run, *_before)


@workflow("scheduled", "expiry of what a hold has kept, and let lapse", *ADA_ONLY, held_for_longer)
def _expiry_beside_a_hold(world: CrashingWorld) -> None:
    for moment in (EXPIRY, "2026-03-05T23:00:00Z"):
        tick(world, "expiry", moment)
        world.settle()


# --- Payments -------------------------------------------------------------------------------------


def buy(world: CrashingWorld, payment: str, caller: Json, amount: int = 60) -> None:
    body: Json = {"user_id": "ada", "amount": amount, "payment_id": payment}
    body |= {"price": {"amount": 990, "currency": "EUR"}, "expires_in_days": 40}
    world.ask("POST", "/api/credits/purchases", caller, body)


def refund(world: CrashingWorld, in_all: int, caller: Json = TILL, **more: object) -> None:
    body = {"payment_id": "pi_1", "amount": in_all, "description": "Asked for it", **more}
    world.ask("POST", "/api/credits/refunds", caller, body)


def bought(world: CrashingWorld) -> None:
    """As entry 1; 45 of it are used, so that 15 are left."""
    buy(world, "pi_1", TILL)
    use(world, 45, "used")
    world.settle()


def bought_by_two_routes(world: CrashingWorld) -> None:
    """The webhook comes, and the page that the user returns to; then another payment."""
    for caller in (HOOK, TILL):
        buy(world, "pi_1", caller)
    buy(world, "pi_2", TILL)
    buy(world, "pi_2", HOOK, amount=61)


def refunded_in_steps(world: CrashingWorld) -> None:
    """Each report comes by two routes; one comes late."""
    for in_all, hour in ((10, 8), (60, 10)):
        for caller in (HOOK, TILL):
            refund(world, in_all, caller, observed_at=f"2026-01-15T{hour:02}:00:00Z")
    refund(world, 20, observed_at="2026-01-15T09:00:00Z")


def disputed_and_won(world: CrashingWorld) -> None:
    """Asked again, each is told what it was told first; what came back can be used."""
    refund(world, 60)
    refund(world, 0)
    use(world, 15, "rest")


for _name, _run, _before in (
    ("purchase by two routes", bought_by_two_routes, (subscribed("ada"),)),
    ("refund in steps", refunded_in_steps, (subscribed("ada"), bought)),
    ("refund of what is spent", partial(refund, in_all=60), (*ADA_ONLY, bought, used)),
    ("refund of more than was bought", partial(refund, in_all=61), (subscribed("ada"), bought)),
    ("a dispute that is won", disputed_and_won, (subscribed("ada"), bought)),
    (
        "a dispute that is won when the credits have expired",
        partial(refund, in_all=0),
        (subscribed("ada"), bought, partial(refund, in_all=60), settled_at("2026-03-02T12:00:00Z")),
    ),
):
    add("requests", _name, _run, *_before)


@workflow("requests", "void of a batch", subscribed("ada"), allocated, granted)
def _void(world: CrashingWorld) -> None:
    body = {"description": "Mistake"}
    world.ask("POST", "/api/credits/batches/ada-2/void", ADMIN, body, "key")


@workflow("requests", "import of credits from elsewhere", subscribed("ada"))
def _carry_over(world: CrashingWorld) -> None:
    """The command is run again, and begins with its first row again."""

    def import_rows() -> list[int]:
        dates = at("2025-12-20T10:00:00Z"), at("2026-02-20T23:00:00Z")
        rows = [
            on_request.CarryOver("ada", amount, *dates, "Carried over", "infra", str(amount))
            for amount in (70, 20)
        ]
        return [on_request.carry_over(world.services, row).entry.number for row in rows]

    world.answers.append(world.until_done(import_rows))


@workflow("requests", "promotion from a file", subscribed("ada"), subscribed("bob"))
def _promotion(world: CrashingWorld) -> None:
    """The command is run again, and finds who has been granted it."""
    text = (
        "user_id,amount,description,expires_in_days,notify\n"
        "ada,50,Thanks,30,true\nbob,20,Thanks,never,false\n"
    )

    def grant() -> bool:
        services = world.services
        alone = Promotion({}, "admin").file.check_alone(text, services.catalogue, world.now)
        file = Promotion.of(alone.good, "admin").file
        checked = file.check(services, text)
        done = import_rows(file, services, checked.good)
        return not (checked.problems or done.failures)

    with taking_turns():
        world.until_done(grant)


@workflow("requests", "usages from the file of an old system", *BOTH)
def _usages(world: CrashingWorld) -> None:
    """The command is run again, and finds what has been spent; one row is never covered."""
    world.now = at("2026-02-10T12:00:00Z")
    text = (
        "reference,user_id,at,kind,amount\n"
        "u-2,ada,2026-02-04T10:00:00Z,usage,-60\nu-1,ada,2026-02-03T10:00:00Z,usage,-30\n"
        "a-1,ada,2026-01-31T23:00:00Z,allocation,100\nu-3,bob,2026-02-04T10:00:00Z,usage,-101\n"
        "u-4,bob,2026-02-05T10:00:00Z,usage,-20\n"
    )

    def spend() -> bool:
        checked = USAGES.check(world.services, text)
        done = import_rows(USAGES, world.services, checked.good)
        return not (checked.problems or done.failures)

    with taking_turns():
        world.until_done(spend)


@workflow("requests", "erasure of a person", subscribed("ada"), allocated, used_little)
def _erase(world: CrashingWorld) -> None:
    """The command is run again, and finds what it had not come to."""

    def erase() -> bool:
        world.services.subscriptions.remove("ada")
        list(world.services.edits.erase("ada"))
        list(world.services.ledger.erase("ada"))
        return bool(world.services.ledger.verify("ada"))

    world.until_done(erase)


add("requests", "registration of a subscription", subscribed("ada"))
add(
    "requests",
    "replacement of a subscription",
    subscribed("ada", plan="pro", timezone="America/New_York"),
    subscribed("ada"),
)


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
        since = {"eligible_from": "2026-01-01"}
        reply = world.call("PATCH", "/api/subscriptions/ada", ADMIN, since)
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
    world.ask("GET", "/api/credits/explain", ADA, at=FEBRUARY, amount="50")
    world.ask("GET", "/api/credits/forecast", ADA)
    world.ask("GET", "/api/credits/statement", ADA, limit="2")
    world.ask("GET", "/api/subscriptions/ada", ADMIN)
    world.ask("GET", "/api/subscriptions/ada/edits", ADMIN)
    for path in ("/api/plans", "/api/health", "/api/openapi.json"):
        world.ask("GET", path, ADA)
    body = {"period": "2026-02", "zones": ["Europe/Paris"], "dry_run": True}
    world.ask("POST", "/api/credits/allocation-runs", ADMIN, body)


def month_counted(world: CrashingWorld) -> None:
    """A month was counted, and nobody was due."""
    report = '{"by_zone": {}, "counted_at": "2026-02-02T13:30:00Z"}'
    world.services.reports.put("completeness/2026-02/newest.json", report)


@workflow(
    *("requests", "what those who answer users look at"),
    *(subscribed("ada"), allocated, used, month_counted),
)
def _looking(world: CrashingWorld) -> None:
    """What is not answered at once, or only in part, is looked for again."""
    for path, query in (
        ("/api/subscriptions", {"email": "ada@example.com"}),
        ("/api/subscriptions", {"plan": "starter"}),
        ("/api/subscriptions/ada/emails", {}),
        ("/api/credits/transactions/ada-1/email", {}),
        ("/api/credits/transactions/ada-1/events", {}),
        ("/api/months/2026-02", {}),
        ("/api/operations", {}),
    ):
        world.until_done(
            partial(world.call, "GET", path, ADMIN, query=query),
            lambda reply: reply.status == 200,
        )


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


# --- Emails ---------------------------------------------------------------------------------------


def unheard(world: CrashingWorld, kind: str, *moments: str) -> None:
    """Entries of which the stream has not told yet."""
    for moment in moments:
        world.now = at(moment)
        world.tick(kind, world.now)
        world.drain()


def nothing(_: CrashingWorld) -> None:
    """Nothing but what the stream sets off: one batch, and an email for each entry in it."""


add(
    "mails",
    "mails of allocations",
    nothing,
    subscribed("ada", "bob", "cem", plan="pro"),
    lambda world: unheard(world, "allocation", FEBRUARY),
)
add(
    "mails",
    "mails of expirations",
    nothing,
    *(*ADA_ONLY, granted_for_longer),
    lambda world: unheard(world, "expiry", EXPIRY, "2026-03-04T23:00:00Z"),
)


@workflow("mails", "an address that bounces", subscribed("ada", "bob"))
def _bounce(world: CrashingWorld) -> None:
    import app

    def event(user_id: str) -> Json:
        bounced = [{"emailAddress": "user@example.com"}]
        message = {
            "eventType": "Bounce",
            "bounce": {"bounceType": "Permanent", "bouncedRecipients": bounced},
            "mail": {"tags": {"user": [user_id.encode().hex()], "kind": ["allocation"]}},
        }
        return {"Sns": {"Subject": "", "Message": json.dumps(message), "MessageAttributes": {}}}

    def deliver() -> bool:
        app.mail_events({"Records": [event("ada"), event("bob")]}, Context())
        return True

    world.until_done(deliver)


# --- Events ---------------------------------------------------------------------------------------


def sends_events(world: CrashingWorld) -> None:
    """On a stage where a balance below 20 is low."""
    world.low_balance = 20
    world.restart()


def runs_low(world: CrashingWorld) -> None:
    """Two entries of which the stream has not told yet; each crosses."""
    grant = {"user_id": "ada", "amount": 25, "reason": "Goodwill", "notify": False}
    world.ask("POST", "/api/credits/allocate", ADMIN, grant, "k1")
    use = {"user_id": "ada", "amount": 10, "description": "Report"}
    world.ask("POST", "/api/credits/use", SHOP, use, "k2")


add("events", "events of a user who runs low", nothing, sends_events, subscribed("ada"), runs_low)


def is_a_shadow(world: CrashingWorld) -> None:
    world.shadow_until = STILL_A_SHADOW
    world.restart()


@workflow(
    "events",
    "the switch of a shadow, of whose entries the stream has not told yet",
    *(sends_events, is_a_shadow, subscribed("ada"), runs_low),
)
def _switch(world: CrashingWorld) -> None:
    """Of what is posted from the switch on, users and programs are told; of nothing before."""
    world.now += timedelta(minutes=1)
    world.shadow_until = world.now
    world.restart()
    by_hand(world, 25, "key")
    world.settle()
    assert {json.loads(event["Detail"])["number"] for event in world.aws.state.events} == {3}
    assert len(world.aws.state.mails) <= 1
