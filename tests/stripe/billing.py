"""The invoices of the made-up shop."""

from datetime import datetime

from tests.stripe import payloads
from tests.stripe.payloads import Json
from tests.stripe.people import Bill, Membership, User
from tests.stripe.stage import HELP, Stage
from tests.stripe.till import Till


class Billing:
    """What is billed, and what becomes of it."""

    def __init__(self, stage: Stage, till: Till) -> None:
        self.stage = stage
        self.till = till
        self._bills = 0

    def said(self, bill: Bill) -> Json:
        """The invoice as it is now."""
        version, one = self.stage.version, bill.membership
        line = payloads.invoice_line(
            version,
            id=bill.line,
            invoice=bill.id,
            price=self.stage.price(bill.price),
            amount=bill.amount,
            period_start=bill.period_start,
            period_end=bill.period_end,
            subscription=one.id if one else None,
            subscription_item=one.item if one else None,
            invoice_item=bill.invoice_item,
            proration=bill.reason == "subscription_update" and bill.invoice_item is not None,
        )
        return payloads.invoice(
            version,
            id=bill.id,
            created=bill.created,
            customer=str(bill.user.customer),
            status=bill.status,
            amount=bill.amount,
            billing_reason=bill.reason,
            lines=[line],
            period_start=bill.period_start,
            period_end=bill.period_end,
            subscription=one.id if one else None,
            subscription_metadata=bill.metadata,
            payment_intent=bill.payment.intent if bill.payment else None,
            charge=bill.payment.charge if bill.payment else None,
            number=bill.number,
            email=bill.user.email,
            attempt_count=bill.attempts,
            next_payment_attempt=bill.next_attempt,
            finalized_at=bill.finalized_at,
            paid_at=bill.paid_at,
            voided_at=bill.voided_at,
            marked_uncollectible_at=bill.uncollectible_at,
        )

    def made(self, one: Membership, reason: str, amount: int) -> Bill:
        """A new invoice for the current period of a subscription."""
        stage = self.stage
        self._bills += 1
        is_proration = reason == "subscription_update"
        return Bill(
            id=stage.new_id("in"),
            user=one.user,
            reason=reason,
            price=one.price,
            amount=amount,
            created=stage.now,
            period_start=one.period_start,
            period_end=one.period_end,
            number=f"SHOP-{self._bills:04d}",
            membership=one,
            metadata=dict(one.metadata),
            line=stage.new_id("il"),
            invoice_item=stage.new_id("ii") if is_proration else None,
        )

    def bill_by_hand(self, user: User) -> None:
        """Bill a customer for something that has nothing to do with a subscription."""
        stage = self.stage
        self._bills += 1
        bill = Bill(
            id=stage.new_id("in"),
            user=user,
            reason="manual",
            price=HELP,
            amount=stage.random.randint(1000, 9000),
            created=stage.now,
            period_start=stage.now,
            period_end=stage.now,
            number=f"SHOP-{self._bills:04d}",
            line=stage.new_id("il"),
            invoice_item=stage.new_id("ii"),
        )
        stage.send("invoice.created", self.said(bill))
        self.finalize(bill)
        self.paid(bill)

    def finalize(self, bill: Bill) -> None:
        """Make a draft binding."""
        bill.status, bill.finalized_at = "open", self.stage.now
        self.stage.send("invoice.finalized", self.said(bill))

    def paid(self, bill: Bill) -> None:
        """Take its money."""
        stage = self.stage
        if bill.status == "draft":
            self.finalize(bill)
        if bill.amount > 0:
            self.till.pay_bill(bill)
        bill.status, bill.paid_at, bill.next_attempt = "paid", stage.now, None
        bill.attempts += 1
        stage.stories[f"paid: {bill.reason}"] += 1
        said = self.said(bill)
        if bill.payment and stage.version >= "2025-03-31":
            stage.send("invoice_payment.paid", self._payment_of(bill))
        stage.send_in_any_order(("invoice.paid", said), ("invoice.payment_succeeded", said))

    def _payment_of(self, bill: Bill) -> Json:
        return payloads.invoice_payment(
            self.stage.version,
            id=bill.id.replace("in_", "inpay_"),
            created=self.stage.now,
            amount=bill.amount,
            invoice=bill.id,
            payment_intent=bill.payment.intent if bill.payment else "",
        )

    def not_paid(self, bill: Bill, next_attempt: datetime | None) -> None:
        """Try to take its money; the bank declines."""
        self.till.fail_to_pay_bill(bill)
        bill.attempts += 1
        bill.next_attempt = next_attempt
        self.stage.send("invoice.payment_failed", self.said(bill))

    def void(self, bill: Bill) -> None:
        """Ask for nothing any more."""
        bill.status, bill.voided_at, bill.next_attempt = "void", self.stage.now, None
        self.stage.send("invoice.voided", self.said(bill))

    def mark_uncollectible(self, bill: Bill) -> None:
        """Give its money up."""
        bill.status, bill.uncollectible_at = "uncollectible", self.stage.now
        self.stage.send("invoice.marked_uncollectible", self.said(bill))
