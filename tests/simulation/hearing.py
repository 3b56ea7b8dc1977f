"""How Stripe's events are heard: what each allows to happen, and what must be once it is answered.

An event that was not answered with 2xx may have done anything that it says, or a part of that. One
that was must be done.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from tests.simulation import reference
from tests.simulation.contracts import reported, standing
from tests.simulation.drawn import Drawn
from tests.simulation.faults import Fault, Troubles
from tests.simulation.life import CALM, FAILURES, Life
from tests.simulation.oracle import ALL_KINDS, Edit, Intent, Report
from tests.simulation.reference import Heard, Subscription, require, show
from tests.simulation.stripe_record import Contract, Customer, Event, Payment, Record, money_of
from tests.simulation.world import Reply

Judge = Callable[[Reply | None, Troubles], None]

MOST_IN_DOUBT = 5
"""Of how many events of a payment it may be unknown at once whether they were noted."""


class Hearing(Life):
    """Delivers events, and judges what comes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()
        self.hearing: Event | None = None
        self.customers: dict[str, dict[str, str]] = {}
        """What is stored of each customer, as it was seen last."""

    # --- Delivery ---------------------------------------------------------------------------------

    def tell(self, event: Event, drawn: Drawn) -> None:
        """A step in which Stripe delivers an event."""
        words = f"Stripe tells of {event.kind}, {_shown(event)}, of {show(event.seen_at)}"
        with self.step(words, drawn, "stripe") as troubles:
            judge = self._expect(event)
            self.hearing = event

            def again() -> None:
                self._meanwhile_told(event)

            try:
                reply = self.attempt(troubles, lambda: self._send(event), again)
            finally:
                self.hearing = None
            judge(reply, troubles)
            self._check_customers()

    def _send(self, event: Event) -> Reply:
        try:
            return self.world.hear(event.body)
        except FAILURES as error:
            return Reply(503, {}, str(error))

    def _meanwhile_told(self, event: Event) -> None:
        judge = self._expect(event)
        reply = self._send(event)
        self.later.append(lambda: judge(reply, CALM))

    def _deliver_meanwhile(self) -> None:
        """In the middle of an event, another one about the same: of a payment, of a user."""
        known = self.hearing
        others = [each for each in self.record.pending if known and _is_about_the_same(known, each)]
        if others:
            self._meanwhile_told(others[-1])
        else:
            super()._deliver_meanwhile()

    # --- What it allows to happen -----------------------------------------------------------------

    def _expect(self, event: Event) -> Judge:
        """An event is about to be heard; what judges the answer."""
        event.attempts += 1
        reasons = [*self._why_waiting(event)]
        report = self._expect_of_contract(event)
        self._expect_addresses(event)
        if isinstance(event.about, Payment):
            self._expect_of_payment(event, event.about)

        def judge(reply: Reply | None, troubles: Troubles) -> None:
            is_waiting = reply is not None and reply.status == 409 and "waiting" in reply.text
            if is_waiting:
                found = [*reasons, *self._why_waiting(event)]
                require(bool(found), "Stripe is told to wait for no reason:", event.body, reply)
                return
            if reply is None or reply.status in (409, 503):
                why = "an event was not heard for no reason:"
                require(not troubles.is_absorbed, why, event.body, reply)
                return
            require(reply.status == 200, "Stripe was answered", reply, "to", event.body)
            require(not event.is_wrong, "a wrong user was believed:", event.body)
            event.is_done = True
            if report:
                self._is_reported(event, report, troubles)
            if isinstance(event.about, Payment):
                self._is_done(event, event.about)

        return judge

    def _expect_of_contract(self, event: Event) -> Edit | None:
        """The oracle learns what an event says of a contract; None where it says nothing yet."""
        contract, state = event.about, event.state
        if not isinstance(contract, Contract) or state is None:
            return None
        plans, now = reference.plans_at(), self.instant
        billed = event.billed(plans)
        if billed is None:
            return None
        before = event.before.billed(plans) if event.before else None
        new = Heard(contract.id, event.seen_at, event.id, billed, before)
        timezone = contract.timezone or self.world.timezone
        user = contract.customer.user

        def apply_with(email: str | None) -> Callable[[Subscription | None], Subscription | None]:
            newcomer = Subscription(
                user_id=user,
                email=email,
                timezone=timezone,
                registered_at=now,
                eligible_from=now,
                notifications=ALL_KINDS,
                **billed._asdict(),
            )
            return lambda present: reported(present, newcomer, new, now)

        emails: list[str | None] = [None, *self._emails_of(contract.customer)]
        edits = [Edit(user, apply_with(email)) for email in emails]
        self.oracle.edits += edits
        self.oracle.allocating.setdefault(user, []).append(self.world.clock)
        return edits[0]

    def _emails_of(self, customer: Customer) -> list[str]:
        """The addresses that anybody can have heard of."""
        found = [
            each.email
            for each in self.record.events
            if each.attempts and each.email and _customer_of(each) is customer
        ]
        return sorted({*found})

    def _expect_addresses(self, event: Event) -> None:
        """A user whom Stripe has brought without an address is given one, when it is news."""
        customer = _customer_of(event)
        if customer is None or not self._may_bring_address(event, customer):
            return
        for email in self._emails_of(customer):
            self.oracle.edits.append(Edit(customer.user, _given(email, self.instant)))

    def _may_bring_address(self, event: Event, customer: Customer) -> bool:
        """Other news of a customer must not undo that their user has taken the address away."""
        stored = self._stored(customer)
        is_registration = isinstance(event.about, Contract)
        return (
            is_registration
            or "user_id" not in stored
            or bool(event.email and "email" not in stored)
        )

    def _expect_of_payment(self, event: Event, payment: Payment) -> None:
        if event.buys:
            price = (payment.paid, "EUR")
            asked = (payment.operation, payment.user, "purchase", payment.credits)
            intent = Intent(*asked, "Credits bought", price=price)
            self.oracle.intents.setdefault(payment.operation, intent)
        for in_all in self._credits_taken_back(payment):
            report = Report(payment.id, in_all, "Refunded or disputed")
            if report not in self.oracle.reporting:
                self.oracle.reporting.append(report)

    def _credits_taken_back(self, payment: Payment) -> set[int]:
        """How many credits of a payment may be known to be taken back by now."""
        of_money = [each for each in self.record.about(payment) if each.money and each.attempts]
        done = [each for each in of_money if each.is_done]
        in_doubt = [each for each in of_money if not each.is_done][-MOST_IN_DOUBT:]
        return {
            payment.credits_of(money_of([*done, *some]))
            for count in range(len(in_doubt) + 1)
            for some in combinations(in_doubt, count)
        }

    # --- What must be -----------------------------------------------------------------------------

    def _is_reported(self, event: Event, report: Edit, troubles: Troubles) -> None:
        """What was heard of a contract is in the subscription, and what is due is posted."""
        user = report.user_id
        known = self.oracle.subscriptions.get(user)
        require(bool(known), "Stripe's user was not registered:", event.body)
        assert known
        present = known[-1]
        require(report.apply(present) is present, "an event is forgotten:", event.body, present)
        ledger = self.oracle.ledger(user)
        due = present.due(ledger.through, self.world.clock, self.world.clock)
        step = present.step_due(ledger)
        is_alone = not troubles.has_struck(Fault.MEANWHILE)
        left = "an event has left due what it should have posted:"
        require(not (due or step) or not is_alone or present.is_stranded, left, due, step, present)

    def _is_done(self, event: Event, payment: Payment) -> None:
        """A payment has bought; and of what it has bought is taken back what is known to be."""
        owner, purchase = self.oracle.purchase_of(payment.id)
        if event.buys:
            require(purchase > 0, "a payment was answered, and has bought nothing:", event.body)
        if purchase:
            refunds = self.oracle.ledger(owner).refunds_of(purchase)
            found = refunds[-1].refunded if refunds else 0
            right = self._credits_taken_back(payment)
            require(found in right, "of", payment, found, "is taken back and not", right)

    def _why_waiting(self, event: Event) -> Iterator[str]:
        """Why Stripe can be told that an event has to wait."""
        if event.is_wrong:
            yield "somebody was confused with somebody else"
        about = event.about
        if isinstance(about, Contract) and event.state:
            _, plan, _ = event.state.price.split("_")
            if event.state.is_ours and plan not in reference.plans_at():
                yield "the price is of a plan that is gone"
        if isinstance(about, Contract) or event.buys:
            customer = _customer_of(event)
            stored = self._stored(customer) if customer else {}
            if not event.says_user and "user_id" not in stored:
                yield "nobody knows who the customer is"
            if isinstance(about, Payment) and about.user not in self.oracle.subscriptions:
                yield "the user is not registered"

    def _stored(self, customer: Customer) -> dict[str, str]:
        """What the table has of a customer."""
        item = self.world.table("stripe").items.get((f"customer#{customer.id}", "-"), {})
        return {name: item[name]["S"] for name in ("user_id", "email") if name in item}

    def _check_customers(self) -> None:
        """A customer is who they are, and what was known of them once stays."""
        for customer in self.record.customers:
            stored = self._stored(customer)
            before = self.customers.get(customer.id, {})
            right = stored.get("user_id", customer.user) == customer.user
            require(right, customer.id, "is said to be another user:", stored, customer.user)
            emails = self._emails_of(customer)
            require(stored.get("email") in (None, *emails), "an address of nobody:", stored)
            kept = {name: stored.get(name) for name in before}
            require(kept == before, "what was known of a customer is gone:", before, stored)
            self.customers[customer.id] = stored

    # --- When everything is told ------------------------------------------------------------------

    def last_deliveries(self) -> None:
        """Stripe delivers whatever was not answered well; then all of it is as Stripe has it."""
        for _ in range(4):
            for event in self.record.pending:
                self.tell(event, [])
        if self.record.events:
            with self.step("everything that Stripe has told of is done"):
                self._all_is_done()

    def _all_is_done(self) -> None:
        for event in self.record.pending:
            why = [*self._why_waiting(event)]
            require(bool(why), "Stripe gave up an event for no reason:", event.body)
        for contract in self.record.contracts:
            self._is_as_stripe_has_it(contract)
        for payment in self.record.payments:
            self._has_bought(payment)

    def _is_as_stripe_has_it(self, contract: Contract) -> None:
        events = [each for each in self.record.about(contract) if each.is_done and each.state]
        plans = reference.plans_at()
        said = [(each, billed) for each in events if (billed := each.billed(plans)) is not None]
        if not said:
            return
        last, newest = max(said, key=lambda pair: pair[0].place)
        second = [each for each, _ in said if each.seen_at == last.seen_at]
        was = [each.before.billed(plans) for each in second if each.before]
        present = self.oracle.subscription(contract.customer.user)
        found = standing(present.heard, contract.id)
        # Of events of one second that go round in a circle nobody knows which is the last.
        is_circle = newest in was and found in was
        require(found == newest or is_circle, contract, "stands", found, "and not", newest)
        stored = self._stored(contract.customer)
        versions = self.oracle.subscriptions[contract.customer.user]
        is_known = "email" not in stored or any(version.email for version in versions)
        require(is_known, "an address never came to its user:", stored, present)

    def _has_bought(self, payment: Payment) -> None:
        buys = [each for each in self.record.about(payment) if each.buys]
        owner, purchase = self.oracle.purchase_of(payment.id)
        is_told = any(each.is_done for each in buys)
        require(bool(purchase) == is_told, payment, "is told of and has bought:", purchase)
        if purchase:
            require(owner == payment.user, payment, "has bought for", owner)
            ledger = self.oracle.ledger(owner)
            refunds = ledger.refunds_of(purchase)
            found = refunds[-1].refunded if refunds else 0
            right = payment.credits_of(payment.taken_back)
            require(found == right, "of", payment, found, "is taken back and not", right)


def _given(email: str, now: Any) -> Callable[[Subscription | None], Subscription | None]:
    def apply(present: Subscription | None) -> Subscription | None:
        if present is None or present.email is not None or not present.heard:
            return present
        return present.edited(now, {"email": email})

    return apply


def _customer_of(event: Event) -> Customer | None:
    return event.about if isinstance(event.about, Customer) else event.about.customer


def _is_about_the_same(one: Event, other: Event) -> bool:
    if one is other:
        return False
    customer = _customer_of(one)
    return one.about is other.about or (customer is not None and customer is _customer_of(other))


def _shown(event: Event) -> str:
    about = event.about
    if isinstance(about, Customer):
        return f"{about.id} who is {about.user}, {event.email or 'without an address'}"
    if isinstance(about, Payment):
        return f"{about.id} of {about.user}, {event.money or about.pack}"
    return f"{about.id} of {about.customer.user}, {event.state}"
