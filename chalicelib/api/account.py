"""A user's credits: the schedule, the balance, the history; using credits and giving them back."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from chalicelib.domain import calendar
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.errors import InvalidInput, NotFound
from chalicelib.domain.fields import parse_amount, parse_choice, parse_text, parse_user_id
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.subscriptions import next_allocation, no_allocation_because
from chalicelib.operations import on_request
from chalicelib.services import Services

from . import cursors
from .answers import Answer, Json, batch_id, moves, performed, why_not
from .calls import Call, parse_limit

DEFAULT_PAGE = 20
"""The default number of entries on a page of the history."""


def allocation_schedule(call: Call) -> Answer:
    """The next credits, the present ones, and the local dates on which they expire."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    query.finish()
    services = call.services
    subscription = services.subscriptions.get(call.principal.reads_credits_of(user_id))
    account = services.ledger.account(subscription.user_id)
    now = account.time(services.now())
    upcoming = next_allocation(subscription, services.catalogue, account.allocated_through, now)
    reason = no_allocation_because(subscription, services.catalogue, account.allocated_through, now)
    return Answer(
        {
            "next_allocation_date": upcoming and upcoming.period.first_day.isoformat(),
            "allocation_amount": upcoming.amount if upcoming else 0,
            "current_balance": account.available_balance(now),
            "expiring_credits": _expiring(
                account, calendar.known_or_utc(subscription.timezone), now
            ),
            "next_allocation_at": upcoming and format_instant(upcoming.at),
            "timezone": subscription.timezone,
            "not_allocated_because": why_not(reason),
        }
    )


def _expiring(account: Account, timezone: str, now: datetime) -> list[Json]:
    amounts: Counter[str] = Counter()
    for batch in account.batches:
        if batch.expires_at and batch.is_usable(now):
            amounts[calendar.local_date(timezone, batch.expires_at).isoformat()] += batch.remaining
    return [{"amount": amount, "expires_at": day} for day, amount in sorted(amounts.items())]


def balance(call: Call) -> Answer:
    """What a user has, batch by batch, now or at a past instant."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    instant = query.optional("at", parse_instant)
    query.finish()
    services = call.services
    whose = call.principal.reads_credits_of(user_id)
    if instant is None:
        account = services.ledger.account(whose)
    else:
        if instant > services.now():
            raise InvalidInput.of(
                "at", f"must not be in the future; it is {format_instant(services.now())} now"
            )
        account = services.ledger.account_at(whose, instant)
    _ensure_user(services, whose, has_entries=account.last is not None)
    as_of = instant or account.time(services.now())
    return Answer(
        {
            "available_balance": account.available_balance(as_of),
            "ledger_balance": account.ledger_balance,
            "as_of": format_instant(as_of),
            "batches": [
                {
                    "batch_id": batch_id(whose, batch.number),
                    "granted_amount": batch.granted,
                    "remaining_amount": batch.remaining,
                    "granted_at": format_instant(batch.granted_at),
                    "expires_at": batch.expires_at and format_instant(batch.expires_at),
                }
                for batch in account.batches
            ],
        }
    )


def history(call: Call) -> Answer:
    """A page of everything that happened to a user's credits, newest first."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    limit = query.optional("limit", parse_limit)
    kind = query.optional("type", parse_choice(EntryType))
    since = query.optional("from", parse_instant)
    until = query.optional("to", parse_instant)
    cursor = query.optional("cursor", cursors.parse_cursor)
    if since and until and since >= until:
        query.reject("to", "must be after from")
    query.finish()
    ledger = call.services.ledger
    whose = call.principal.reads_credits_of(user_id)
    listing = f"history {whose} {kind} {since} {until}"
    position = cursors.decode(listing, cursor, _ENTRY_NUMBER)
    if position is not None:
        below = int(position)
    elif until is not None:
        below = ledger.account_at(whose, until - _MILLISECOND).next_number
    else:
        below = None
    page = ledger.page(whose, limit or DEFAULT_PAGE, below, kind=kind, since=since)
    _ensure_user(call.services, whose, has_entries=bool(page.entries or position))
    next_cursor = cursors.encode(listing, str(page.below)) if page.below else None
    items = [_item(entry) for entry in page.entries]
    if prefers_csv(call.header("accept")):
        more = {"Next-Cursor": next_cursor} if next_cursor else {}
        return Answer(_csv(items), headers={"Content-Type": "text/csv; charset=utf-8", **more})
    return Answer({"items": items, "next_cursor": next_cursor})


_ENTRY_NUMBER = "[1-9][0-9]{0,11}"

_MILLISECOND = timedelta(milliseconds=1)
"""Instants are kept to the millisecond, so "before" an instant means one millisecond earlier."""


def use(call: Call) -> Answer:
    """Spends credits, oldest first: the caller's own, or for a backend anybody's."""
    call.authenticated()
    key = call.idempotency_key()
    body = call.body()
    user_id = body.optional("user_id", parse_user_id)
    amount = body.required("amount", parse_amount)
    description = body.required("description", parse_text)
    body.finish()
    principal = call.principal
    outcome = on_request.use_credits(
        call.services,
        principal.uses_credits_of(user_id),
        amount,
        description,
        caller=principal.caller,
        key=key,
    )
    return performed(outcome, batches=moves(outcome.entry))


def reverse(call: Call) -> Answer:
    """Gives a usage back to the batches it came from, wholly or partly."""
    call.principal.may_reverse()
    key = call.idempotency_key()
    body = call.body()
    user_id = body.required("user_id", parse_user_id)
    transaction_id = body.required("transaction_id", _parse_transaction_id)
    amount = body.optional("amount", parse_amount)
    reason = body.required("reason", parse_text)
    body.finish()
    outcome = on_request.reverse_usage(
        call.services,
        user_id,
        transaction_id,
        amount,
        reason,
        caller=call.principal.caller,
        key=key,
    )
    return performed(
        outcome,
        returned_amount=outcome.entry.amount,
        expired_amount=outcome.expired,
        batches=moves(outcome.entry),
    )


def prefers_csv(accept: str | None) -> bool:
    """Whether an Accept header asks for CSV rather than for the JSON that everybody else gets."""
    return _quality(accept, "text/csv") > _quality(accept, "application/json")


def _quality(accept: str | None, media_type: str) -> float:
    for accepted in (accept or "").lower().split(","):
        name, *parameters = (part.strip() for part in accepted.split(";"))
        if name == media_type:
            weights = [part[2:] for part in parameters if part.startswith("q=")]
            return _number(weights[0]) if weights else 1.0
    return 0.0


def _number(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0


def _parse_transaction_id(field: str, value: object) -> str:
    if isinstance(value, str) and _TRANSACTION_ID.fullmatch(value):
        return value
    raise InvalidInput.of(field, "must be the transaction_id of a usage")


_TRANSACTION_ID = re.compile(r"[^\ud800-\udfff]{1,141}")
"""At most a user id, a hyphen and twelve digits. Half a character could not be sent back."""


def _ensure_user(services: Services, user_id: str, *, has_entries: bool) -> None:
    """Raises `NotFound` for a user who does not exist. A user with entries exists, if erased, too.

    ``has_entries``: whether any were found; others may be of another type or time.
    """
    if has_entries:
        return
    try:
        services.subscriptions.get(user_id)
    except NotFound:
        if services.ledger.account(user_id).last is None:
            raise


def _item(entry: LedgerEntry) -> Json:
    is_allocation = entry.type is EntryType.ALLOCATION
    return {
        "transaction_id": entry.transaction_id,
        "type": entry.type.value,
        "amount": entry.amount,
        "balance_after": entry.balance,
        "description": entry.description,
        "actor": entry.actor,
        "effective_at": format_instant(entry.effective_at),
        "posted_at": format_instant(entry.posted_at),
        "allocation_period": str(entry.allocated_through) if is_allocation else None,
        "batches": moves(entry),
    }


_COLUMNS = (
    "transaction_id",
    "type",
    "amount",
    "balance_after",
    "description",
    "actor",
    "effective_at",
    "posted_at",
    "allocation_period",
    "batches",
)


def _csv(items: Iterable[Json]) -> str:
    """The items as RFC 4180 CSV with a header line; semicolons separate several batches."""
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for item in items:
        batches = "; ".join(f"{leg['batch_id']} {leg['amount']}" for leg in item["batches"])
        row = {**item, "batches": batches}
        writer.writerow(_cell(row[column]) for column in _COLUMNS)
    return text.getvalue()


def _cell(value: object) -> object:
    # A spreadsheet would run a text that begins like a formula: an apostrophe keeps it a text.
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


_FORMULA = re.compile(r"""((?:^|[;\t\r\n])[\s"]*?)(?=[=+\-@\t\r＝＋－＠﹦﹢﹣﹫])""")
"""Finds places where a formula could begin. Some spreadsheets separate cells by semicolons (Excel
does in much of Europe) or tabs, and ignore quotes in the middle of a cell: so a cell can also begin
there. Excel takes characters of full width for the narrow ones
(https://owasp.org/www-community/attacks/CSV_Injection)."""
