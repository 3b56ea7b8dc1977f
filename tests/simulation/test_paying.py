"""Stories of Stripe, the same every time: each fate of a contract, a customer and a payment."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from chalicelib.domain import subscriptions as billing
from chalicelib.domain.billing import stands_at
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import Contract as OurContract
from chalicelib.domain.subscriptions import Report, SubscriptionStatus
from tests.simulation.drawn import ALONE, Change, Drawn
from tests.simulation.faults import Fault
from tests.simulation.machine import Machine
from tests.simulation.planted_stripe import BUGS, OF_STRIPE
from tests.simulation.reference import Billed, Violation
from tests.simulation.stripe_record import Contract, Customer, Event, Payment, State

CHANGE: Change = ("plan", "starter")
SECOND = timedelta(seconds=1)
FAULTS = (Fault.MEANWHILE, Fault.KILLED_AFTER, Fault.UNREACHED)
PRO, BUSINESS = "price_pro_yearly", "price_business_yearly"

CUSTOMER, NOTE, SUBSCRIPTION, EDIT, ENTRY, _, LEDGER, POST = range(8)
"""The calls that trouble aims at: see `life.AIMS`."""


def trouble(fault: Fault, aim: int, at: int = 0) -> Drawn:
    """At a call of a kind; where something comes meanwhile, it is an event about the same."""
    times = 4 if fault is Fault.UNREACHED else 1
    return [(FAULTS.index(fault), aim, at, times, ("deliver", 1, "other", CHANGE))]


class Shop:
    """What the stories are made of."""

    def __init__(self, life: Machine) -> None:
        self.life = life
        self.record = life.record

    @property
    def now(self) -> Any:
        return self.life.world.now

    def later(self, span: timedelta = SECOND) -> None:
        self.life.world.now += span

    def told(self, events: Sequence[Event], drawn: Drawn | None = None) -> None:
        for event in events:
            self.life.tell(event, drawn or [])

    def wait(self) -> Sequence[Event]:
        return self.record.pending

    def known(self, user: str, email: str | None = None) -> Customer:
        customer = self.record.customer(user)
        self.told([self.of(customer, email)])
        return customer

    def of(
        self,
        customer: Customer,
        email: str | None,
        user: str = "",
        language: str | None = None,
    ) -> Event:
        user = user or customer.user
        kind = "customer.updated"
        return self.record.tell_of(customer, self.now, email, user, kind, language)

    def contract(self, customer: Customer, price: str = PRO, status: str = "active") -> Contract:
        begun = self.now.replace(microsecond=0)
        state = State(price, status, begun)
        return self.record.begin(customer, state, begun, None, says_user=True)

    def bought(self, customer: Customer, paid: int = 1000) -> Payment:
        payment = self.record.sell(customer, customer.user, "price_pack_7", paid, says_user=False)
        self.told([self.record.tell_of_intent(payment, self.now)])
        return payment


def contracts_of_one_second(shop: Shop) -> None:
    """Bob comes by Stripe, in one second. What happens in the next ones is told backwards."""
    bob = shop.record.customer("bob")
    contract = shop.contract(bob, status="incomplete")
    shop.told(shop.wait())
    shop.record.change(contract, shop.now, status="active")
    shop.told(shop.wait())
    for way in ({"price": BUSINESS}, {"status": "unpaid"}):
        shop.later()
        shop.record.change(contract, shop.now, **way)
        shop.record.change(contract, shop.now, note=str(way))
        shop.record.change(contract, shop.now, price="price_starter_yearly")
        shop.told(shop.wait()[::-1])
        shop.told(shop.record.events[:3])
    shop.later()
    shop.record.change(contract, shop.now, status="canceled", ends_at=shop.now)
    shop.told(shop.wait())
    shop.told(shop.record.events[1:2])


def a_contract_that_ends_beside_another(shop: Shop) -> None:
    """Cem has two for a while. The month that begins then is told of late, and badly."""
    cem = shop.record.customer("cem")
    old = shop.contract(cem)
    shop.told(shop.wait())
    shop.later(timedelta(days=3))
    shop.contract(cem, BUSINESS)
    shop.told(shop.wait())
    shop.later()
    shop.record.change(old, shop.now, status="canceled", ends_at=shop.now)
    shop.told(shop.wait())
    new = shop.record.contracts[-1]
    shop.later()
    shop.record.change(new, shop.now, is_collected=False)
    shop.told(shop.wait())
    start = shop.life.month_start("cem", 1)
    shop.life.go_to(start - timedelta(hours=1), "a month is about to begin")
    shop.record.change(new, shop.now, is_collected=True)
    shop.life.go_to(start + timedelta(hours=1), "a month has begun")
    shop.told(shop.wait(), trouble(Fault.UNREACHED, POST))
    shop.told(shop.wait())


def a_contract_that_becomes_something_else(shop: Shop) -> None:
    """Fay pays for posters instead, and later for a plan again."""
    fay = shop.record.customer("fay")
    contract = shop.contract(fay)
    for price in ("price_poster_yearly", BUSINESS, "price_poster_yearly"):
        shop.later()
        shop.record.change(contract, shop.now, price=price)
        shop.told(shop.wait()[::-1])
    shop.later()
    shop.record.change(contract, shop.now, status="canceled", ends_at=shop.now)
    shop.told(shop.wait())


def customers(shop: Shop) -> None:
    """Dua is brought without an address, which comes later; nobody can make her Ada."""
    dua = shop.record.customer("dua")
    shop.contract(dua)
    shop.told(shop.wait())
    shop.of(dua, "dua@example.com")
    shop.told(shop.wait(), trouble(Fault.KILLED_AFTER, NOTE))
    shop.told(shop.wait())
    shop.told([shop.of(dua, None, user="ada")])
    # Of Eva the address comes while she is registered.
    eva = shop.record.customer("eva")
    shop.of(eva, "eva@example.com")
    shop.contract(eva)
    shop.told(shop.wait()[1:], trouble(Fault.MEANWHILE, EDIT))
    shop.told(shop.wait())
    # She takes it away, and speaks another language later.
    shop.later()
    shop.life.changed("eva", "an address is taken away", ("email", None), [])
    shop.later()
    shop.told([shop.of(eva, None, language="de")])


def payments_by_two_routes(shop: Shop) -> None:
    """One is told of twice, in the midst of the other; another too soon, by one that dies."""
    ada = shop.record.customer("ada")
    payment = shop.record.sell(ada, "ada", "price_pack_500", 4900, says_user=False)
    shop.record.tell_of_checkout(payment, shop.now, None, is_paid=True)
    shop.record.tell_of_intent(payment, shop.now)
    shop.told(shop.wait())
    shop.told([shop.of(ada, None)])
    shop.told(shop.wait()[:1], trouble(Fault.MEANWHILE, ENTRY))
    shop.told(shop.record.events)
    payment = shop.record.sell(ada, "ada", "price_pack_500", 4900, says_user=True)
    shop.record.tell_of_intent(payment, shop.now)
    shop.told(shop.wait(), trouble(Fault.KILLED_AFTER, CUSTOMER))
    shop.told(shop.wait())


def money_that_goes_back(shop: Shop) -> None:
    """Of three payments: by refunds, one of which fails; by a dispute; and before they buy."""
    ada = shop.known("ada")
    payment = shop.bought(ada)
    for amount in (300, 300):
        shop.later()
        shop.record.refund(payment, amount, shop.now)
        shop.told(shop.wait())
    shop.told(shop.record.events)
    shop.later()
    shop.record.fail(payment, [*payment.refunds][-1], shop.now)
    shop.told(shop.wait(), trouble(Fault.UNREACHED, ENTRY))
    shop.told(shop.wait())
    disputed = shop.bought(ada)
    shop.record.refund(disputed, 600, shop.now)
    for amount in (500, 0):
        shop.later()
        shop.record.dispute(disputed, "dp_1", amount, shop.now)
    shop.told(shop.wait())
    shop.told(shop.record.events)
    early = shop.record.sell(ada, "ada", "price_pack_500", 4900, says_user=False)
    shop.record.refund(early, 1000, shop.now)
    shop.told(shop.wait())
    shop.record.tell_of_intent(early, shop.now)
    shop.told(shop.wait())


def two_refunds_at_once(shop: Shop) -> None:
    """The later one is told of while the earlier one is being taken back."""
    ada = shop.known("ada")
    for aim in (LEDGER, ENTRY):
        payment = shop.bought(ada)
        for _ in range(2):
            shop.later()
            shop.record.refund(payment, 300, shop.now)
        shop.told(shop.wait()[:1], trouble(Fault.MEANWHILE, aim))
        shop.told(shop.wait())


Story = Callable[[Shop], None]
STORIES: dict[Story, tuple[str, ...]] = {
    contracts_of_one_second: (
        "the event that comes last counts, however old it is",
        "of events of one second that counts which comes last",
        "a contract that was never paid registers its user",
    ),
    a_contract_that_ends_beside_another: (
        "the contract of the last event counts, though another one is active",
        "what Stripe tells late counts from when it is told",
        "a month that could not be posted is answered as done",
    ),
    a_contract_that_becomes_something_else: (
        "a contract that is of something else now goes on as it was",
    ),
    customers: (
        "a customer moves to another user by a later event",
        "an address that was learned by a process that died is never given",
        "an address that a user took away comes back with other news of their customer",
    ),
    payments_by_two_routes: (
        "a payment buys once for each event that tells of it",
        "an event is marked as done before it is",
        "a purchase of a user who is not known yet is answered, and forgotten",
    ),
    money_that_goes_back: (
        "what a charge says of refunds is added up",
        "a refund that failed counts all the same",
        "what comes back of a dispute is forgotten",
        "what comes back of a dispute is given back twice",
        "what was taken back of a payment before it bought is forgotten",
        "what could not be taken back is answered as done",
    ),
    two_refunds_at_once: ("what is taken back is read before how the purchase stands",),
}
"""Each with the mistakes that it must find."""


def live(*stories: Story) -> Machine:
    life = Machine()
    with life.stack:  # also of a life that ends too early
        life.the_first_subscribe(replace(ALONE, faults=FAULTS))
        for story in stories:
            story(Shop(life))
        life.teardown()
    return life


def test_a_life_with_stripe_is_as_the_reference_says() -> None:
    life = live(*STORIES)
    assert {"ada", "bob", "cem", "dua", "eva", "fay"} == {*life.oracle.subscriptions}
    assert all(event.is_done or event.is_wrong for event in life.record.events)
    refunds = [line for line in life.oracle.ledger("ada").lines if line.type == "refund"]
    assert {(line.amount > 0) - (line.amount < 0) for line in refunds} == {-1, 1}
    assert sum("is overtaken" in words for words in life.story) >= 4


def test_every_bug_of_stripe_has_its_story() -> None:
    assert sorted(OF_STRIPE) == sorted(name for names in STORIES.values() for name in names)


@pytest.mark.parametrize(
    ("story", "name"),
    [(story, name) for story, names in STORIES.items() for name in names],
)
def test_a_planted_bug_is_found_in_it(story: Story, name: str) -> None:
    with BUGS[name](), pytest.raises(Violation):
        live(story)


def test_events_of_one_second_are_put_in_their_order_whatever_came_first() -> None:
    """A thousand seconds of a contract, each told in a random order."""
    chance, moment, circles = random.Random(1), ALONE.start, 0
    for _ in range(1000):
        states: list[Billed | None] = [None]
        for _ in range(chance.randint(1, 5)):
            plan, status = chance.choice("ab"), chance.choice(("active", "paused"))
            states.append(Billed(plan, "yearly", status, moment, None))
        told = [
            Report(str(chance.random()), _billed(now), was and _billed(was))
            for was, now in pairwise(states)
            if now
        ]
        is_circle = states[-1] in states[1:-1]
        circles += is_circle
        found = stands_at(OurContract("sub", moment, tuple(chance.sample(told, len(told)))))
        assert is_circle or found == told[-1].billed
    assert circles < 800


def _billed(state: Billed) -> billing.Billed:
    interval, status = BillingInterval(state.billing_interval), SubscriptionStatus(state.status)
    return billing.Billed(state.plan, interval, status, state.started_at, state.ends_at)
