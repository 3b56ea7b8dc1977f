"""The subscriptions of the made-up shop: how they begin, go on and end, and what is billed."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tests.stripe import payloads
from tests.stripe.billing import Billing
from tests.stripe.payloads import Json
from tests.stripe.people import Bill, KnownBy, Membership, User
from tests.stripe.stage import PLANS, PRICES, Stage, changed, months_after
from tests.stripe.till import Till

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
UPDATED = "customer.subscription.updated"
ATTEMPTS = 3  # to take the money of an invoice


def period_of(price: str) -> int:
    """How many months a price is for."""
    return 12 if PRICES[price].interval == "yearly" else 1


def next_end(membership: Membership) -> datetime:
    """When the period after the current one ends."""
    months = period_of(membership.price)
    passed = 0
    while (end := months_after(membership.anchor, passed)) <= membership.period_end:
        passed += months
    return end


class Subscribing:
    """What Stripe does with subscriptions, by itself or because somebody asks."""

    def __init__(self, stage: Stage, till: Till) -> None:
        self.stage = stage
        self.billing = Billing(stage, till)

    # What Stripe says of them.

    def said(self, one: Membership) -> Json:
        """The subscription as it is now."""
        version = self.stage.version
        item = payloads.subscription_item(
            version,
            id=one.item,
            created=one.created,
            subscription=one.id,
            price=self.stage.price(one.price),
            period_start=one.period_start,
            period_end=one.period_end,
        )
        return payloads.subscription(
            version,
            id=one.id,
            customer=str(one.user.customer),
            created=one.created,
            status=one.status,
            items=[item],
            period_start=one.period_start,
            period_end=one.period_end,
            billing_cycle_anchor=one.anchor,
            metadata=one.metadata,
            cancel_at=one.cancel_at,
            cancel_at_period_end=one.cancel_at_period_end,
            canceled_at=one.canceled_at,
            cancellation_reason=one.cancellation_reason,
            ended_at=one.ended_at,
            trial_start=one.trial_start,
            trial_end=one.trial_end,
            missing_payment_method=one.missing_payment_method,
            pause_behavior=one.pause_behavior,
            pause_resumes_at=one.pause_resumes_at,
            paused_at=one.paused_at,
            latest_invoice=one.latest_invoice.id if one.latest_invoice else None,
        )

    def change(self, one: Membership, **to: Any) -> None:
        """Change a subscription, and say what of it was otherwise before."""
        before = self.said(one)
        for name, value in to.items():
            setattr(one, name, value)
        after = self.said(one)
        if before != after:
            self.stage.send(UPDATED, after, changed(before, after))

    def customer_of(self, user: User) -> Json:
        """The customer as it is now."""
        is_told = user.known_by is KnownBy.CUSTOMER
        return payloads.customer(
            self.stage.version,
            id=str(user.customer),
            created=user.customer_since or self.stage.now,
            email=user.email,
            metadata={"user_id": user.id} if is_told else {},
        )

    def become_customer(self, user: User) -> None:
        """Be a customer, if the user is not one yet."""
        if user.customer is None:
            user.customer, user.customer_since = self.stage.new_id("cus"), self.stage.now
            self.stage.stories[f"known by {user.known_by}"] += 1
            self.stage.send("customer.created", self.customer_of(user))

    def change_address(self, user: User) -> None:
        """Have another email address."""
        before = self.customer_of(user)
        user.email = f"other.{user.email}"
        after = self.customer_of(user)
        self.stage.send("customer.updated", after, changed(before, after))

    # How they begin.

    def sign_up(self, user: User) -> None:
        """Begin a subscription, on the checkout page or by the shop's own page."""
        stage = self.stage
        old = user.newest
        self.become_customer(user)
        by_checkout = stage.chance(0.4)
        if user.known_by is KnownBy.SESSION and not user.is_known:
            by_checkout = user.is_known = True
        has_trial = stage.chance(0.15 if user.memberships else 0.4)
        one = self._new(user, has_trial=has_trial)
        if old is not None:
            stage.stories["coming back before the old one ends"] += 1
        elif any(earlier.ended_at for earlier in user.memberships[:-1]):
            stage.stories["coming back after the end"] += 1
        stage.stories["sign-up with trial" if has_trial else "sign-up without trial"] += 1
        session_comes_first = by_checkout and stage.chance(0.4)
        if not has_trial and (by_checkout or stage.chance(0.6)) and stage.chance(0.6):
            one.status = "active"
        is_paid = has_trial or one.status == "active" or by_checkout
        if session_comes_first:
            self._checked_out(one)
        stage.send("customer.subscription.created", self.said(one))
        self._finalize_first(one)
        if is_paid:
            stage.a_moment_passes()
            self._pay_first(one)
        else:
            self._pay_first_later(one)
        if by_checkout and not session_comes_first:
            stage.a_moment_passes()
            self._checked_out(one)

    def _new(self, user: User, *, has_trial: bool) -> Membership:
        stage = self.stage
        price = stage.one_of(PLANS)
        metadata = {"campaign": "spring"} if stage.chance(0.2) else {}
        if user.known_by is KnownBy.SUBSCRIPTION:
            metadata["user_id"] = user.id
        trial_end = stage.now + 14 * DAY if has_trial else None
        one = Membership(
            id=stage.new_id("sub"),
            item=stage.new_id("si"),
            user=user,
            price=price,
            created=stage.now,
            status="trialing" if has_trial else "incomplete",
            period_start=stage.now,
            period_end=trial_end or months_after(stage.now, period_of(price)),
            anchor=trial_end or stage.now,
            metadata=metadata,
            trial_start=stage.now if has_trial else None,
            trial_end=trial_end,
        )
        if has_trial and stage.chance(0.5):
            one.has_payment_method = False
            one.missing_payment_method = "pause" if stage.chance(0.75) else "cancel"
        if trial_end:
            stage.at(trial_end - 3 * DAY, partial(self._warn_of_trial_end, one))
        amount = 0 if has_trial else PRICES[price].amount
        one.latest_invoice = self.billing.made(one, "subscription_create", amount)
        user.memberships.append(one)
        stage.at(one.period_end, partial(self._period_ends, one, one.period_end))
        return one

    def _warn_of_trial_end(self, one: Membership) -> None:
        if one.lives and one.status == "trialing":
            self.stage.send("customer.subscription.trial_will_end", self.said(one))

    def _checked_out(self, one: Membership) -> None:
        user, now = one.user, self.stage.now
        is_told = user.known_by is not KnownBy.SUBSCRIPTION or self.stage.chance(0.3)
        session = payloads.checkout_session(
            self.stage.version,
            id=self.stage.new_id("cs_live"),
            created=now - 90 * SECOND,
            expires_at=now + DAY,
            mode="subscription",
            payment_status="no_payment_required" if one.trial_end else "paid",
            amount_total=one.latest_invoice.amount if one.latest_invoice else 0,
            customer=user.customer,
            client_reference_id=user.id if is_told else None,
            subscription=one.id,
            invoice=one.latest_invoice.id if one.latest_invoice else None,
            email=user.email,
        )
        self.stage.stories["subscribed by checkout"] += 1
        self.stage.send("checkout.session.completed", session)

    def _finalize_first(self, one: Membership) -> None:
        bill = one.latest_invoice
        if bill is not None:
            self.stage.send("invoice.created", self.billing.said(bill))
            self.billing.finalize(bill)

    def _pay_first(self, one: Membership) -> None:
        if one.latest_invoice is not None:
            self._paid(one.latest_invoice)

    def _pay_first_later(self, one: Membership) -> None:
        """The first payment does not work: it does within a day, or it never will."""
        stage = self.stage
        if one.latest_invoice is not None:
            self.billing.not_paid(one.latest_invoice, None)
        if stage.chance(0.5):
            stage.stories["first payment that works later"] += 1
            stage.later(60 * SECOND, 20 * HOUR, partial(self._pay_first, one))
        else:
            stage.at(stage.now + 23 * HOUR, partial(self._expire, one))

    def _expire(self, one: Membership) -> None:
        self.stage.stories["incomplete_expired"] += 1
        if one.latest_invoice is not None:
            self.billing.void(one.latest_invoice)
        self.change(one, status="incomplete_expired", ended_at=self.stage.now)

    # How they go on.

    def _period_ends(self, one: Membership, end: datetime) -> None:
        """The next period begins; or nothing, if the subscription is not what it was then."""
        is_as_it_was = one.period_end == end and one.ended_at is None
        if not is_as_it_was or one.status in ("incomplete", "incomplete_expired", "paused"):
            return
        if one.cancel_at is not None and one.cancel_at <= end:
            self.stage.stories["ended as was wished"] += 1
            self._end(one)
        elif one.status == "trialing" and not one.has_payment_method:
            self._trial_ends_without_method(one)
        else:
            self._renew(one)

    def _trial_ends_without_method(self, one: Membership) -> None:
        stage = self.stage
        if one.missing_payment_method == "cancel":
            stage.stories["trial that ends for want of a payment method"] += 1
            self._end(one)
            return
        stage.stories["paused"] += 1
        before = self.said(one)
        one.status, one.paused_at = "paused", stage.now
        after = self.said(one)
        stage.send_in_any_order(
            ("customer.subscription.paused", after), (UPDATED, after, changed(before, after))
        )

    def resume(self, one: Membership) -> None:
        """Add a payment method to a subscription that is paused for want of one."""
        stage = self.stage
        stage.stories["resumed"] += 1
        before = self.said(one)
        one.has_payment_method = True
        one.status, one.paused_at = "active", None
        self._restart_period(one)
        one.latest_invoice = bill = self.billing.made(
            one, "subscription_update", PRICES[one.price].amount
        )
        after = self.said(one)
        stage.send_in_any_order(
            ("customer.subscription.resumed", after), (UPDATED, after, changed(before, after))
        )
        stage.send("invoice.created", self.billing.said(bill))
        self._paid(bill)

    def _restart_period(self, one: Membership) -> None:
        now = self.stage.now
        one.anchor = one.period_start = now
        one.period_end = months_after(now, period_of(one.price))
        self.stage.at(one.period_end, partial(self._period_ends, one, one.period_end))

    def _renew(self, one: Membership) -> None:
        stage = self.stage
        before = self.said(one)
        if one.status == "trialing":
            one.status = "active"
            stage.stories["trial that becomes active"] += 1
        one.period_start, one.period_end = one.period_end, next_end(one)
        stage.at(one.period_end, partial(self._period_ends, one, one.period_end))
        one.latest_invoice = bill = self.billing.made(
            one, "subscription_cycle", PRICES[one.price].amount
        )
        after = self.said(one)
        stage.send(UPDATED, after, changed(before, after))
        stage.send("invoice.created", self.billing.said(bill))
        if one.pause_behavior is not None:
            self._collect_nothing(one, bill)
        elif one.status != "unpaid":
            stage.at(stage.now + HOUR, partial(self._collect, one, bill))

    def _paid(self, bill: Bill) -> None:
        """An invoice is paid; if its subscription waited for that, it goes on."""
        self.billing.paid(bill)
        one = bill.membership
        if one and one.ended_at is None and one.status in ("incomplete", "past_due", "unpaid"):
            self.stage.stories[f"{one.status} becomes active"] += 1
            self.change(one, status="active")

    def _collect_nothing(self, one: Membership, bill: Bill) -> None:
        self.stage.stories["period in which nothing is collected"] += 1
        if one.pause_behavior == "keep_as_draft":
            return
        self.billing.finalize(bill)
        if one.pause_behavior == "void":
            self.billing.void(bill)
        else:
            self.billing.mark_uncollectible(bill)

    def _collect(self, one: Membership, bill: Bill) -> None:
        """Take the money of a period, or try again some days later, or give up."""
        stage = self.stage
        if one.ended_at is not None or bill.status in ("paid", "void", "uncollectible"):
            return
        if one.pause_behavior is not None:
            self._collect_nothing(one, bill)
            return
        if bill.status == "draft":
            self.billing.finalize(bill)
        if stage.chance(0.75 if bill.attempts == 0 else 0.35):
            self._paid(bill)
        elif bill.attempts + 1 < ATTEMPTS:
            again = stage.now + 3 * DAY
            self.billing.not_paid(bill, again)
            if one.status == "active":
                stage.stories["past_due"] += 1
                self.change(one, status="past_due")
            stage.at(again, partial(self._collect, one, bill))
        else:
            self.billing.not_paid(bill, None)
            self._give_up(one)

    def _give_up(self, one: Membership) -> None:
        """What is to end anyway ends; another may wait for its money."""
        if one.cancel_at is None and self.stage.chance(0.7):
            self.stage.stories["unpaid"] += 1
            self.change(one, status="unpaid")
        else:
            self.stage.stories["ended for want of payment"] += 1
            self._end(one, "payment_failed")

    def pay_what_is_owed(self, one: Membership) -> None:
        """Pay the last invoice of a subscription that is unpaid."""
        if one.latest_invoice is not None:
            self._paid(one.latest_invoice)

    # What somebody asks for.

    def switch(self, one: Membership) -> None:
        """Take another plan, or pay at other intervals."""
        stage = self.stage
        old = one.price
        price = stage.one_of([name for name in PLANS if name != old])
        monthly = {name: PRICES[name].amount / period_of(name) for name in (old, price)}
        stage.stories["upgrade" if monthly[price] > monthly[old] else "downgrade"] += 1
        is_other_interval = PRICES[price].interval != PRICES[old].interval
        stage.stories["other interval"] += is_other_interval
        if one.status == "trialing":
            self.change(one, price=price)
            return
        before = self.said(one)
        one.price = price
        bill: Bill | None = None
        if is_other_interval:
            self._restart_period(one)
        if is_other_interval or monthly[price] > monthly[old]:
            one.latest_invoice = bill = self.billing.made(
                one, "subscription_update", max(PRICES[price].amount - PRICES[old].amount, 0)
            )
        after = self.said(one)
        stage.send(UPDATED, after, changed(before, after))
        if bill is not None:
            stage.send("invoice.created", self.billing.said(bill))
            self._paid(bill)

    def switch_twice_within_a_second(self, one: Membership) -> None:
        """Think again at once, or, having switched, cancel."""
        stage = self.stage
        same = [name for name in PLANS if PRICES[name].interval == PRICES[one.price].interval]
        first, second = stage.random.sample([name for name in same if name != one.price], 2)
        stage.stories["two changes within a second"] += 1
        self.change(one, price=first)
        if stage.chance(0.6):
            self.change(one, price=second)
        else:
            self.cancel_at_period_end(one)

    def describe(self, one: Membership) -> None:
        """Change what a credit system does not care about."""
        self.change(one, metadata={**one.metadata, "note": self.stage.new_id("note")})

    def pause(self, one: Membership) -> None:
        """Stop collecting money, until a day or until somebody says so."""
        stage = self.stage
        resumes_at = None
        behavior = stage.one_of(("keep_as_draft", "mark_uncollectible", "void"))
        if stage.chance(0.5):
            resumes_at = stage.later(5 * DAY, 50 * DAY, partial(self._pause_ends, one))
        stage.stories["pause_collection"] += 1
        self.change(one, pause_behavior=behavior, pause_resumes_at=resumes_at)

    def _pause_ends(self, one: Membership) -> None:
        until = one.pause_resumes_at
        if one.lives and until is not None and until <= self.stage.now:
            self.end_pause(one)

    def end_pause(self, one: Membership) -> None:
        """Collect money again."""
        self.stage.stories["end of pause_collection"] += 1
        self.change(one, pause_behavior=None, pause_resumes_at=None)

    def cancel_at_period_end(self, one: Membership) -> None:
        """Let it end when what is paid for is over."""
        self.stage.stories["cancel at period end"] += 1
        self.change(
            one,
            cancel_at_period_end=True,
            cancel_at=one.period_end,
            canceled_at=self.stage.now,
            cancellation_reason="cancellation_requested",
        )

    def cancel_on_a_day(self, one: Membership) -> None:
        """Let it end on a day of one's own choice."""
        self.stage.stories["cancel on a day"] += 1
        day = self.stage.now + timedelta(days=self.stage.random.randint(3, 45))
        self.change(
            one,
            cancel_at=day,
            canceled_at=self.stage.now,
            cancellation_reason="cancellation_requested",
        )
        self.stage.at(day, partial(self._day_comes, one, day))

    def _day_comes(self, one: Membership, day: datetime) -> None:
        if one.ended_at is None and one.cancel_at == day:
            self.stage.stories["ended as was wished"] += 1
            self._end(one)

    def take_back(self, one: Membership) -> None:
        """Go on after all."""
        self.stage.stories["cancellation taken back"] += 1
        self.change(
            one,
            cancel_at_period_end=False,
            cancel_at=None,
            canceled_at=None,
            cancellation_reason=None,
        )

    def cancel_now(self, one: Membership) -> None:
        """End it at once."""
        self.stage.stories["cancelled at once"] += 1
        self._end(one, "cancellation_requested")

    def _end(self, one: Membership, reason: str | None = None) -> None:
        stage = self.stage
        if one.user.newest is not one:
            stage.stories["the old one ends after the new one began"] += 1
        if one.pause_behavior is not None:
            stage.stories["ended while paused"] += 1
        one.status, one.ended_at = "canceled", stage.now
        one.canceled_at = one.canceled_at or stage.now
        one.cancellation_reason = one.cancellation_reason or reason
        stage.send("customer.subscription.deleted", self.said(one))
