"""What happens in the made-up shop, when: a clock, chance, and the events that Stripe sends."""

import calendar
import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple, TypeVar

from tests.stripe import payloads
from tests.stripe.payloads import Json

Drawn = TypeVar("Drawn")
Act = Callable[[], None]


class Price(NamedTuple):
    """What a price stands for: a plan and how often it is billed, or an amount of credits."""

    amount: int
    """Cents."""
    plan: str | None = None
    interval: str | None = None
    """``monthly`` or ``yearly``."""
    credits: int | None = None
    currency: str = payloads.CURRENCY

    @property
    def recurs_every(self) -> str | None:
        """Stripe's word for it."""
        return {"monthly": "month", "yearly": "year", None: None}[self.interval]


PRICES: dict[str, Price] = {
    "price_starter_monthly": Price(900, "starter", "monthly"),
    "price_starter_yearly": Price(9000, "starter", "yearly"),
    "price_pro_monthly": Price(2900, "pro", "monthly"),
    "price_pro_yearly": Price(29000, "pro", "yearly"),
    "price_business_monthly": Price(9900, "business", "monthly"),
    "price_business_yearly": Price(99000, "business", "yearly"),
    "price_pack_30": Price(499, credits=30),
    "price_pack_500": Price(4900, credits=500),
    "price_pack_2000": Price(17900, credits=2000),
}
# What the shop sells besides, and bills by hand: it has nothing to do with credits.
HELP = "price_help"
PLANS = tuple(name for name, price in PRICES.items() if price.plan)
PACKS = tuple(name for name, price in PRICES.items() if price.credits)


class Stage:
    """Time that only goes on, chance that is always the same, and what was sent so far."""

    def __init__(self, seed: int, version: str, start: datetime, end: datetime) -> None:
        self.random = random.Random(seed)
        # Of their own, so that one more event in a version leaves everything else as it is.
        self._ids = random.Random(f"{seed} ids")
        self._event_ids = random.Random(f"{seed} events")
        self.version = version
        self.start = start
        self.now = start
        self.end = end
        self.events: list[Json] = []
        self.stories: Counter[str] = Counter()
        self._due: list[tuple[datetime, int, Act]] = []
        self._order = count()

    def new_id(self, prefix: str) -> str:
        """An id that nothing else has."""
        return f"{prefix}_{self._ids.getrandbits(80):020x}"

    def at(self, moment: datetime, act: Act) -> None:
        """Have something happen then."""
        heapq.heappush(self._due, (moment, next(self._order), act))

    def later(self, shortest: timedelta, longest: timedelta, act: Act) -> datetime:
        """Have something happen after a while; the answer says when."""
        seconds = self.random.randint(int(shortest.total_seconds()), int(longest.total_seconds()))
        moment = self.now + timedelta(seconds=seconds)
        self.at(moment, act)
        return moment

    def run(self) -> None:
        """Let everything happen that is due before the end."""
        while self._due and self._due[0][0] < self.end:
            moment, _, act = heapq.heappop(self._due)
            self.now = max(self.now, moment)
            act()

    def a_moment_passes(self, seconds: int = 2) -> None:
        """Let no time pass, or a few seconds."""
        self.now += timedelta(seconds=self.random.randint(0, seconds))

    def chance(self, probability: float) -> bool:
        """Whether something with that probability happens."""
        return self.random.random() < probability

    def one_of(self, choices: Sequence[Drawn]) -> Drawn:
        """Any of them."""
        return self.random.choice(choices)

    def send(self, kind: str, about: Json, previous: Json | None = None) -> None:
        """Send an event."""
        sent = payloads.event(
            self.version,
            kind,
            about,
            id=f"evt_{self._event_ids.getrandbits(80):020x}",
            created=self.now,
            previous=previous,
        )
        self.events.append(sent)

    def send_in_any_order(self, *sent: tuple[str, Json] | tuple[str, Json, Json]) -> None:
        """Send what Stripe promises no order of, within moments."""
        for arguments in self.random.sample(sent, len(sent)):
            self.send(*arguments)
            self.a_moment_passes(1)

    def price(self, name: str) -> Json:
        """The object of a price."""
        price = PRICES.get(name, Price(12000))
        return payloads.price(
            self.version,
            id=name,
            created=self.start - timedelta(days=90),
            unit_amount=price.amount,
            interval=price.recurs_every,
        )


def changed(before: Json, after: Json) -> Json:
    """What of an object was otherwise before, as events say it: of lists, what was in them."""
    previous = {name: value for name, value in before.items() if value != after[name]}
    if "items" in previous:
        previous["items"] = {"data": previous["items"]["data"]}
    return previous


def months_after(moment: datetime, months: int) -> datetime:
    """The same day of a later month, or its last one."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))
