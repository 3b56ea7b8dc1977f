"""The turn of a month: who is due in it, where it is, what is shown of it, and what must hold."""

import io
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.batches import CreditBatch, Leg
from chalicelib.domain.calendar import Period, zone_names
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.holds import Hold
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.plans import AllocateOn, Plan, PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, SubscriptionStatus
from infra.deployment import packaging
from infra.local import turn
from infra.local.clock import Step
from infra.local.month import instants_of_start, is_due, latest_period, places
from infra.local.stacks import LocalStack
from infra.local.turn import EXPIRY_TURN_AFTER
from tests.registered import register

JULY = Period(2026, 7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"plan": "gone"}, False), ({"timezone": "Mars/Base"}, False)],
)
def test_each_user_is_due_or_not_and_an_unknown_plan_or_timezone_is_not_due(
    changes: dict[str, str], *, expected: bool
) -> None:
    catalogue = packaging.catalogue()
    values = {
        "user_id": "1",
        "email": "1@example.com",
        "timezone": "Europe/Paris",
        "plan": "business",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-04-15T00:00:00Z",
    }
    user = register(values, catalogue, parse_instant("now", "2026-04-15T00:00:00Z"))
    assert is_due(replace(user, **changes), catalogue, JULY) is expected  # type: ignore[arg-type]


def test_of_a_period_of_their_own_a_user_is_due_who_came_after_the_1st_and_before_it() -> None:
    own = Plan("own", "Own", 70, Days(30), lowest=True, allocate_on=AllocateOn.ANNIVERSARY)
    late = {"started_at": parse_instant("at", "2026-07-20T12:00:00Z")}
    ada = replace(user("1", "Europe/Paris"), plan="own", **late)  # type: ignore[arg-type]
    assert not is_due(ada, PlanCatalogue((own,)), JULY)
    assert is_due(ada, PlanCatalogue((own,)), JULY.next())
    early = {"started_at": parse_instant("at", "2025-01-31T12:00:00Z")}
    joined = {"eligible_from": parse_instant("at", "2026-07-10T00:00:00Z")}
    ben = replace(ada, **early, **joined)  # type: ignore[arg-type]
    assert is_due(ben, PlanCatalogue((own,)), JULY)


def test_the_expiry_turn_is_when_credits_of_the_lowest_plan_end() -> None:
    (lowest,) = [plan for plan in packaging.catalogue().plans if plan.lowest]
    assert lowest.credit_lifetime == Days(EXPIRY_TURN_AFTER)


def test_the_month_that_has_begun_last_is_the_one_of_the_first_zone() -> None:
    # It begins in Kiritimati, 14 hours ahead of Greenwich.
    for now, month in (("2026-06-30T09:59:59Z", 6), ("2026-06-30T10:00:00Z", 7)):
        assert latest_period(parse_instant("now", now)) == Period(2026, month)


def test_a_midnight_is_named_by_cities_those_with_most_users_first_and_each_once() -> None:
    newfoundland = {"America/St_Johns", "Canada/Newfoundland"}
    assert places(newfoundland, {}) == (["America/St_Johns"], 0)
    argentina = {"America/Buenos_Aires", "America/Argentina/Buenos_Aires", "America/Sao_Paulo"}
    assert places(argentina, {"America/Sao_Paulo": 2, "Brazil/East": 9}).zones == [
        "America/Sao_Paulo",
        "America/Argentina/Buenos_Aires",
    ]
    stations = {"Antarctica/McMurdo", "Pacific/Auckland", "NZ"}
    assert places(stations, {}).zones == ["Pacific/Auckland", "Antarctica/McMurdo"]
    many = {f"Europe/{letter}" for letter in "abcdefg"}
    assert places({"Etc/GMT+12", "Etc/GMT+11"}, {"Etc/GMT+12": 3}) == (["Etc/GMT+11"], 0)
    assert places(many, {"Europe/g": 1}) == (["Europe/g", "Europe/a", "Europe/b", "Europe/c"], 3)


def test_no_midnight_is_named_by_a_fixed_zone_where_there_is_a_city() -> None:
    """Etc/GMT-14 is 14 hours ahead of Greenwich: its name says the opposite."""
    starts = instants_of_start(JULY, zone_names())
    named = {at: places(zones, dict.fromkeys(zones, 1)).zones for at, zones in starts.items()}
    without_a_city = {at: zones for at, zones in named.items() if "Etc/GMT+12" in zones}
    assert named[min(named)] == ["Pacific/Kiritimati"]
    # No city is 12 hours behind Greenwich.
    assert [*without_a_city.items()] == [(max(named), ["Etc/GMT+12"])]
    others = [zone for at, zones in named.items() if at not in without_a_city for zone in zones]
    assert [zone for zone in others if "/" not in zone or zone.startswith("Etc/")] == []


# --- One turn, over ledgers of its own ------------------------------------------------------------

PARIS, TOKYO, CHATHAM = "Europe/Paris", "Asia/Tokyo", "Pacific/Chatham"
CATALOGUE = PlanCatalogue((Plan("first", "First", 100, Days(30), lowest=True),))
NOW = parse_instant("now", "2026-06-12T00:00:00Z")
MIDNIGHT = {zone: calendar.month_start(zone, JULY) for zone in (PARIS, TOKYO, CHATHAM)}
END = {zone: calendar.midnight(zone, date(2026, 7, 31)) for zone in (PARIS, TOKYO, CHATHAM)}
HOUR = timedelta(hours=1)


def user(user_id: str, timezone: str, **changes: object) -> Subscription:
    values = {
        "user_id": user_id,
        "email": None,
        "timezone": timezone,
        "plan": "first",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-06-01T00:00:00Z",
    }
    made = register(values, CATALOGUE, parse_instant("now", "2026-06-01T00:00:00Z"))
    return replace(made, **changes)  # type: ignore[arg-type]


def allocation(user_id: str, zone: str, amount: int = 100, **more: Any) -> Any:
    said: dict[str, Any] = {
        "user_id": user_id,
        "type": EntryType.ALLOCATION,
        "begins_period": True,
        "allocated_through": JULY,
        "amount": amount,
        "left_out": 0,
        "effective_at": MIDNIGHT[zone],
        "posted_at": MIDNIGHT[zone] + HOUR,
        "batches": (CreditBatch(1, amount, amount, MIDNIGHT[zone], END[zone]),),
        "holds": (),
    }
    return SimpleNamespace(**{**said, **more})


def expiration(user_id: str, zone: str, amount: int = -100, **more: Any) -> Any:
    end = {"type": EntryType.EXPIRATION, "effective_at": END[zone], "posted_at": END[zone] + HOUR}
    return allocation(user_id, zone, amount, **{**end, "batches": (), **more})


class Turned:
    """A turn over these users and ledgers, by a clock that takes these steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, zones: Collection[str] = MIDNIGHT) -> None:
        self.users = [user("1", PARIS), user("2", TOKYO), user("3", PARIS)]
        self.users.append(user("4", PARIS, status=SubscriptionStatus.PAUSED))
        self.ledgers: dict[str, list[Any]] = {
            "1": [allocation("1", PARIS), expiration("1", PARIS)],
            "2": [
                allocation("2", TOKYO, posted_at=MIDNIGHT[TOKYO]),
                expiration("2", TOKYO, posted_at=END[TOKYO]),
            ],
            "3": [allocation("3", PARIS, 70, left_out=30), expiration("3", PARIS, -70)],
            "4": [],
        }
        self.corrupt: set[str] = set()
        self.waiting = {"sweeps": 9, "sweeps-dlq": 0, "allocations-dlq": 0, "expiries-dlq": 0}
        self.steps: list[tuple[Step, float]] = []
        self.moved: list[tuple[datetime, Collection[str]]] = []
        self.screen = io.StringIO()
        self.bar: list[datetime] = []
        self.instant = NOW
        self._zones = zones
        self._patch = monkeypatch

    def _verify(self, user_id: str) -> None:
        if user_id in self.corrupt:
            raise LedgerCorrupt(user_id, 3, "the hash does not match")

    def _history(self, user_id: str, limit: int) -> list[Any]:
        assert limit == 1000
        return self.ledgers[user_id][::-1]

    def now(self) -> datetime:
        return self.instant

    def messages_in(self, queue: str) -> int:
        return self.waiting.get(queue, 0)

    def move(self, to: datetime, watch: Any, everywhere: Collection[str]) -> None:
        self.moved.append((to, everywhere))
        for step, took in self.steps:
            watch(step, took)

    @contextmanager
    def _bar(self, _console: Console, what: str, began: datetime, to: datetime) -> Iterator[Any]:
        assert (bool(what), began, to) == (True, NOW, self.moved[-1][0] if self.moved else to)
        yield self.bar.append

    def turning(self) -> turn.Turning:
        given = {each.user_id: each for each in self.users}
        ledger = SimpleNamespace(verify=self._verify, history=self._history)
        services: Any = SimpleNamespace(
            catalogue=CATALOGUE,
            ledger=ledger,
            now=self.now,
            subscriptions=SimpleNamespace(get_many=lambda ids: {name: given[name] for name in ids}),
        )
        for name, part in (
            ("Ticks", lambda _: self),
            ("LocalClock", lambda _: self),
            ("readable", lambda found: found),
            ("moving_bar", self._bar),
        ):
            self._patch.setattr(turn, name, part)
        console = Console(file=self.screen, width=120)
        return turn.Turning(cast("LocalStack", self), services, [*given], console, self._zones)

    def rows(self) -> list[list[str]]:
        return [
            [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
            for line in self.screen.getvalue().splitlines()
            if {"│", "┃"} & {*line}
        ]


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Turned:
    return Turned(monkeypatch)


def test_it_turns_the_next_month_that_has_not_begun_anywhere(turned: Turned) -> None:
    for now, month in (("2026-06-30T09:59:59Z", 7), ("2026-06-30T10:00:00Z", 8)):
        turned.instant = parse_instant("now", now)
        assert turned.turning().period == Period(2026, month)


def test_the_month_is_turned_in_all_zones_and_shown_by_instant(turned: Turned) -> None:
    none: frozenset[str] = frozenset()
    turned.steps = [
        (Step(MIDNIGHT[PARIS], frozenset({PARIS, "Europe/Rome"}), none, none), 12.34),
        (Step(MIDNIGHT[TOKYO], frozenset({TOKYO}), none, none), 1.0),
        (Step(MIDNIGHT[TOKYO] + HOUR, frozenset({TOKYO}), none, none), 99.0),
    ]
    turned.ledgers["1"] += [
        allocation("1", PARIS, 1000, allocated_through=JULY.next()),
        allocation("1", PARIS, 1000, begins_period=False),
    ]
    turned.turning().allocate()
    assert turned.moved == [(MIDNIGHT[PARIS], MIDNIGHT)], "until it has begun everywhere"
    assert turned.bar == [step.at for step, _ in turned.steps]
    shown = turned.screen.getvalue()
    assert "Credits allocated for 2026-07" in shown
    assert turned.rows() == [
        ["UTC instant", "zones", "users", "credits granted", "seconds late"],
        ["2026-06-30 15:00", "1", "1", "100", "1.0"],
        ["2026-06-30 22:00", "2", "2", "170", "12.3"],
        ["2 instants", "3", "3", "270", "12.3 at most"],
    ]


def test_a_turn_of_no_zone_in_particular_is_one_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = Turned(monkeypatch, zones=())
    turned.turning().allocate()
    assert turned.moved == [(max(instants_of_start(JULY, zone_names())), zone_names())]
    assert turned.rows()[-1] == ["0 instants", "0", "3", "270", "0.0 at most"]


def test_credits_expire_thirty_days_later_where_there_are_users(turned: Turned) -> None:
    none: frozenset[str] = frozenset()
    turned.steps = [
        (Step(END[PARIS], none, frozenset({PARIS}), none), 2.0),
        (Step(END[PARIS] - HOUR, none, frozenset({TOKYO}), none), 50.0),
        (Step(END[CHATHAM], none, frozenset({CHATHAM}), none), 70.0),
    ]
    turned.ledgers["1"].append(expiration("1", PARIS, -1000, effective_at=END[PARIS] - HOUR))
    turned.ledgers["3"][-1].amount = -1470
    turned.turning().expire()
    assert turned.moved == [(END[PARIS], ())], "the last of the users' zones, and no other month"
    assert "Credits expired on 2026-07-31" in turned.screen.getvalue()
    assert turned.rows()[1:] == [
        ["2026-07-30 22:00", "1", "2", "1,570", "2.0"],
        ["1 instants", "1", "3", "1,670", "2.0 at most"],
    ]


NAMES = (
    "every ledger verifies: numbers, hashes, balances, order of spending",
    "everybody who was due was allocated, once",
    "nobody who was not due was allocated",
    "no allocation before the local midnight of the 1st, and each of the right amount",
    "every batch past its expiry is booked out, and none before",
    "no message in a dead-letter queue",
)


def test_a_turn_that_is_as_it_must_be_holds_with_what_was_checked(turned: Turned) -> None:
    turned.ledgers["2"].append(allocation("2", TOKYO, allocated_through=JULY.next()))
    turned.ledgers["2"][-1].batches = (CreditBatch(1, 5, 5, MIDNIGHT[TOKYO], END[TOKYO] + HOUR),)
    turned.ledgers["3"][-1].batches = (CreditBatch(1, 5, 5, MIDNIGHT[PARIS], END[PARIS]),)
    turned.ledgers["3"][-1].holds = (Hold(2, (Leg(1, 5),), END[PARIS] + HOUR),)
    turned.ledgers["1"].append(allocation("1", PARIS, 5, begins_period=False, batches=()))
    assert turned.turning().check()
    assert turned.rows()[1:] == [
        [name, checked, "0", "holds"]
        for name, checked in zip(NAMES, ("8", "3", "1", "3", "2", "3"), strict=True)
    ]


def _twice(turned: Turned) -> None:
    turned.ledgers["1"].append(allocation("1", PARIS, batches=()))


def _never(turned: Turned) -> None:
    turned.ledgers["2"].clear()


def _paused(turned: Turned) -> None:
    turned.ledgers["4"] = [allocation("4", PARIS, batches=())]


def _changed(**changes: Any) -> Callable[[Turned], None]:
    def change(turned: Turned) -> None:
        vars(turned.ledgers["3"][0]).update(changes)

    return change


def _open(turned: Turned) -> None:
    turned.ledgers["1"].pop()


def _early(turned: Turned) -> None:
    turned.ledgers["2"][-1].posted_at = END[TOKYO] - timedelta(milliseconds=1)


def _dead(turned: Turned) -> None:
    turned.waiting["expiries-dlq"] = 1


def _corrupt(turned: Turned) -> None:
    turned.corrupt = {"2"}


@pytest.mark.parametrize(
    ("break_it", "broken"),
    [
        (_corrupt, {0: "ledger of user 2, entry 3: the hash", 1: "user 2: 0 times"}),
        (_twice, {1: "user 1: 2 times"}),
        (_never, {1: "user 2: 0 times"}),
        (_paused, {2: "user 4"}),
        (_changed(effective_at=MIDNIGHT[PARIS] + HOUR), {3: "user 3"}),
        (_changed(posted_at=MIDNIGHT[PARIS] - timedelta(milliseconds=1)), {3: "user 3"}),
        (_changed(amount=71), {3: "user 3"}),
        (_changed(left_out=0), {3: "user 3"}),
        (_open, {4: "user 1: a batch that expired by 2026-07-30T22:00:00Z is open"}),
        (_early, {4: "user 2: credits expired early"}),
        (_dead, {5: "expiries-dlq: 1"}),
    ],
)
def test_what_is_not_as_it_must_be_is_named(
    break_it: Callable[[Turned], None], broken: dict[int, str], turned: Turned
) -> None:
    break_it(turned)
    assert not turned.turning().check()
    rows = turned.rows()[1:]
    assert {place for place, row in enumerate(rows) if row[2:] != ["0", "holds"]} == set(broken)
    said = " ".join(turned.screen.getvalue().split())
    for place, words in broken.items():
        assert rows[place][2:] == ["1", "BROKEN"]
        assert f"{NAMES[place]}: {words}" in said


def test_five_examples_of_what_is_broken_are_shown(turned: Turned) -> None:
    turned.users = [user(str(number), PARIS) for number in range(12)]
    turned.ledgers = {each.user_id: [] for each in turned.users}
    assert not turned.turning().check()
    named = re.findall(r"once: user (\d+): 0 times", " ".join(turned.screen.getvalue().split()))
    assert named == ["0", "1", "10", "11", "2"]
    assert turned.rows()[2] == [NAMES[1], "12", "12", "BROKEN"]
    turned.corrupt = {"3", "4"}
    assert not turned.turning().check()
    assert [NAMES[0], "0", "2", "BROKEN"] in turned.rows()
