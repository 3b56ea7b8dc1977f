"""Bugs to plant, each by its sentence: mistakes that somebody could make in the product."""

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.api import account as account_routes
from chalicelib.api import principal
from chalicelib.api import subscriptions as subscription_routes
from chalicelib.domain import calendar, due, edits, ledger, notifications, subscriptions, terms
from chalicelib.domain.batches import CreditBatch
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import Contention, Unreadable
from chalicelib.domain.instants import to_millisecond
from chalicelib.domain.ledger import Account
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.ranges import PLACES, WHOLE, Range
from chalicelib.domain.subscriptions import SubscriptionStatus
from chalicelib.jobs import completeness, errors, records, sweeps, ticks, workers
from chalicelib.jobs.notifications import _Sender
from chalicelib.operations import adjustments, allocations, emails
from chalicelib.queues import Queues
from chalicelib.store import errors as store_errors
from chalicelib.store import ledger as ledger_store
from chalicelib.store import ledger_items, partiql
from chalicelib.store import mails as mail_store
from chalicelib.store import subscriptions as subscription_store
from chalicelib.store.edits import key_of
from chalicelib.store.ledger import Inserted, LedgerStore
from chalicelib.store.ledger_reading import HistoryPage
from chalicelib.store.reports import Reports
from chalicelib.store.subscriptions import SubscriptionStore
from chalicelib.store.wire.errors import ServiceError, WireError
from infra.imports import importing
from infra.imports import subscriptions as imported_subscriptions
from tests.simulation.world import at

Bug = Callable[[], AbstractContextManager[object]]
Wrong = Callable[..., Any]

BUGS: dict[str, Bug] = {}

LONG_AGO = at("2000-01-01T00:00:00Z")


def becomes(owner: Any, name: str, value: object) -> Bug:
    """Something of the product is something else."""
    return lambda: patch.object(owner, name, value)


def instead(owner: Any, name: str, wrong: Wrong) -> Bug:
    """A function is called in the place of another, which is what it is handed first."""

    def plant() -> AbstractContextManager[object]:
        original = getattr(owner, name)
        assert _is_used(owner, name), f"{owner.__name__} imports {name} and does not call it"
        return patch.object(owner, name, lambda *given, **more: wrong(original, *given, **more))

    return plant


@cache
def _is_used(owner: Any, name: str) -> bool:
    """Whether a module also uses what it has of another: else a bug in its place would be none."""
    if not inspect.ismodule(owner):
        return True
    if getattr(getattr(owner, name), "__module__", None) == owner.__name__:
        return True
    nodes = ast.walk(ast.parse(inspect.getsource(owner)))
    return any(isinstance(node, ast.Name) and node.id == name for node in nodes)


def both(*bugs: Bug) -> Bug:
    """Two changes that make one bug."""

    def plant() -> AbstractContextManager[object]:
        stack = ExitStack()
        for each in bugs:
            stack.enter_context(each())
        return stack

    return plant


def bug(owner: Any, name: str) -> Callable[[Wrong], Wrong]:
    """Enters a bug in the list: a function in the place of another; its sentence describes it."""

    def enter(wrong: Wrong) -> Wrong:
        sentence = str(wrong.__doc__).splitlines()[0].rstrip(".")
        BUGS[sentence[0].lower() + sentence[1:]] = instead(owner, name, wrong)
        return wrong

    return enter


# --- Credits --------------------------------------------------------------------------------------


@bug(CreditBatch, "is_usable")
def _off_by_one(_: Any, self: CreditBatch, now: Any) -> bool:
    """A batch can be spent at the very instant it expires."""
    return self.expires_at is None or now <= self.expires_at


@bug(ledger, "burn_down")
def _newest_first(original: Any, found: Any, *rest: Any) -> Any:
    """The newest credits are spent first."""
    return original(found[::-1], *rest)


@bug(LedgerStore, "_transact")
def _one_marker_of_several(original: Any, self: LedgerStore, items: Any) -> Any:
    """Of several usages that are charged at once only the first leaves a marker."""
    return original(
        self, items[:2] if '"items":' in items[0].get("body", {"S": ""})["S"] else items
    )


@bug(adjustments, "_lifetime")
def _by_hand_for_ever(original: Any, services: Any, adjustment: Any, *rest: Any) -> Any:
    """A grant by hand that names no lifetime never expires."""
    if adjustment.expires_in_days is None:
        return None
    return original(services, adjustment, *rest)


@bug(ledger, "returned")
def _first_spent_returns_first(original: Any, spent: Any, *rest: Any) -> Any:
    """What was spent first is given back first."""
    return original(spent[::-1], *rest)


@bug(ledger, "claw_back")
def _claw_back_takes_a_part(
    original: Any, account: Account, amount: int, request: Any, now: Any, **how: Any
) -> Any:
    """A claw-back that the balance does not cover takes what there is."""
    there = account.available_balance(account.time(now))
    return original(account, min(amount, there) or amount, request, now, **how)


@bug(LedgerStore, "_last_link")
def _reversed_twice(original: Any, *usage: Any) -> Any:
    """What was given back of a usage before is forgotten."""
    return original(*usage)._replace(in_all=0)


@bug(ledger, "reverse")
def _dead_batches_return(
    original: Any, account: Account, usage: Any, before: Any, *rest: Any
) -> Any:
    """Credits return to a batch that has died meanwhile, and can be spent."""
    undying = tuple(replace(batch, expires_at=None) for batch in before.batches)
    return original(account, usage, replace(before, batches=undying), *rest)


BUGS["another request under the same key is taken for the same"] = becomes(
    ledger_store, "fingerprint", lambda _: "the same for all"
)
BUGS["who asked before is not known by their marker"] = becomes(partiql, "TAKEN", set())
BUGS["who was served before is refused once the credits are gone"] = becomes(
    LedgerStore, "_marker", lambda *_: None
)
BUGS["the time of a ledger follows a clock that is behind"] = becomes(
    Account, "time", lambda _self, now: to_millisecond(now)
)


# --- The calendar ---------------------------------------------------------------------------------


@bug(calendar, "expires_at")
def _expires_a_day_late(original: Any, zone: str, granted: Any, days: int) -> Any:
    """Credits live a day too long."""
    return original(zone, granted, days + 1)


@bug(calendar, "expires_at")
def _expires_a_day_early(original: Any, zone: str, granted: Any, days: int) -> Any:
    """The rest of the day of a grant is one of the days that were promised."""
    return original(zone, calendar.day_start(zone, granted), days)


@bug(calendar, "midnight")
def _second_midnight(original: Any, timezone: str, day: Any) -> Any:
    """The second of two midnights begins the day."""
    first = original(timezone, day)
    later = (first + timedelta(hours=1)).astimezone(calendar.zone(timezone))
    is_again = (later.date(), later.hour, later.minute) == (day, 0, 0)
    return first + timedelta(hours=1) if is_again else first


@bug(ticks, "_start")
def _tick_by_the_clock(original: Any, services: Any, kind: Any, _: Any, zones: Any) -> Any:
    """A tick is about the present and not about its own time."""
    return original(services, kind, to_millisecond(services.now()), zones)


# --- What is due ----------------------------------------------------------------------------------


def _due_without_last(
    original: Any, subscription: Any, catalogue: Any, through: Any, as_of: Any, now: Any
) -> Any:
    due = original(subscription, catalogue, None, as_of, now)
    return due[-1:] if through and due and due[-1] <= through else due


def _allocate_unchecked(original: Any, account: Account, period: Any, *rest: Any) -> Any:
    if account.last and account.allocated_through and account.allocated_through >= period:
        if account.last.operation == f"allocation#{period}":
            return None
        last = replace(account.last, allocated_through=None)
        account = account._replace(last=last)
    return original(account, period, *rest)


BUGS["the period that was allocated last is forgotten"] = both(
    instead(due, "due_periods", _due_without_last),
    instead(ledger, "allocate", _allocate_unchecked),
)


@bug(workers, "next_due_allocation")
def _move_repeats_the_month(
    original: Any, services: Any, account: Account, subscription: Any, as_of: Any, now: Any
) -> Any:
    """A month that was given in the east is given again in the west."""
    last, through = account.last, account.allocated_through
    if last and through and last.type is EntryType.ALLOCATION:
        start = calendar.month_start(subscription.timezone, through)
        if last.effective_at < start <= as_of:
            earlier = replace(last, allocated_through=through.previous())
            account = account._replace(last=earlier)
    return original(services, account, subscription, as_of, now)


def _due_to(**changes: Any) -> Bug:
    """The worker takes something of a subscription for something else."""
    return instead(
        allocations,
        "due_periods",
        lambda original, subscription, *rest: original(replace(subscription, **changes), *rest),
    )


BUGS |= {
    "nobody looks from when on a subscription is eligible": _due_to(eligible_from=LONG_AGO),
    "who pauses between the sweep and the allocation is given credits all the same": _due_to(
        status=SubscriptionStatus.ACTIVE
    ),
    "the start of a subscription counts for nothing": _due_to(started_at=LONG_AGO),
    "the end of a subscription counts for nothing": _due_to(ends_at=None),
    "more than twelve missed months are made good": becomes(
        subscriptions, "MOST_MISSED_PERIODS", 13
    ),
    "who resumes is paid for the pause": becomes(terms, "_is_barred", lambda *_: False),
    "who repeats the date of eligibility is taken to have chosen it anew": becomes(
        terms, "_decides", lambda _, described: described.eligible_from != described.registered_at
    ),
    "an edit that was observed before what is stored is made all the same": becomes(
        terms, "_refuse_outdated", lambda *_: None
    ),
    "a backend sets any amount and any eligibility": becomes(
        principal, "EDITS", dict.fromkeys(principal.EDITS, principal._FREE)
    ),
}


@bug(subscription_routes, "_edited")
def _put_does_not_resume(original: Any, call: Any, values: Any, old: Any, kept: Any) -> Any:
    """Who comes back by a PUT is paid for the time without allocations."""
    new = original(call, values, old, kept)
    return replace(new, resumed_at=old.resumed_at) if old and not kept else new


@bug(subscription_routes, "_edited")
def _null_keeps(original: Any, call: Any, values: Any, old: Any, kept: Any) -> Any:
    """The date of eligibility cannot go back to the rules."""
    if values.get("eligible_from", "") is None:
        values = {name: value for name, value in values.items() if name != "eligible_from"}
        kept = {*kept, "eligible_from"}
    return original(call, values, old, kept)


@bug(subscription_routes, "save_subscription")
def _edits_post_nothing(_: Any, services: Any, user_id: str, decide: Any, by: Any) -> Any:
    """An edit leaves to the sweeps of the next month what it makes due."""
    changed = services.subscriptions.change(user_id, decide, by, services.now())
    return allocations.Saved(changed, [])


@bug(edits, "_is_more")
def _backend_sets_a_first_amount(original: Any, before: Any, after: Any, catalogue: Any) -> bool:
    """A first own amount is not taken for more than none."""
    had = before is not None and before.allocation_amount is not None
    return had and original(before, after, catalogue)


def _edits_in_two_writes(first: int) -> Bug:
    """Each statement of an edit is a write by itself: number ``first`` of them before the other."""

    def write(self: SubscriptionStore, wanted: Any, present: Any, edit: Any) -> frozenset[str]:
        key = key_of(edit.version, self._new_id())
        statements = [self._edits().insertion(edit, key), self._statement(wanted, present)]
        for statement in (statements[first], statements[1 - first]):
            self._client.call("ExecuteTransaction", {"TransactStatements": [statement]})
        return frozenset()

    return becomes(SubscriptionStore, "_write", write)


BUGS["an edit is recorded after it is made, and not with it"] = _edits_in_two_writes(first=1)
BUGS["an edit is recorded before it is made, and not with it"] = _edits_in_two_writes(first=0)


def _bounding_only(where: Callable[..., bool]) -> Bug:
    """Only the edits that ``where`` picks keep the time before from being paid."""
    return instead(
        terms,
        "_nothing_before",
        lambda original, *asked: original(*asked) if where(*asked) else None,
    )


BUGS["a start that lay ahead, and is moved into the past, pays for the time before"] = (
    _bounding_only(
        lambda existing, _described, catalogue, now: (
            subscriptions.first_instant(existing, catalogue) <= now
        )
    )
)
BUGS["a start or an end that is over, and is moved, pays for the time before"] = _bounding_only(
    lambda existing, _described, catalogue, now: (
        terms._is_barred(existing, catalogue)
        or subscriptions.first_instant(existing, catalogue) > now
    )
)
BUGS["who resumes after the end is paid for the pause before it"] = _bounding_only(
    lambda _existing, described, _catalogue, now: not subscriptions.has_ended(described, now)
)


@bug(PlanCatalogue, "get")
def _grants_since_ignored(original: Any, *asked: Any) -> Any:
    """A plan that begins to grant grants for the time before."""
    return replace(original(*asked), grants_since=None)


@bug(due, "due_periods")
def _lapse_by_the_run(
    original: Any, subscription: Any, catalogue: Any, through: Any, as_of: Any, now: Any
) -> Any:
    """A month lapses by the moment that a run is about, and not by the clock."""
    return original(subscription, catalogue, through, as_of, min(as_of, now))


@bug(subscriptions, "monthly_amount")
def _amount_of_the_plan(_: Any, subscription: Any, catalogue: Any) -> Any:
    """The amount that was agreed with a user is not looked at."""
    return catalogue.get(subscription.plan).monthly_credits


# --- Writing exactly once -------------------------------------------------------------------------


def _put(self: LedgerStore, item: Any) -> bool:
    self._client.call("PutItem", {"TableName": self._table, "Item": item})
    return True


BUGS["an entry is put without a condition"] = both(
    becomes(LedgerStore, "_append", _put),
    becomes(
        LedgerStore,
        "insert",
        lambda self, drafts: Inserted([each for each in drafts if _put(self, each.item)], [], []),
    ),
)


@bug(LedgerStore, "insert")
def _refused_is_done(original: Any, self: LedgerStore, drafts: Any) -> Inserted:
    """An insert that was refused is taken for done."""
    done = original(self, drafts)
    return Inserted([*done.appended, *done.refused], [], done.throttled)


@bug(LedgerStore, "_append")
def _taken_is_written(original: Any, self: LedgerStore, item: Any) -> bool:
    """An entry whose number was taken is taken for written."""
    original(self, item)
    return True


@bug(LedgerStore, "insert")
def _throttled_is_done(original: Any, self: LedgerStore, drafts: Any) -> Any:
    """What a batch has no room for is taken for done."""
    return original(self, drafts)._replace(throttled=[])


BUGS["an entry that meets a transaction under way fails its message"] = becomes(
    partiql, "PASSING_REASONS", partiql.PASSING_REASONS - {"TransactionConflict"}
)
BUGS["an entry does not say which operation wrote it"] = becomes(
    ledger_store, "_correlated", lambda entry: entry
)


class _Lagging:
    """A client whose queries may read what was there a moment ago."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, operation: str, asked: Any) -> Any:
        lagging = {"ConsistentRead": False} if operation == "Query" else {}
        return self._client.call(operation, {**asked, **lagging})


@bug(LedgerStore, "account")
def _account_of_a_moment_ago(original: Any, self: LedgerStore, user_id: str) -> Any:
    """An account is read as it was a moment ago."""
    with patch.object(self, "_client", _Lagging(self._client)):
        return original(self, user_id)


@bug(partiql, "update")
def _versions_not_compared(
    original: Any, table: str, changed: Any, removed: Any, where: Any
) -> Any:
    """A subscription is written whatever its version."""
    return original(table, changed, removed, {"user_id": where["user_id"]})


@bug(SubscriptionStore, "_write")
def _lost_edit(original: Any, *wanted: Any) -> frozenset[str]:
    """An edit that lost a race is answered as if it were made."""
    original(*wanted)
    return frozenset()


# --- Files ----------------------------------------------------------------------------------------


BUGS["the rows of one user are written in any order"] = becomes(
    importing, "user_id_of", lambda row: f"{row.line}"
)
BUGS["what was imported before with another amount is found out in the middle of the file"] = (
    becomes(LedgerStore, "performed_before", lambda _self, _requests: {})
)


@bug(imported_subscriptions, "read_terms")
def _absent_column_resets(
    original: Any, values: Any, catalogue: Any, now: Any, stored: Any, **_: Any
) -> Any:
    """A column that a file does not have is reset."""
    return original(values, catalogue, now, stored)


# --- Failures that must not be lost ---------------------------------------------------------------


@bug(store_errors, "faults")
def _timeouts_crash(original: Any, *others: Any) -> Any:
    """A timeout is not an outage but a crash."""
    return (ServiceError, *(each for each in original(*others) if each is not WireError))


@bug(workers, "handle_records")
def _failures_swallowed(original: Any, *arguments: Any) -> Any:
    """A worker acknowledges what failed."""
    original(*arguments)
    return {"batchItemFailures": []}


@bug(workers, "handle_records")
def _throttled_message_given_up(original: Any, *given: Any) -> Any:
    """A throttled worker gives its message up."""
    *others, handle = given

    def give_up(message: Any) -> None:
        try:
            handle(message)
        except errors.failures() as error:
            if not errors.is_passing(error):
                raise

    return original(*others, give_up)


@bug(SubscriptionStore, "get_many")
def _unprocessed_forgotten(original: Any, *asked: Any, **more: Any) -> Any:
    """What a batch read left out is not asked for again."""
    with patch("chalicelib.store.database.attempts_for_room", lambda _: iter((0,))):
        try:
            return original(*asked, **more)
        except Contention:
            return {}


def _each_until(stops: Callable[[Any], bool]) -> Bug:
    """A message's users are not looked at any more once there are such failures."""

    def each(original: Any, self: Any, parts: Any, handle: Any, users_of: Any) -> Any:
        found: list[Any] = []
        for part in parts:
            found += original(self, [part], handle, users_of)
            if stops(self.failures.values()):
                break
        return found

    return instead(records.Users, "each", each)


BUGS["one user's failure stops the users behind them"] = _each_until(any)
BUGS["one entry that cannot be read stops the users of its thread"] = _each_until(
    lambda failures: any(isinstance(error, Unreadable) for error in failures)
)


@bug(records.Users, "each")
def _unreadable_passes_for_done(original: Any, self: Any, *arguments: Any) -> Any:
    """Who cannot be read is left out, and the message is done."""
    found = original(self, *arguments)
    failures = self.failures.items()
    self.failures = {user: error for user, error in failures if not isinstance(error, Unreadable)}
    return found


def _reading_all(read: Callable[[Any], object]) -> Wrong:
    """Whatever is found is read at once, and not one by one where it is needed."""

    def find(original: Any, *asked: Any, **more: Any) -> Any:
        found = original(*asked, **more)
        for item in found.values():
            read(item)
        return found

    return find


BUGS["one subscription that cannot be read costs all of its message their month"] = instead(
    SubscriptionStore, "get_many", _reading_all(subscription_store.read_subscription)
)
BUGS["one email whose entry cannot be read fails the emails beside it"] = instead(
    LedgerStore, "entries", _reading_all(ledger_items.read_entry)
)


@bug(Queues, "_send_chunk")
def _partly_sent(_: Any, self: Queues, queue_url: str, bodies: Any) -> None:
    """What SQS takes only in part is not sent again."""
    entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
    self._client.send_message_batch(QueueUrl=queue_url, Entries=entries)


@bug(Queues, "send_sweeps")
def _rest_of_the_sweep_forgotten(original: Any, self: Queues, bodies: Any) -> Any:
    """What a sweep has no time for is forgotten."""
    return original(self, [body for body in bodies if '"range":null' in body])


@bug(Range, "parts")
def _range_lost(original: Any, *asked: Any) -> Any:
    """A division loses the last of its ranges."""
    return original(*asked)[:-1]


@bug(sweeps, "_rest")
def _broken_off_range_passed_over(original: Any, *asked: Any) -> Any:
    """The range in which a sweep broke off is begun behind all of it."""
    return (part for part in original(*asked) if part.cursor is None)


@bug(SubscriptionStore, "users_of")
def _range_without_end(
    original: Any, self: Any, zone: str, after: Any, limit: int, asked: Range = WHOLE
) -> Any:
    """A range goes on to the end of its zone.

    Sweeps do twice what changes nothing; what is counted twice does not add up.
    """
    return original(self, zone, after, limit, SimpleNamespace(first=asked.first, last=PLACES - 1))


@bug(Reports, "put")
def _reports_mixed_up(original: Any, self: Reports, key: str, *more: Any) -> None:
    """The report of a range takes the place of that of another."""
    folder, _, name = key.rpartition("/")
    name = f"{name[:1]}.json" if "/ranges/" in folder else name
    original(self, f"{folder}/{name}", *more)


@bug(LedgerStore, "expiring")
def _expiries_until_before(
    original: Any, self: Any, zone: str, shard: int, after: Any, until: Any, *more: Any
) -> Any:
    """A sweep of expiries leaves out the midnight it is about."""
    return original(self, zone, shard, after, until - timedelta(seconds=1), *more)


@bug(Queues, "send_notifications")
def _stream_passed_over(original: Any, self: Queues, bodies: Any) -> Any:
    """Stream records that cannot be handed on are passed over."""
    try:
        return original(self, bodies)
    except (BotoCoreError, ClientError, Contention):
        return 0


# --- Emails ---------------------------------------------------------------------------------------


BUGS |= {
    "nobody records which mails were sent": becomes(
        mail_store.MailRecords, "once", lambda _self, _identity, send: send()
    ),
    "an email that may have been sent is sent again": becomes(
        mail_store, "MailInDoubt", type("Nothing", (Exception,), {})
    ),
    "a low balance is told of with every use": becomes(
        notifications, "of_low_balance", lambda usage: f"low_balance {usage.transaction_id}"
    ),
}


@bug(_Sender, "_once")
def _identity_of_today(
    original: Any, self: Any, identity: str, kind: Any, told: Any, subscription: Any
) -> Any:
    """An email is known by where the user lives when it is sent."""
    return original(self, f"{identity} {subscription.timezone}", kind, told, subscription)


@bug(emails, "grants_of")
def _dates_of_today(original: Any, services: Any, user_id: str, batches: Any) -> dict[int, Any]:
    """An email bears the dates of where the user lives when it is sent."""
    zone = services.subscriptions.get(user_id).timezone
    found = original(services, user_id, batches)
    return {n: replace(grant, expiry_timezone=zone) for n, grant in found.items()}


@bug(_Sender, "send")
def _wishes_ignored(original: Any, self: Any, notification: Any) -> Any:
    """A user who does not want to hear of something is told all the same."""
    self._subscriptions = {
        user: replace(each, notifications=notifications.ALL_KINDS)
        for user, each in self._subscriptions.items()
    }
    return original(self, notification)


# --- Reading --------------------------------------------------------------------------------------


@bug(LedgerStore, "page")
def _border_of_pages(original: Any, *asked: Any, **more: Any) -> HistoryPage:
    """The history leaves out an entry at the border of two pages."""
    found = original(*asked, **more)
    below = found.below
    return HistoryPage(found.entries, below - 1 if below and below > 1 else below)


def _page_of(store: LedgerStore, user_id: str, first: str, last: str, **more: Any) -> Any:
    values = {":user": {"S": user_id}, ":first": {"S": first}, ":last": {"S": last}}
    asked = {
        "TableName": store._table,
        "KeyConditionExpression": "user_id = :user AND entry BETWEEN :first AND :last",
        "ExpressionAttributeValues": values,
        "ConsistentRead": True,
        **more,
    }
    return store._client.call("Query", asked)["Items"]


@bug(LedgerStore, "_items")
def _short_page_is_the_last(
    _: Any, self: LedgerStore, user_id: str, first: str, last: str, page: int, **order: bool
) -> Iterator[Any]:
    """A page that is shorter than it was to be is taken for the last."""
    forwards = not order.get("newest_first", True)
    start: dict[str, Any] = {}
    while True:
        asked = {"Limit": page, "ScanIndexForward": forwards, **start}
        found = _page_of(self, user_id, first, last, **asked)
        yield from found
        if len(found) < page:
            return
        start = {"ExclusiveStartKey": ledger_items.item_key(user_id, found[-1]["entry"]["S"])}


@bug(completeness, "_entries_since")
def _completeness_of_one_page(_: Any, services: Any, user_id: str, __: Any) -> list[Any]:
    """The count of the allocated looks at one page of entries."""
    order = {"Limit": 25, "ScanIndexForward": False}
    found = _page_of(services.ledger, user_id, "entry#", "entry$", **order)
    return [ledger_items.read_entry(item) for item in found]


@bug(LedgerStore, "account_at")
def _past_off_by_one(original: Any, self: LedgerStore, user_id: str, instant: Any) -> Any:
    """A balance of the past is that of the millisecond before."""
    return original(self, user_id, instant - timedelta(milliseconds=1))


@bug(account_routes, "next_allocation")
def _schedule_without_overdue(
    _: Any, subscription: Any, catalogue: Any, through: Any, now: Any
) -> Any:
    """A schedule knows of no allocation that is overdue."""
    if subscriptions.not_allocated_because(subscription, catalogue):
        return None
    period = subscriptions._first_to_come(subscription, catalogue, through, now)
    periods = subscriptions.periods_of(subscription, catalogue)
    return subscriptions.NextAllocation(
        period,
        period.date_of(periods.day),
        periods.start(period),
        subscriptions.monthly_amount(subscription, catalogue),
    )
