"""The money of the made-up shop: payments, packs, refunds and disputes."""

from datetime import timedelta

from tests.stripe import payloads
from tests.stripe.payloads import Json
from tests.stripe.people import Bill, Payment, User
from tests.stripe.stage import PACKS, PRICES, Stage, changed

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Till:
    """What is paid, and what goes back."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    # What Stripe says of a payment.

    def intent_of(self, payment: Payment) -> Json:
        """The payment intent as it is now."""
        return payloads.payment_intent(
            self.stage.version,
            id=payment.intent,
            created=payment.created,
            amount=payment.amount,
            status=payment.status,
            customer=payment.customer,
            metadata=payment.metadata,
            latest_charge=payment.charge,
            invoice=payment.bill.id if payment.bill else None,
            payment_method_types=payment.types,
            description="Subscription update" if payment.bill else None,
        )

    def charge_of(self, payment: Payment, status: str = "succeeded") -> Json:
        """The charge as it is now. Stripe copies the metadata of the intent when it is made."""
        if payment.charge is None or payment.charged_at is None:
            raise ValueError(f"{payment.intent} has no charge yet")
        return payloads.charge(
            self.stage.version,
            id=payment.charge,
            created=payment.charged_at,
            amount=payment.amount,
            payment_intent=payment.intent,
            status=status,
            amount_refunded=payment.refunded,
            disputed=bool(payment.dispute),
            customer=payment.customer,
            metadata=payment.metadata,
            invoice=payment.bill.id if payment.bill else None,
            email=payment.user.email,
        )

    def begin(self, user: User, amount: int, **more: object) -> Payment:
        """Intend a payment."""
        payment = Payment(
            intent=self.stage.new_id("pi"),
            user=user,
            created=self.stage.now,
            amount=amount,
            metadata={},
            customer=user.customer,
        )
        for name, value in more.items():
            setattr(payment, name, value)
        user.payments.append(payment)
        self.stage.send("payment_intent.created", self.intent_of(payment))
        return payment

    def pay_bill(self, bill: Bill) -> None:
        """Take the money of an invoice."""
        payment = self._of_bill(bill)
        self.stage.send_in_any_order(*self._succeeds(payment))

    def fail_to_pay_bill(self, bill: Bill) -> None:
        """Try to take the money of an invoice; the bank declines."""
        payment = self._of_bill(bill)
        self.stage.send_in_any_order(*self._fails(payment))

    def _of_bill(self, bill: Bill) -> Payment:
        if bill.payment is None:
            bill.payment = self.begin(bill.user, bill.amount, bill=bill)
        return bill.payment

    def _succeeds(self, payment: Payment) -> list[tuple[str, Json]]:
        payment.charge, payment.charged_at = self.stage.new_id("ch"), self.stage.now
        payment.status = "succeeded"
        return [
            ("payment_intent.succeeded", self.intent_of(payment)),
            ("charge.succeeded", self.charge_of(payment)),
        ]

    def _fails(self, payment: Payment) -> list[tuple[str, Json]]:
        payment.charge, payment.charged_at = self.stage.new_id("ch"), self.stage.now
        payment.status = "requires_payment_method"
        return [
            ("payment_intent.payment_failed", self.intent_of(payment)),
            ("charge.failed", self.charge_of(payment, "failed")),
        ]

    # Packs of credits, bought on the checkout page.

    def buy_pack(self, user: User) -> None:
        """Buy a pack: by card, or in a way by which the money comes some days later."""
        stage = self.stage
        price = stage.one_of(PACKS)
        discount = PRICES[price].amount // 10 if stage.chance(0.15) else 0
        is_slow = stage.chance(0.3)
        payment = self.begin(
            user,
            PRICES[price].amount - discount,
            pack=price,
            metadata={"user_id": user.id, "price_id": price},
            types=("sepa_debit",) if is_slow else ("card",),
        )
        visit = Visit(self, payment, discount)
        stage.a_moment_passes(60)
        if is_slow:
            payment.status = "processing"
            stage.send_in_any_order(
                ("payment_intent.processing", self.intent_of(payment)),
                ("checkout.session.completed", visit.session("unpaid")),
            )
            stage.later(2 * DAY, 6 * DAY, visit.settle)
            return
        stage.stories["pack bought"] += 1
        if user.customer is None:
            stage.stories["pack bought by somebody without a customer"] += 1
        stage.send_in_any_order(
            *self._succeeds(payment), ("checkout.session.completed", visit.session("paid"))
        )

    def leave_the_checkout(self, user: User) -> None:
        """Look at the checkout page and buy nothing."""
        price = self.stage.one_of(PACKS)
        session = payloads.checkout_session(
            self.stage.version,
            id=self.stage.new_id("cs_live"),
            created=self.stage.now - DAY,
            expires_at=self.stage.now,
            mode="payment",
            status="expired",
            payment_status="unpaid",
            amount_total=PRICES[price].amount,
            customer=user.customer,
            client_reference_id=user.id,
            metadata={"user_id": user.id, "price_id": price},
        )
        self.stage.stories["checkout left"] += 1
        self.stage.send("checkout.session.expired", session)

    # Money that goes back.

    def refund(self, payment: Payment) -> None:
        """Give back all that is left of a payment, or some of it."""
        stage = self.stage
        left = payment.amount - payment.refunded
        # A few cents are less than a credit is worth.
        most = min(left, 12) if stage.chance(0.15) else left
        amount = left if stage.chance(0.4) else stage.random.randint(1, most)
        before = self.charge_of(payment)
        payment.refunded += amount
        after = self.charge_of(payment)
        is_whole = payment.refunded == payment.amount
        stage.stories["full refund" if is_whole else "partial refund"] += 1
        if payment.refunded > amount:
            stage.stories["another refund of one payment"] += 1
        if payment.bill:
            stage.stories["refund of a subscription's payment"] += 1
        has_time = stage.now + 12 * DAY < stage.end
        is_pending = has_time and stage.chance(0.3)
        refund = Refunding(self, payment, amount, "pending" if is_pending else "succeeded")
        stage.send_in_any_order(
            ("charge.refunded", after, changed(before, after)),
            ("refund.created", refund.said()),
        )
        if is_pending:
            ends = refund.succeeds if stage.chance(0.5) else refund.fails
        elif has_time and stage.chance(0.25):
            ends = refund.fails
        else:
            refund.is_booked()
            return
        payment.refunds_under_way += 1
        stage.later(DAY, 8 * DAY, ends)

    def dispute(self, payment: Payment) -> None:
        """Have a bank want the money back, or only ask about it."""
        stage = self.stage
        is_warning = stage.chance(0.2)
        left = payment.amount - payment.refunded
        amount = payment.amount if stage.chance(0.4) else left
        dispute = Disputing(self, payment, amount)
        if is_warning:
            payment.dispute = "warning"
            stage.send("charge.dispute.created", dispute.said("warning_needs_response"))
            stage.later(20 * DAY, 60 * DAY, dispute.comes_to_nothing)
            return
        payment.dispute, payment.disputed = "open", amount
        stage.stories["dispute"] += 1
        if payment.bill:
            stage.stories["dispute about a subscription's payment"] += 1
        if payment.taken_back > payment.amount:
            stage.stories["more taken back than paid"] += 1
        stage.send("charge.dispute.created", dispute.said("needs_response"))
        stage.a_moment_passes()
        dispute.books("withdrawn", -amount, fee=1500)
        stage.send("charge.dispute.funds_withdrawn", dispute.said("needs_response"))
        stage.later(8 * DAY, 30 * DAY, dispute.is_answered)


class Visit:
    """A visit of the checkout page in which a pack is bought."""

    def __init__(self, till: Till, payment: Payment, discount: int) -> None:
        self.till = till
        self.payment = payment
        self.discount = discount
        self.id = till.stage.new_id("cs_live")
        self.created = till.stage.now

    def session(self, payment_status: str) -> Json:
        """The session as it is now."""
        return payloads.checkout_session(
            self.till.stage.version,
            id=self.id,
            created=self.created,
            expires_at=self.created + DAY,
            mode="payment",
            payment_status=payment_status,
            amount_total=self.payment.amount,
            amount_discount=self.discount,
            customer=self.payment.customer,
            metadata=self.payment.metadata,
            payment_intent=self.payment.intent,
            email=self.payment.user.email,
            payment_method_types=self.payment.types,
        )

    def settle(self) -> None:
        """The money comes, or the bank says no."""
        stage = self.till.stage
        if stage.chance(0.75):
            stage.stories["pack paid for later"] += 1
            stage.send_in_any_order(
                *self.till._succeeds(self.payment),
                ("checkout.session.async_payment_succeeded", self.session("paid")),
            )
        else:
            stage.stories["pack not paid for"] += 1
            stage.send_in_any_order(
                *self.till._fails(self.payment),
                ("checkout.session.async_payment_failed", self.session("unpaid")),
            )


class Refunding:
    """A refund on its way."""

    def __init__(self, till: Till, payment: Payment, amount: int, status: str) -> None:
        self.till = till
        self.payment = payment
        self.amount = amount
        self.status = status
        self.id = till.stage.new_id("re")
        self.created = till.stage.now
        self.booked: str | None = None
        self.booked_back: str | None = None

    def said(self) -> Json:
        """The refund as it is now."""
        return payloads.refund(
            self.till.stage.version,
            id=self.id,
            created=self.created,
            amount=self.amount,
            charge=str(self.payment.charge),
            payment_intent=self.payment.intent,
            status=self.status,
            reason="requested_by_customer",
            failure_reason="expired_or_canceled_card" if self.status == "failed" else None,
            customer=self.payment.customer,
            balance_transaction=self.booked,
            failure_balance_transaction=self.booked_back,
        )

    def is_booked(self) -> None:
        """Nothing changes but its entry in the shop's account."""
        self._changes(booked=self.till.stage.new_id("txn"))

    def succeeds(self) -> None:
        """The money arrives."""
        self.payment.refunds_under_way -= 1
        self._changes(status="succeeded", booked=self.till.stage.new_id("txn"))

    def fails(self) -> None:
        """The money comes back to the shop, as if the refund had never been."""
        stage = self.till.stage
        self.payment.refunds_under_way -= 1
        before, was = self.till.charge_of(self.payment), self.said()
        self.payment.refunded -= self.amount
        self.status, self.booked_back = "failed", stage.new_id("txn")
        after = self.till.charge_of(self.payment)
        stage.stories["refund that fails"] += 1
        if self.payment.pack:
            stage.stories["refund of a pack that fails"] += 1
        stage.send("refund.failed", self.said(), changed(was, self.said()))
        # Nobody can go by this one: Stripe does not promise it.
        if stage.chance(0.5):
            stage.send("charge.updated", after, changed(before, after))

    def _changes(self, **to: str) -> None:
        was = self.said()
        for name, value in to.items():
            setattr(self, name, value)
        now = self.said()
        self.till.stage.send_in_any_order(
            ("refund.updated", now, changed(was, now)),
            ("charge.refund.updated", now, changed(was, now)),
        )


class Disputing:
    """A dispute about a payment."""

    def __init__(self, till: Till, payment: Payment, amount: int) -> None:
        self.till = till
        self.payment = payment
        self.amount = amount
        self.id = till.stage.new_id("du")
        self.created = till.stage.now
        self.has_evidence = False
        self.bookings: list[Json] = []

    def said(self, status: str) -> Json:
        """The dispute as it is now."""
        return payloads.dispute(
            self.till.stage.version,
            id=self.id,
            created=self.created,
            amount=self.amount,
            charge=str(self.payment.charge),
            payment_intent=self.payment.intent,
            status=status,
            due_by=self.created + 20 * DAY,
            balance_transactions=[*self.bookings],
            has_evidence=self.has_evidence,
        )

    def books(self, word: str, amount: int, fee: int = 0) -> None:
        """Enter money that goes, or comes back, into the shop's account."""
        stage = self.till.stage
        entry = payloads.balance_transaction(
            stage.version,
            id=stage.new_id("txn"),
            created=stage.now,
            amount=amount,
            source=self.id,
            fee=fee,
            description=f"Chargeback {word} for {self.payment.charge}",
        )
        self.bookings.append(entry)

    def comes_to_nothing(self) -> None:
        """The bank only asked."""
        self.till.stage.stories["dispute that was a mere warning"] += 1
        self.till.stage.send("charge.dispute.closed", self.said("warning_closed"))

    def is_answered(self) -> None:
        """The shop says why the payment was right."""
        before = self.said("needs_response")
        self.has_evidence = True
        after = self.said("under_review")
        self.till.stage.send("charge.dispute.updated", after, changed(before, after))
        self.till.stage.later(5 * DAY, 30 * DAY, self.is_decided)

    def is_decided(self) -> None:
        """The bank keeps the money, or gives it back."""
        stage, payment = self.till.stage, self.payment
        if stage.chance(0.5):
            payment.dispute = "lost"
            stage.stories["dispute lost"] += 1
            stage.send("charge.dispute.closed", self.said("lost"))
            return
        payment.dispute, payment.disputed = "won", 0
        stage.stories["dispute won"] += 1
        self.books("reversed", self.amount)
        stage.send_in_any_order(
            ("charge.dispute.funds_reinstated", self.said("won")),
            ("charge.dispute.closed", self.said("won")),
        )
