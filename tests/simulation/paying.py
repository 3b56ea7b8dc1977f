"""What people do at Stripe: they subscribe, pay, want their money back, and their banks do.

Stripe tells of it in any order, more than once, late, and until it is answered well.
"""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation import reference
from tests.simulation.drawn import NAMES, Drawn, places, trouble, troubles
from tests.simulation.hearing import Hearing
from tests.simulation.stripe_record import Contract, Customer, Event, Payment, State
from tests.simulation.world import POSTER

orders = st.lists(st.integers(0, 9), min_size=4, max_size=4)
"""Which of the events that wait comes first, and so on; the others wait on."""

plans = st.sampled_from(("starter", "pro", "pro", "business", "club", "free"))
intervals = st.sampled_from(("yearly", "yearly", "monthly"))
packs = st.sampled_from((("price_pack_500", 4900), ("price_pack_7", 1000), ("price_pack_500", 0)))

changes = st.sampled_from(
    (
        *({"status": "active"}, {"status": "active"}, {"status": "unpaid"}),
        *({"status": "past_due"}, {"status": "paused"}, {"status": "canceled"}),
        *({"price": "pro"}, {"price": "business"}, {"price": "starter"}, {"price": POSTER}),
        *({"ends_with_period": True}, {"ends_with_period": False}, {"note": "changed"}),
        *({"is_collected": False}, {"is_collected": True}, {"ends_in": 20}, {"ends_in": None}),
    )
)
"""What of a contract changes to what; an end is so many days from now."""

movements = st.sampled_from(("refund", "refund", "fail", "dispute", "win", "rest"))
"""How money of a payment goes back, or comes again."""

MOST_IN_A_SECOND = 3
"""How often a contract changes in a second at most."""

MOST_CONTRACTS = 8
"""How many a user begins at most: not as many as are too many."""


class Paying(Hearing):
    """The rules of what happens at Stripe."""

    # --- Rules ------------------------------------------------------------------------------------

    @rule(
        who=places,
        is_new=st.booleans(),
        email=st.sampled_from((None, "first", "second")),
        says_user=st.booleans(),
        drawn=troubles,
    )
    def a_customer_of_stripe(
        self,
        who: int,
        is_new: bool,  # noqa: FBT001
        email: str | None,
        says_user: bool,  # noqa: FBT001
        drawn: Drawn,
    ) -> None:
        """Somebody becomes one, or something is known of one."""
        customer = self._customer(who, is_new=is_new)
        kind = "created" if not self.record.about(customer) else "updated"
        address = email and f"{email}-{customer.id}@example.com"
        user = customer.user if says_user else None
        named = f"customer.{kind}"
        self.tell(self.record.tell_of(customer, self.world.now, address, user, named), drawn)

    @rule(who=places, other=places, drawn=troubles)
    def a_customer_is_confused(self, who: int, other: int, drawn: Drawn) -> None:
        """The shop says of one who is known that they are somebody else."""
        known = [each for each in self.record.customers if "user_id" in self._stored(each)]
        others = [name for name in NAMES if known and name != known[who % len(known)].user]
        if others:
            customer, user = known[who % len(known)], others[other % len(others)]
            kind = "customer.updated"
            self.tell(self.record.tell_of(customer, self.world.now, None, user, kind), drawn)

    @rule(
        who=places,
        is_new=st.booleans(),
        plan=plans,
        interval=intervals,
        days=st.sampled_from((0, 0, 10, 40, 300)),
        ways=st.tuples(st.booleans(), st.sampled_from((True, True, True, False))),
        zone=st.none() | places,
        order=orders,
        drawn=troubles,
    )
    def a_contract_with_stripe(
        self,
        who: int,
        is_new: bool,  # noqa: FBT001
        plan: str,
        interval: str,
        days: int,
        ways: tuple[bool, bool],
        zone: int | None,
        *,
        order: list[int],
        drawn: Drawn,
    ) -> None:
        """It is paid for at once, or later in the same second; it mostly says whose it is."""
        is_paid, says_user = ways
        customer = self._customer(who, is_new=is_new)
        if self._has_enough(customer):
            return
        begun = self.world.now.replace(microsecond=0) - days * reference.DAY
        state = State(f"price_{plan}_{interval}", "active" if is_paid else "incomplete", begun)
        lives = None if zone is None else self.zone(zone)
        contract = self.record.begin(customer, state, self.world.now, lives, says_user=says_user)
        if not is_paid:
            self.record.change(contract, self.world.now, status="active")
        self._tell_some(order, drawn, contract)

    @rule(
        place=places,
        ways=st.lists(changes, min_size=1, max_size=3),
        seconds=st.sampled_from((0, 1)),
        order=orders,
        drawn=troubles,
    )
    def a_contract_changes(
        self,
        place: int,
        ways: list[dict[str, Any]],
        seconds: int,
        order: list[int],
        drawn: Drawn,
    ) -> None:
        """All of it happens within a second, or one thing after the other."""
        if self.record.contracts:
            contract = self.record.contracts[-1 - place % len(self.record.contracts)]
            for way in ways:
                self.world.now += timedelta(seconds=seconds)
                self._change(contract, way)
            self._tell_some(order, drawn, contract)

    @rule(
        who=places,
        pack=packs,
        is_known=st.booleans(),
        says_user=st.booleans(),
        both=st.booleans(),
        ways=st.lists(movements, max_size=3),
        order=orders,
        drawn=troubles,
    )
    def a_payment_to_stripe(
        self,
        who: int,
        pack: tuple[str, int],
        is_known: bool,  # noqa: FBT001
        says_user: bool,  # noqa: FBT001
        both: bool,  # noqa: FBT001
        ways: list[str],
        order: list[int],
        drawn: Drawn,
    ) -> None:
        """It is told of by one event or by two, and something may go back at once."""
        customer = self._customer(who, is_new=False) if is_known else None
        user = customer.user if customer else self.user(who)
        says = says_user or customer is None
        payment = self.record.sell(customer, user, *pack, says_user=says)
        email = f"paid-by-{customer.id}@example.com" if customer else None
        self.record.tell_of_checkout(payment, self.world.now, email, is_paid=both)
        if both and not payment.is_free:
            self.record.tell_of_intent(payment, self.world.now)
        for way in ways:
            self._move(payment, way)
        self._tell_some(order, drawn, payment)

    @rule(
        place=places,
        ways=st.lists(movements, min_size=1, max_size=4),
        seconds=st.sampled_from((0, 1)),
        order=orders,
        drawn=troubles,
    )
    def money_goes_back(
        self, place: int, ways: list[str], seconds: int, order: list[int], drawn: Drawn
    ) -> None:
        if self.record.payments:
            payment = self.record.payments[-1 - place % len(self.record.payments)]
            for way in ways:
                self.world.now += timedelta(seconds=seconds)
                self._move(payment, way)
            self._tell_some(order, drawn, payment)

    @rule(order=orders, drawn=troubles)
    def stripe_asks_again(self, order: list[int], drawn: Drawn) -> None:
        """What was not answered well comes again."""
        self._tell_some(order, drawn, None)

    @rule(place=st.integers(0, 30), drawn=troubles)
    def stripe_repeats(self, place: int, drawn: Drawn) -> None:
        """What was answered comes again, too, however old it is."""
        done = [event for event in self.record.events if event.is_done]
        if done:
            self.tell(done[-1 - place % len(done)], drawn)

    @rule(
        who=places,
        status=st.sampled_from(("unpaid", "canceled", "paused")),
        hours=st.sampled_from((1, 30, 24 * 40)),
        first=places,
        drawn=trouble,
    )
    def story_of_a_contract_that_ends_beside_another(
        self, who: int, status: str, hours: int, first: int, drawn: Drawn
    ) -> None:
        """One contract ends and another begins, over a month's start; Stripe tells late of it."""
        customer = self._customer(who, is_new=False)
        if self._has_enough(customer):
            return
        begun = self.world.now.replace(microsecond=0)
        old = self.record.begin(
            customer, State("price_pro_yearly", "active", begun), begun, None, says_user=True
        )
        self._tell_some([0], [], old)
        user = customer.user
        if user not in self.oracle.subscriptions:
            return
        self.go_to(self.month_start(user, 1) - timedelta(hours=1), "a month is about to begin")
        self._change(old, {"status": status})
        self.world.now += timedelta(minutes=1)
        begun = self.world.now.replace(microsecond=0)
        new = self.record.begin(
            customer, State("price_business_yearly", "active", begun), begun, None, says_user=True
        )
        self.go_to(self.world.now + timedelta(hours=hours), "Stripe does not get through")
        self._tell_some([first, 0], drawn, new)
        self._tell_some([first, 0], drawn, old)
        self.allocate_running_month(user)

    # --- What they are made of --------------------------------------------------------------------

    def _customer(self, who: int, *, is_new: bool) -> Customer:
        """One of the last customers; or somebody becomes one, be it a user or a stranger."""
        known = self.record.customers
        if known and not is_new:
            return known[-1 - who % len(known)]
        free = [name for name in NAMES if name not in self.oracle.subscriptions]
        user = free[0] if free and who % 2 else self.user(who)
        return self.record.customer(user)

    def _has_enough(self, customer: Customer) -> bool:
        """Whether a user has so many contracts that it must not matter any more what they do."""
        of_user = [it for it in self.record.contracts if it.customer.user == customer.user]
        return len(of_user) >= MOST_CONTRACTS

    def _change(self, contract: Contract, way: dict[str, Any]) -> None:
        """Whatever has ended for good changes no more; and nothing does so more than a few times.

        Of more events of one second some can go round in a circle while others are still to come:
        until then any guess is as good.
        """
        state, now = contract.state, self.world.now.replace(microsecond=0)
        second = [each for each in self.record.about(contract) if each.seen_at == now]
        if state.status == "canceled" or len(second) >= MOST_IN_A_SECOND:
            return
        change = dict(way)
        if "price" in change:
            _, _, interval = state.price.split("_")
            change["price"] = f"price_{way['price']}_{interval}"
            # Nobody takes up something else and a plan again in one second.
            if second and not (state.is_ours and way["price"] != POSTER):
                return
        if "ends_in" in change:
            days = change.pop("ends_in")
            change["ends_at"] = None if days is None else now + days * reference.DAY
        if change.get("status") == "canceled":
            change["ends_at"] = now
        self.record.change(contract, now, **change)

    def _move(self, payment: Payment, way: str) -> None:
        """Money goes back, or does not after all. Nobody refunds in the second of a failure."""
        now, left = self.world.now, payment.paid - sum(payment.refunds.values())
        has_just_failed = payment.failed_at == now.replace(microsecond=0)
        if way in ("refund", "rest") and left and not has_just_failed:
            self.record.refund(payment, left if way == "rest" else max(left // 3, 1), now)
        elif way == "fail" and payment.refunds:
            self.record.fail(payment, [*payment.refunds][-1], now)
        elif way == "dispute" and payment.paid and len(payment.disputes) < 2:
            name = f"dp_{len(self.record.events)}"
            self.record.dispute(payment, name, payment.paid // 2, now)
        elif way == "win" and (withdrawn := [it for it, n in payment.disputes.items() if n]):
            self.record.dispute(payment, withdrawn[-1], 0, now)

    def _tell_some(self, order: list[int], drawn: Drawn, about: object) -> None:
        """Stripe tells of some of what it has not been answered, the last of them in trouble."""
        for place, number in enumerate(order):
            pending = [
                event for event in self.record.pending if about is None or event.about is about
            ]
            if not pending:
                return
            event: Event = pending[number % len(pending)]
            self.tell(event, drawn if place == len(order) - 1 or len(pending) == 1 else [])
