"""What the API should answer, made from the reference."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.simulation import reference
from tests.simulation.reference import Ledger, Line, Subscription, show

Json = dict[str, Any]

REASONS = {
    "subscription_paused": "The subscription is paused.",
    "subscription_cancelled": "The subscription is cancelled.",
    "billed_monthly": "The plan grants nothing to monthly subscriptions.",
    "billed_yearly": "The plan grants nothing to yearly subscriptions.",
    "plan_grants_nothing": "The plan grants no monthly credits.",
    "plan_unknown": "The plan is no longer in the catalogue of plans.",
    "subscription_ended": "The subscription ends before the next allocation.",
}


def first_day(subscription: Subscription, period: str | None) -> str | None:
    """The local date on which a period begins."""
    day = subscription.day(subscription.timezone, reference.plans_at())
    return period and str(reference.first_date(period, day))


def moves(who: str, line: Line) -> list[Json]:
    return [{"batch_id": f"{who}-{batch}", "amount": amount} for batch, amount in line.legs]


def opened(who: str, line: Line) -> Json:
    """What is told of a hold that was opened."""
    assert line.opens is not None
    return {
        "hold_id": f"{who}-{line.opens.number}",
        "amount": line.opens.amount,
        "expires_at": show(line.opens.ends_at),
    }


def ended(who: str, line: Line) -> Json:
    """What is told of the end of a hold, beside what is told of every operation."""
    told: Json = {"released": line.released}
    if line.type == "usage":
        told |= {"captured": -line.amount, "batches": moves(who, line)}
    return told


def holds(who: str, ledger: Ledger, moment: datetime) -> Json:
    """The active holds of a user, the oldest first."""
    return {
        "holds": [
            {
                **opened(who, line),
                "description": line.description,
                "held_at": show(line.posted_at),
                "metadata": {},
            }
            for line in (ledger.lines[hold.number - 1] for hold in ledger.active(moment))
        ]
    }


def balance(who: str, ledger: Ledger, moment: datetime) -> Json:
    held = ledger.held(moment)
    return {
        "available_balance": ledger.available(moment),
        "held_balance": sum(hold.amount for hold in ledger.active(moment)),
        "ledger_balance": ledger.balance,
        "as_of": show(moment),
        "batches": [
            {
                "batch_id": f"{who}-{grant.number}",
                "granted_amount": grant.amount,
                "remaining_amount": ledger.left[grant.number],
                "granted_at": show(grant.granted_at),
                "expires_at": grant.expires_at and show(grant.expires_at),
                "held_amount": held[grant.number],
                "priority": grant.priority,
                "source": grant.source,
            }
            for grant in ledger.open()
        ],
        "holds": [opened(who, ledger.lines[hold.number - 1]) for hold in ledger.active(moment)],
    }


def why_not(subscription: Subscription, period: str | None) -> Json | None:
    """Why no allocation is to come."""
    if period:
        return None
    code = {"paused": "subscription_paused", "cancelled": "subscription_cancelled"}.get(
        subscription.status, f"billed_{subscription.billing_interval}"
    )
    if subscription.is_stranded:
        code = "plan_unknown"
    elif subscription.is_swept and subscription.is_paid(reference.plans_at()):
        code = "subscription_ended" if subscription.receives else "plan_grants_nothing"
    return {"code": code, "words": REASONS[code]}


def edited(subscription: Subscription, ledger: Ledger, now: datetime) -> Json:
    """What an editor is told, or a reader: the fields, and what follows from them."""
    period = subscription.next_period(ledger.through, now)
    eligible = subscription.eligible_from
    plain = ("user_id", "email", "timezone", "plan", "billing_interval", "status")
    return {
        **{name: getattr(subscription, name) for name in (*plain, "allocation_amount")},
        "started_at": show(subscription.started_at),
        "eligible_from": show(eligible),
        "ends_at": subscription.ends_at and show(subscription.ends_at),
        "observed_at": subscription.observed_at and show(subscription.observed_at),
        "language": subscription.language,
        "notifications": [kind for kind in KINDS if kind in subscription.notifications],
        "next_credit_allocation": first_day(subscription, period),
        "credit_allocation_amount": subscription.amount_for(period) if period else 0,
        "not_allocated_because": why_not(subscription, period),
    }


KINDS = (
    *("allocation", "expiration", "expiring_soon", "manual", "purchase", "refund"),
    "low_balance",
)


def schedule(subscription: Subscription, ledger: Ledger, now: datetime) -> Json:
    """When the next credits come, what is there now, and what of it expires when."""
    period = subscription.next_period(ledger.through, now)
    timezone = subscription.timezone
    days: dict[str, int] = {}
    for grant in ledger.alive(now):
        if grant.expires_at:
            # What is still held then does not expire with it.
            dying = ledger.left[grant.number] - ledger.held(grant.expires_at)[grant.number]
            if dying:
                day = str(reference.local_day(timezone, grant.expires_at))
                days[day] = days.get(day, 0) + dying
    return {
        "next_allocation_date": first_day(subscription, period),
        "allocation_amount": subscription.amount_for(period) if period else 0,
        "current_balance": ledger.available(now),
        "expiring_credits": [
            {"amount": amount, "expires_at": day} for day, amount in sorted(days.items())
        ],
        "next_allocation_at": period and show(subscription.start(period)),
        "timezone": timezone,
        "not_allocated_because": why_not(subscription, period),
        "balance_cap": subscription.full_at if period else None,
    }


HISTORY = (
    *("transaction_id", "type", "amount", "balance_after"),
    *("effective_at", "posted_at", "allocation_period", "batches"),
    *("hold_id", "held_amount", "released_amount", "metadata"),
    *("payment_id", "price", "refunded_amount", "unrecovered_amount"),
    *("left_out_amount", "balance_cap"),
)


PAID = ("purchase", "refund")


def refunded(who: str, ledger: Ledger, number: int) -> Json:
    """What is told of a refund, the line of that number."""
    ledger = ledger.until(number)
    line = ledger.lines[-1]
    return {
        "success": True,
        "transaction_id": f"{who}-{number}",
        "new_balance": ledger.available(line.posted_at),
        "taken": max(-line.amount, 0),
        "given_back": max(line.amount, 0),
        "expired_amount": line.expired,
        "unrecovered": line.refunded - ledger.taken_back(line.refunds),
    }


def history(who: str, ledger: Ledger) -> Iterator[tuple[Line, Json]]:
    """Every line and its item of the history, newest first."""
    balance = 0
    items = []
    for number, line in enumerate(ledger.lines, 1):
        balance += line.amount
        item = {
            "transaction_id": f"{who}-{number}",
            "type": line.type,
            "amount": line.amount,
            "balance_after": balance,
            "effective_at": show(line.effective_at),
            "posted_at": show(line.posted_at),
            "allocation_period": line.through if line.type == "allocation" else None,
            "batches": moves(who, line),
            "hold_id": f"{who}-{number if line.opens else line.ends}",
            "held_amount": line.opens.amount if line.opens else None,
            "released_amount": line.released if line.ends else None,
            "metadata": {},
            "payment_id": line.operation.partition("#")[2] if line.type in PAID else None,
            "price": line.price and {"amount": line.price[0], "currency": line.price[1]},
            "refunded_amount": None,
            "unrecovered_amount": None,
            "left_out_amount": line.left_out or None,
            "balance_cap": line.full_at,
        }
        if line.refunds:
            item["refunded_amount"] = line.refunded
            taken = ledger.until(number).taken_back(line.refunds)
            item["unrecovered_amount"] = line.refunded - taken
        if not (line.opens or line.ends):
            item["hold_id"] = None
        items.append((line, item))
    yield from reversed(items)


def previewed(
    who: str, subscription: Subscription, ledger: Ledger, start: datetime, now: datetime
) -> list[Json]:
    """What a run as of an instant would post to a user."""
    ledger = ledger.until(len(ledger.lines))
    items: list[Json] = []
    while True:
        step, due = subscription.step_due(ledger), subscription.due(ledger.through, start, now)
        if not step and not due:
            return items
        line = (
            ledger.step_up(subscription, step, now)
            if step
            else ledger.allocate(subscription, due[0], now)
        )
        ledger.add(line)
        end = line.grant and line.grant.expires_at
        item = {"user_id": who, "timezone": subscription.timezone}
        more = {"allocation_period": line.through, "amount": line.amount}
        end_of_it = {"expires_at": end and show(end), "left_out_amount": line.left_out or None}
        items.append({**item, **more, **end_of_it})


def counted(subscription: Subscription, ledger: Ledger, period: str, now: datetime) -> str:
    """What a user is counted as where it is asked whether a period is complete."""
    allocations = [line for line in ledger.lines if line.type == "allocation" and not line.is_step]
    given = sum(line.through == period for line in allocations)
    if given:
        return "duplicate" if given > 1 else "allocated"
    if subscription.is_stranded:
        return "unchecked"
    start = subscription.start(period)
    return "missing" if period in subscription.due(ledger.through, start, now) else "not due"
