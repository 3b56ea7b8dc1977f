"""A user's credits: the schedule, the balance, the history; using credits and giving them back."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from urllib.parse import unquote

from chalicelib.domain import calendar
from chalicelib.domain.entries import EntryType, UsageItem
from chalicelib.domain.errors import FieldError, InvalidInput
from chalicelib.domain.fields import (
    ENTRY_NUMBER,
    FieldReader,
    parse_amount,
    parse_boolean,
    parse_choice,
    parse_key,
    parse_text,
    parse_user_id,
    place_of,
    shown,
)
from chalicelib.domain.holds import expiring
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import MOST_ITEMS, Account
from chalicelib.domain.metadata import (
    Metadata,
    parse_metadata,
    parse_metadata_key,
    parse_metadata_value,
)
from chalicelib.domain.subscriptions import next_allocation, no_allocation_because
from chalicelib.operations import on_request

from . import cursors
from .answers import Answer, Json, balance_at, by_day, line, moves, performed, why_not
from .calls import Call, ensure_user, parse_limit

DEFAULT_PAGE = 20
"""The default number of entries on a page of the history."""


def allocation_schedule(call: Call) -> Answer:
    """The next credits, the current ones, and the local dates on which they expire."""
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
            "next_allocation_date": upcoming and upcoming.on.isoformat(),
            "allocation_amount": upcoming.amount if upcoming else 0,
            "current_balance": account.available_balance(now),
            "expiring_credits": _expiring(
                account, calendar.known_or_utc(subscription.timezone), now
            ),
            "next_allocation_at": upcoming and format_instant(upcoming.at),
            "timezone": subscription.timezone,
            "not_allocated_because": why_not(reason),
            "balance_cap": upcoming and upcoming.balance_cap,
        }
    )


def _expiring(account: Account, timezone: str, now: datetime) -> list[Json]:
    amounts: Counter[date] = Counter()
    for batch in account.batches:
        if batch.expires_at and batch.is_usable(now):
            day = calendar.local_date(timezone, batch.expires_at)
            amounts[day] += expiring(batch, account.holds)
    return by_day(amounts)


def balance(call: Call) -> Answer:
    """What a user has, batch by batch, now or at a past instant."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    instant = query.optional("at", parse_instant)
    query.finish()
    account = account_then(call, call.principal.reads_credits_of(user_id), instant)
    return Answer(balance_at(account, instant or account.time(call.services.now())))


def account_then(call: Call, whose: str, instant: datetime | None) -> Account:
    """A user's account now, or as it was at an instant. Raises `NotFound`, and `InvalidInput`."""
    services, now = call.services, call.services.now()
    if instant is not None and instant > now:
        raise InvalidInput.of("at", f"must not be in the future; it is {format_instant(now)} now")
    ledger = services.ledger
    account = ledger.account_at(whose, instant) if instant else ledger.account(whose)
    ensure_user(services, whose, has_entries=account.last is not None)
    return account


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
    search = query.optional("search", _parse_search)
    wanted = _metadata_of(query)
    query.finish()
    ledger = call.services.ledger
    whose = call.principal.reads_credits_of(user_id)
    listing = f"history {whose} {kind} {since} {until}"
    listing += f" {wanted}" if wanted else ""
    listing += f" {search!r}" if search else ""
    position = cursors.decode(listing, cursor, ENTRY_NUMBER.pattern)
    if position is not None:
        below = int(position)
    elif until is not None:
        below = ledger.number_since(whose, until)
    else:
        below = None
    page = ledger.page(
        whose,
        limit or DEFAULT_PAGE,
        below,
        kind=kind,
        since=since,
        metadata=wanted,
        search=search or "",
    )
    ensure_user(call.services, whose, has_entries=bool(page.entries or position))
    next_cursor = cursors.encode(listing, str(page.below)) if page.below else None
    items = [line(entry) for entry in page.entries]
    if prefers_csv(call.header("accept")):
        more = {"Next-Cursor": next_cursor} if next_cursor else {}
        return Answer(_csv(items), headers={"Content-Type": "text/csv; charset=utf-8", **more})
    return Answer({"items": items, "next_cursor": next_cursor})


def _parse_search(field: str, value: object) -> str:
    """A text to look for, without blanks around it."""
    text = parse_text(field, value)
    if len(text) > MOST_SEARCHED:
        raise InvalidInput.of(field, f"must have at most {MOST_SEARCHED} characters")
    return text


MOST_SEARCHED = 100
"""The longest text to look for, in characters."""


def _metadata_of(query: FieldReader) -> Metadata:
    """The pairs that entries must have: parameters such as ``metadata.campaign=42``."""
    pairs = {}
    for name in query.names_with("metadata."):
        value = query.required(name, parse_metadata_value)
        pairs[parse_metadata_key(name, name.removeprefix("metadata."))] = value
    return tuple(sorted(pairs.items()))


def use(call: Call) -> Answer:
    """Spends credits, oldest first: the caller's own, or any user's for a backend."""
    call.authenticated()
    key = call.idempotency_key()
    body = call.body()
    user_id = body.optional("user_id", parse_user_id)
    amount = body.required("amount", parse_amount)
    description = body.required("description", parse_text)
    metadata = body.optional("metadata", parse_metadata)
    body.finish()
    principal = call.principal
    outcome = on_request.use_credits(
        call.services,
        principal.uses_credits_of(user_id),
        amount,
        description,
        caller=principal.caller,
        key=key,
        metadata=metadata or (),
    )
    return performed(outcome, batches=moves(outcome.entry))


def use_many(call: Call) -> Answer:
    """Spends the sum of several usages; a key that was charged before costs nothing."""
    call.principal.may_use_many()
    body = call.body()
    user_id = body.required("user_id", parse_user_id)
    items = body.required("items", _parse_items)
    body.finish()
    done = on_request.use_many(call.services, user_id, items, caller=call.principal.caller)
    already = [{"key": key, "transaction_id": name} for key, name in done.already.items()]
    return Answer(
        {
            "success": True,
            "transaction_id": done.entry and done.entry.transaction_id,
            "amount": -done.entry.amount if done.entry else 0,
            "new_balance": done.balance,
            "charged": done.charged,
            "already_charged": already,
        },
        headers={} if done.entry else {"Idempotency-Replayed": "true"},
    )


def _parse_items(field: str, value: object) -> list[UsageItem]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_ITEMS:
        raise InvalidInput.of(field, f"must be a list of 1 to {MOST_ITEMS} usages")
    items = [_item_of(f"{field}[{place}]", each) for place, each in enumerate(value)]
    counted = Counter(item.key for item in items)
    twice = next((key for key, times in counted.items() if times > 1), None)
    if twice is not None:
        raise InvalidInput.of(field, f"must have each key once; {shown(twice)} is there again")
    return items


def _item_of(field: str, value: object) -> UsageItem:
    """One of several usages. Raises `InvalidInput` with the place of each wrong field."""
    try:
        fields = FieldReader(value)
        item = UsageItem(
            key=fields.required("key", parse_key),
            amount=fields.required("amount", parse_amount),
            description=fields.required("description", parse_text),
            metadata=fields.optional("metadata", parse_metadata) or (),
        )
        fields.finish()
    except InvalidInput as error:
        raise InvalidInput(
            FieldError(f"{field}.{wrong.field}", wrong.message) for wrong in error.errors
        ) from error
    return item


def transaction(call: Call) -> Answer:
    """An entry of the ledger, with the usages that it books at once."""
    name = unquote(call.authenticated().without_query().path["transaction_id"])
    user_id, number = place_of(name)
    entry = call.services.ledger.entry(call.principal.reads_credits_of(user_id), number)
    items = [
        {
            "key": item.key,
            "amount": item.amount,
            "description": item.description,
            "metadata": dict(item.metadata),
        }
        for item in entry.items
    ]
    return Answer({**line(entry), "items": items})


def reverse(call: Call) -> Answer:
    """Gives a usage back to the batches it came from, fully or partly."""
    call.principal.may_reverse()
    key = call.idempotency_key()
    body = call.body()
    user_id = body.required("user_id", parse_user_id)
    transaction_id = body.required("transaction_id", _parse_transaction_id)
    amount = body.optional("amount", parse_amount)
    description = body.required("description", parse_text, formerly="reason")
    metadata = body.optional("metadata", parse_metadata)
    dry_run = body.optional("dry_run", parse_boolean) is True
    body.finish()
    outcome = on_request.reverse_usage(
        call.services,
        user_id,
        transaction_id,
        amount,
        description,
        caller=call.principal.caller,
        key=key,
        metadata=metadata or (),
        dry_run=dry_run,
    )
    return performed(
        outcome,
        dry_run=dry_run,
        returned_amount=outcome.entry.amount,
        expired_amount=outcome.expired,
        batches=moves(outcome.entry),
    )


def prefers_csv(accept: str | None) -> bool:
    """Whether an Accept header asks for CSV instead of JSON, the default."""
    csv = _quality(accept, "text/csv")
    return csv > 0 and csv > _quality(accept, "application/json")


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
"""At most a user id, a hyphen and twelve digits. A lone surrogate could not be sent back."""


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
    "hold_id",
    "held_amount",
    "released_amount",
    "payment_id",
    "price",
    "refunded_amount",
    "unrecovered_amount",
    "left_out_amount",
    "balance_cap",
    "metadata",
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
        metadata = json.dumps(item["metadata"], ensure_ascii=False) if item["metadata"] else ""
        price = f"{paid['amount']} {paid['currency']}" if (paid := item["price"]) else ""
        row = {**item, "batches": batches, "metadata": metadata, "price": price}
        writer.writerow(_cell(row[column]) for column in _COLUMNS)
    return text.getvalue()


def _cell(value: object) -> object:
    # A spreadsheet would run a text that begins like a formula: an apostrophe keeps it a text.
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


_FORMULA = re.compile(r"""((?:^|[;\t\r\n])[\s"]*?)(?=[=+\-@\t\r＝＋－＠﹦﹢﹣﹫])""")
"""Finds places where a formula could begin. Some spreadsheets separate cells by semicolons (Excel
does in much of Europe) or tabs, and ignore quotes in the middle of a cell: so a cell can also begin
there. Excel treats full-width characters like the ordinary ones
(https://owasp.org/www-community/attacks/CSV_Injection)."""
