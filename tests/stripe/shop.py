"""A made-up shop on Stripe: a year of its events, and what a credit system should make of them.

What is expected follows from the books of the shop (see people.py), never from the events.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from tests.stripe.payloads import Json
from tests.stripe.people import KnownBy, Membership, Payment, User
from tests.stripe.stage import PRICES, Price, Stage, months_after
from tests.stripe.subscribing import Subscribing
from tests.stripe.till import Till

__all__ = ["PRICES", "Expected", "Pack", "Price", "Shop", "Subscription", "year"]


class Subscription(NamedTuple):
    """The subscription of a user, as a credit system should see it at the end."""

    status: str
    """active, paused or cancelled."""
    plan: str
    billing_interval: str
    ends_at: datetime | None
    """When it ended; or when it will, if that is known."""


class Pack(NamedTuple):
    """A pack of credits that was paid for, and what is left of it at the end."""

    user: str
    payment_intent: str
    price: str
    paid: int
    """Cents."""
    money_back: int
    """Cents that went back by refunds and disputes: a dispute may take more than was left."""
    credits: int
    credits_back: int


class Expected(NamedTuple):
    """What the events of a shop amount to."""

    subscriptions: dict[str, Subscription]
    """By user: those without one, or with none that ever began, are not in it."""
    packs: dict[str, Pack]
    """By payment intent, in the order in which they were begun."""


@dataclass(frozen=True)
class Shop:
    """A year of a shop."""

    version: str
    users: tuple[str, ...]
    prices: dict[str, Price]
    events: list[Json]
    """In the order in which it all happened."""
    expected: Expected
    stories: Counter[str]
    """What happened how often, in a few words each."""
    ends: datetime
    """When the year was over: all that was due before has happened."""


def year(
    seed: int,
    version: str,
    users: int = 12,
    start: datetime = datetime(2027, 1, 1, tzinfo=UTC),
) -> Shop:
    """A year of a shop that is drawn from the seed, said in an API version."""
    end = months_after(start, 12)
    stage = Stage(seed, version, start, end)
    till = Till(stage)
    subscribing = Subscribing(stage, till)
    people = [_user(number, stage) for number in range(1, users + 1)]
    for user in people:
        life = Life(user, stage, till, subscribing)
        stage.later(timedelta(hours=1), timedelta(days=120), life.goes_on)
    stage.run()
    return Shop(
        version=version,
        users=tuple(user.id for user in people),
        prices=dict(PRICES),
        events=stage.events,
        expected=_expected(people),
        stories=stage.stories,
        ends=end,
    )


def _user(number: int, stage: Stage) -> User:
    return User(
        id=f"user-{number}",
        known_by=stage.one_of(tuple(KnownBy)),
        email=f"user.{number}@mail.example",
        wants_a_plan=stage.chance(0.9),
    )


class Life:
    """What a user does, every week or so: anything that is possible then."""

    def __init__(self, user: User, stage: Stage, till: Till, subscribing: Subscribing) -> None:
        self.user = user
        self.stage = stage
        self.till = till
        self.subscribing = subscribing

    def goes_on(self) -> None:
        """Do something, and later something else."""
        wishes = list(self._wishes())
        weights = [weight for weight, _ in wishes]
        _, wish = self.stage.random.choices(wishes, weights)[0]
        wish()
        self.stage.later(timedelta(days=2), timedelta(days=25), self.goes_on)

    def _wishes(self) -> Iterator[tuple[float, Callable[[], None]]]:
        one = self.user.newest
        yield 2, partial(self.till.buy_pack, self.user)
        yield 0.3, partial(self.till.leave_the_checkout, self.user)
        if self.user.customer is not None:
            yield 0.3, partial(self.subscribing.change_address, self.user)
            yield 0.4, partial(self.subscribing.billing.bill_by_hand, self.user)
        yield from self._complaints()
        if not self.user.wants_a_plan:
            return
        if one is None:
            yield 3 if self.user.memberships else 6, partial(self.subscribing.sign_up, self.user)
        else:
            yield from self._wishes_about(one)

    def _complaints(self) -> Iterator[tuple[float, Callable[[], None]]]:
        for payment in self.user.payments[-8:]:
            weight = 0.4 if payment.pack else 0.1
            if payment.may_be_refunded:
                yield weight, partial(self.till.refund, payment)
            if payment.may_be_disputed:
                is_partly_back = payment.refunded > 0
                yield weight * (2 if is_partly_back else 0.5), partial(self.till.dispute, payment)

    def _wishes_about(self, one: Membership) -> Iterator[tuple[float, Callable[[], None]]]:
        asked = self.subscribing
        if one.runs:
            yield 2, partial(asked.switch, one)
            yield 0.8, partial(asked.switch_twice_within_a_second, one)
            yield 0.8, partial(asked.describe, one)
            yield 1.2, partial(asked.pause, one)
            yield 1.5, partial(asked.cancel_at_period_end, one)
            yield 0.7, partial(asked.cancel_on_a_day, one)
        elif one.pause_behavior is not None:
            yield 3, partial(asked.end_pause, one)
        elif one.status == "paused":
            yield 3, partial(asked.resume, one)
        elif one.status == "unpaid":
            yield 3, partial(asked.pay_what_is_owed, one)
        elif one.cancel_at is not None:
            yield 2, partial(asked.take_back, one)
            yield 2, partial(asked.sign_up, self.user)
        if one.lives:
            yield 0.5, partial(asked.cancel_now, one)


def _expected(people: list[User]) -> Expected:
    counting = {user.id: user.counts for user in people}
    paid = [
        payment
        for user in people
        for payment in user.payments
        if payment.pack and payment.status == "succeeded"
    ]
    return Expected(
        subscriptions={user: _seen(one) for user, one in counting.items() if one is not None},
        packs={payment.intent: _pack(payment, payment.pack or "") for payment in paid},
    )


def _seen(one: Membership) -> Subscription:
    price = PRICES[one.price]
    return Subscription(
        status=str(one.credit_status),
        plan=str(price.plan),
        billing_interval=str(price.interval),
        ends_at=one.ended_at or one.cancel_at,
    )


def _pack(payment: Payment, price: str) -> Pack:
    credits_bought = PRICES[price].credits or 0
    back = credits_bought * payment.taken_back // payment.amount
    return Pack(
        user=payment.user.id,
        payment_intent=payment.intent,
        price=price,
        paid=payment.amount,
        money_back=payment.taken_back,
        credits=credits_bought,
        credits_back=min(credits_bought, back),
    )
