"""When a user's credits will run out, at the rates of the days before."""

from collections.abc import Callable
from datetime import timedelta

from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.forecasts import (
    NOTHING,
    Forecast,
    Rate,
    Spending,
    forecast,
    spending_of,
)
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account
from chalicelib.store.ledger_reading import ENTRIES_A_SEARCH

from .answers import Answer, Json, by_day, why_not
from .calls import Call, ensure_user

WINDOWS = (7, 30, 90)
"""Each rate is the average daily spending of this many days."""

ASSUMPTIONS = {
    "subscription_stays": "The subscription and its plan stay as they are.",
    "spending_goes_on": "Credits are spent evenly, a day's at its end, today's whole.",
    "holds_lapse": "Holds that are open now lapse unused at their end.",
    "nothing_is_bought": "Nothing is bought, granted by hand, given back or refunded.",
}


def outlook(call: Call) -> Answer:
    """Future grants and expiries, and when the credits run out at each rate."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    query.finish()
    services, whose = call.services, call.principal.reads_credits_of(user_id)
    now = services.now()
    since = now - timedelta(days=max(WINDOWS))
    latest = services.ledger.back_to(whose, since, ENTRIES_A_SEARCH)
    ensure_user(services, whose, has_entries=bool(latest))
    account = Account(whose, latest[0] if latest else None)
    subscription = services.subscriptions.find(whose)

    def at(rate: Rate) -> Forecast:
        return forecast(services.catalogue, subscription, account, now, rate)

    certain, moment = at(NOTHING), account.time(now)
    return Answer(
        {
            "as_of": format_instant(moment),
            "until": certain.until.isoformat(),
            "available_balance": account.available_balance(moment),
            "allocations": [
                {"on": each.on.isoformat(), "at": format_instant(each.at), "amount": each.amount}
                for each in certain.grants
            ],
            "expiring_credits": by_day(certain.expiring),
            "rates": [_at_rate(spending_of(latest, now, days), at) for days in WINDOWS],
            "assumptions": [{"code": code, "words": words} for code, words in ASSUMPTIONS.items()],
        }
    )


def _at_rate(spending: Spending, at: Callable[[Rate], Forecast]) -> Json:
    found = at(spending.rate) if spending.rate else None
    return {
        "window_days": spending.window_days,
        "days": max(0, spending.days),
        "spent_amount": max(0, spending.spent),
        "runs_out_on": found and found.runs_out_on and found.runs_out_on.isoformat(),
        "expiring_credits": by_day(found.expiring) if found else [],
        "no_rate_because": why_not(spending.because),
    }
