"""Why credits could or could not be taken at an instant; and why an entry took those it took."""

from functools import partial

from chalicelib.domain.explanations import BatchThen, Explanation, Reason, explain, explain_entry
from chalicelib.domain.fields import MAXIMUM_AMOUNT, parse_text, parse_user_id, place_of
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import Account

from .account import account_then
from .answers import Answer, Json, batch_id, hold_line, line
from .calls import Call, parse_number

LATEST_LINES = 5
"""How many lines of the history before that instant are shown."""


def explanation(call: Call) -> Answer:
    """The account at an instant, and the outcome for an amount; or how an entry came about."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    instant = query.optional("at", parse_instant)
    amount = query.optional("amount", partial(parse_number, most=MAXIMUM_AMOUNT))
    transaction_id = query.optional("transaction_id", parse_text)
    if transaction_id is not None:
        for name, value in {"user_id": user_id, "at": instant, "amount": amount}.items():
            if value is not None:
                query.reject(name, "must be left out with transaction_id, which says it already")
    query.finish()
    if transaction_id is not None:
        return _of_entry(call, *place_of(transaction_id))
    account = account_then(call, call.principal.reads_credits_of(user_id), instant)
    return _answer(call, account, explain(account, amount, instant or call.services.now()))


def _of_entry(call: Call, user_id: str, number: int) -> Answer:
    ledger = call.services.ledger
    whose = call.principal.reads_credits_of(user_id)
    entry = ledger.entry(whose, number)
    before = ledger.account_after(whose, number - 1) if number > 1 else Account(whose)
    return _answer(call, before, explain_entry(before, entry), line(entry))


def _answer(
    call: Call, account: Account, found: Explanation, transaction: Json | None = None
) -> Answer:
    latest = call.services.ledger.history(account.user_id, account.next_number, LATEST_LINES)
    return Answer(
        {
            "at": format_instant(found.at),
            "amount": found.amount,
            "decision": {"code": found.decision.value, "words": found.words},
            "available_amount": found.available,
            "missing_amount": found.missing,
            "reasons": [_reason(each) for each in found.reasons],
            "batches": [_batch(account.user_id, each) for each in found.batches],
            "holds": [hold_line(account.user_id, hold) for hold in found.holds],
            "transaction": transaction,
            "decides_the_same": found.takes_the_same,
            "latest_transactions": [line(entry) for entry in latest],
        }
    )


def _reason(reason: Reason) -> Json:
    return {
        "code": reason.code.value,
        "words": reason.words,
        "amount": reason.amount,
        "until": reason.until and format_instant(reason.until),
    }


def _batch(user_id: str, then: BatchThen) -> Json:
    batch = then.batch
    return {
        "batch_id": batch_id(user_id, batch.number),
        "remaining_amount": batch.remaining,
        "expires_at": batch.expires_at and format_instant(batch.expires_at),
        "held_amount": then.held,
        "open_amount": then.open,
        "taken_amount": then.taken,
    }
