"""Bugs to plant, each by its sentence: mistakes that somebody could make in the product."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from chalicelib.api import subscriptions as subscription_routes
from chalicelib.domain import batches, calendar, ledger, notifications, subscriptions, terms
from chalicelib.domain.batches import CreditBatch
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import Contention, Unreadable
from chalicelib.domain.instants import to_millisecond
from chalicelib.domain.ledger import Account
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.ranges import PLACES, WHOLE, Range
from chalicelib.domain.subscriptions import SubscriptionStatus
from chalicelib.jobs import errors, records, sweeps, ticks
from chalicelib.operations import allocations
from chalicelib.queues import Queues
from chalicelib.store import ledger_items, partiql
from chalicelib.store import mails as mail_store
from chalicelib.store import subscriptions as subscription_store
from chalicelib.store.ledger import Inserted, LedgerStore
from chalicelib.store.ledger_reading import HistoryPage
from chalicelib.store.reports import Reports
from chalicelib.store.subscriptions import SubscriptionStore

Bug = Callable[[], AbstractContextManager[object]]

BUGS: dict[str, Bug] = {}


def bug(sentence: str) -> Callable[[Bug], Bug]:
    """Enters a bug in the list."""

    def enter(plant: Bug) -> Bug:
        BUGS[sentence] = plant
        return plant

    return enter


@contextmanager
def all_of(*patches: AbstractContextManager[object]) -> Iterator[None]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield


# --- Credits --------------------------------------------------------------------------------------


@bug("a batch can be spent at the very instant it expires")
def _off_by_one() -> AbstractContextManager[object]:
    def is_usable(self: CreditBatch, now: Any) -> bool:
        return self.expires_at is None or now <= self.expires_at

    return patch.object(CreditBatch, "is_usable", is_usable)


@bug("the newest credits are spent first")
def _newest_first() -> AbstractContextManager[object]:
    original = batches.burn_down
    return patch.object(ledger, "burn_down", lambda found, amount: original(found[::-1], amount))


@bug("what was spent first is given back first")
def _first_spent_returns_first() -> AbstractContextManager[object]:
    original = batches.returned
    return patch.object(
        ledger, "returned", lambda spent, skip, amount: original(spent[::-1], skip, amount)
    )


@bug("a claw-back that the balance does not cover takes what there is")
def _claw_back_takes_a_part() -> AbstractContextManager[object]:
    original = ledger.claw_back

    def claw_back(account: Account, amount: int, request: Any, now: Any, **how: Any) -> Any:
        there = account.available_balance(account.time(now))
        return original(account, min(amount, there) or amount, request, now, **how)

    return patch.object(ledger, "claw_back", claw_back)


@bug("what was given back of a usage before is forgotten")
def _reversed_twice() -> AbstractContextManager[object]:
    original = LedgerStore._last_reversal
    return patch.object(
        LedgerStore, "_last_reversal", lambda self, *usage: (original(self, *usage)[0], 0)
    )


@bug("credits return to a batch that has died meanwhile, and can be spent")
def _dead_batches_return() -> AbstractContextManager[object]:
    original = ledger.reverse

    def reverse(account: Account, usage: Any, before: Any, *rest: Any) -> Any:
        undying = tuple(replace(batch, expires_at=None) for batch in before.batches)
        return original(account, usage, replace(before, batches=undying), *rest)

    return patch.object(ledger, "reverse", reverse)


@bug("another request under the same key is taken for the same")
def _marker_not_compared() -> AbstractContextManager[object]:
    return patch("chalicelib.store.ledger.fingerprint", lambda _: "the same for all")


@bug("who asked before is not known by their marker")
def _marker_not_seen() -> AbstractContextManager[object]:
    return patch.object(partiql, "TAKEN", set())


@bug("who was served before is refused once the credits are gone")
def _marker_not_looked_up() -> AbstractContextManager[object]:
    return patch.object(LedgerStore, "_marker", lambda _self, _operation: None)


@bug("the time of a ledger follows a clock that is behind")
def _time_runs_backwards() -> AbstractContextManager[object]:
    return patch.object(Account, "time", lambda _self, now: to_millisecond(now))


# --- The calendar ---------------------------------------------------------------------------------


@bug("credits live a day too long")
def _expires_a_day_late() -> AbstractContextManager[object]:
    original = calendar.expires_at
    return patch.object(
        calendar, "expires_at", lambda zone, granted, days: original(zone, granted, days + 1)
    )


@bug("the rest of the day of a grant is one of the days that were promised")
def _expires_a_day_early() -> AbstractContextManager[object]:
    original = calendar.expires_at
    return patch.object(
        calendar,
        "expires_at",
        lambda zone, granted, days: original(zone, calendar.day_start(zone, granted), days),
    )


@bug("the second of two midnights begins the day")
def _second_midnight() -> AbstractContextManager[object]:
    original = calendar.midnight

    def midnight(timezone: str, day: Any) -> Any:
        first = original(timezone, day)
        later = (first + timedelta(hours=1)).astimezone(calendar.zone(timezone))
        is_again = (later.date(), later.hour, later.minute) == (day, 0, 0)
        return first + timedelta(hours=1) if is_again else first

    return patch.object(calendar, "midnight", midnight)


@bug("a tick is about the present and not about its own time")
def _tick_by_the_clock() -> AbstractContextManager[object]:
    original = ticks._start
    return patch.object(
        ticks,
        "_start",
        lambda services, kind, _, zones: original(
            services, kind, to_millisecond(services.now()), zones
        ),
    )


# --- What is due ----------------------------------------------------------------------------------


@bug("the period that was allocated last is forgotten")
def _period_forgotten() -> AbstractContextManager[object]:
    original, allocate = subscriptions.due_periods, ledger.allocate

    def due_periods(subscription: Any, catalogue: Any, through: Any, as_of: Any, now: Any) -> Any:
        due = original(subscription, catalogue, None, as_of, now)
        return due[-1:] if through and due and due[-1] <= through else due

    def unchecked(account: Account, period: Any, *rest: Any) -> Any:
        if account.last and account.allocated_through and account.allocated_through >= period:
            if account.last.operation == f"allocation#{period}":
                return None
            last = replace(account.last, allocated_through=None)
            account = account._replace(last=last)
        return allocate(account, period, *rest)

    return all_of(
        patch("chalicelib.operations.allocations.due_periods", due_periods),
        patch.object(ledger, "allocate", unchecked),
    )


@bug("a month that was given in the east is given again in the west")
def _move_repeats_the_month() -> AbstractContextManager[object]:
    original = allocations.next_due_allocation

    def next_due(services: Any, account: Account, subscription: Any, as_of: Any, now: Any) -> Any:
        last, through = account.last, account.allocated_through
        if last and through and last.type is EntryType.ALLOCATION:
            start = calendar.month_start(subscription.timezone, through)
            if last.effective_at < start <= as_of:
                earlier = replace(last, allocated_through=through.previous())
                account = account._replace(last=earlier)
        return original(services, account, subscription, as_of, now)

    return patch("chalicelib.jobs.workers.next_due_allocation", next_due)


@bug("more than twelve missed months are made good")
def _all_that_was_missed() -> AbstractContextManager[object]:
    return patch.object(subscriptions, "MOST_MISSED_PERIODS", 13)


def _due_to(**changes: Any) -> AbstractContextManager[object]:
    """The worker takes something of a subscription for something else."""
    original = subscriptions.due_periods

    def due_periods(subscription: Any, *rest: Any) -> Any:
        return original(replace(subscription, **changes), *rest)

    return patch("chalicelib.operations.allocations.due_periods", due_periods)


@bug("nobody looks from when on a subscription is eligible")
def _always_eligible() -> AbstractContextManager[object]:
    from tests.simulation.world import at

    return _due_to(eligible_from=at("2000-01-01T00:00:00Z"))


@bug("who pauses between the sweep and the allocation is given credits all the same")
def _paused_meanwhile() -> AbstractContextManager[object]:
    return _due_to(status=SubscriptionStatus.ACTIVE)


@bug("who resumes is paid for the pause")
def _resuming_pays_for_the_pause() -> AbstractContextManager[object]:
    return patch.object(terms, "_is_barred", lambda *_: False)


@bug("who repeats the date of eligibility is taken to have chosen it anew")
def _repeating_is_deciding() -> AbstractContextManager[object]:
    def decides(_: Any, described: Any) -> bool:
        return bool(described.eligible_from != described.registered_at)

    return patch.object(terms, "_decides", decides)


def _editing(change: Callable[..., Any]) -> AbstractContextManager[object]:
    """Edits through the API go wrong: ``change`` gets the original, and what it was called with."""
    original = subscription_routes._edited

    def edited(call: Any, values: Any, present: Any, kept: Any) -> Any:
        return change(original, call, values, present, kept)

    return patch.object(subscription_routes, "_edited", edited)


@bug("who comes back by a PUT is paid for the time without allocations")
def _put_does_not_resume() -> AbstractContextManager[object]:
    def edited(original: Any, call: Any, values: Any, old: Any, kept: Any) -> Any:
        new = original(call, values, old, kept)
        return replace(new, resumed_at=old.resumed_at) if old and not kept else new

    return _editing(edited)


@bug("the date of eligibility cannot go back to the rules")
def _null_keeps() -> AbstractContextManager[object]:
    def edited(original: Any, call: Any, values: Any, old: Any, kept: Any) -> Any:
        if values.get("eligible_from", "") is None:
            values = {name: value for name, value in values.items() if name != "eligible_from"}
            kept = {*kept, "eligible_from"}
        return original(call, values, old, kept)

    return _editing(edited)


@bug("an edit that was observed before what is stored is made all the same")
def _outdated_edits() -> AbstractContextManager[object]:
    return patch.object(terms, "_refuse_outdated", lambda *_: None)


@bug("an edit leaves to the sweeps of the next month what it makes due")
def _edits_post_nothing() -> AbstractContextManager[object]:
    return patch(
        "chalicelib.api.subscriptions.save_subscription",
        lambda services, user_id, decide, by: allocations.Saved(
            services.subscriptions.change(user_id, decide, by, services.now()), []
        ),
    )


@bug("a backend sets any amount and any eligibility")
def _backend_mints() -> AbstractContextManager[object]:
    from chalicelib.api import principal

    return patch.object(principal, "EDITS", dict.fromkeys(principal.EDITS, principal._BOTH))


@bug("a first own amount is not taken for more than none")
def _backend_sets_a_first_amount() -> AbstractContextManager[object]:
    from chalicelib.domain import edits

    original = edits._is_more

    def is_more(before: Any, after: Any, catalogue: Any) -> bool:
        had = before is not None and before.allocation_amount is not None
        return had and original(before, after, catalogue)

    return patch.object(edits, "_is_more", is_more)


@bug("an edit is recorded after it is made, and not with it")
def _edit_without_record() -> AbstractContextManager[object]:
    from tests.crashes.bugs import BUGS as CRASHES

    return CRASHES["an edit is recorded after it is made, and not with it"][1]()


@bug("an edit is recorded before it is made, and not with it")
def _record_without_edit() -> AbstractContextManager[object]:
    from tests.crashes.bugs import BUGS as CRASHES

    return CRASHES["an edit is recorded before it is made, and not with it"][1]()


@bug("the start of a subscription counts for nothing")
def _start_ignored() -> AbstractContextManager[object]:
    from tests.simulation.world import at

    return _due_to(started_at=at("2000-01-01T00:00:00Z"))


def _bounding_only(where: Callable[..., bool]) -> AbstractContextManager[object]:
    """Only the edits that ``where`` picks keep the time before from being paid."""
    original = terms._nothing_before

    def nothing_before(existing: Any, described: Any, catalogue: Any, now: Any) -> Any:
        floor = original(existing, described, catalogue, now)
        return floor if where(existing, described, catalogue, now) else None

    return patch.object(terms, "_nothing_before", nothing_before)


@bug("a start that lay ahead, and is moved into the past, pays for the time before")
def _start_moved_back() -> AbstractContextManager[object]:
    return _bounding_only(
        lambda existing, _described, catalogue, now: (
            subscriptions.first_instant(existing, catalogue) <= now
        )
    )


@bug("a start or an end that is over, and is moved, pays for the time before")
def _bounds_of_the_past_move() -> AbstractContextManager[object]:
    return _bounding_only(
        lambda existing, _described, catalogue, now: (
            terms._is_barred(existing, catalogue)
            or subscriptions.first_instant(existing, catalogue) > now
        )
    )


@bug("who resumes after the end is paid for the pause before it")
def _resuming_after_the_end() -> AbstractContextManager[object]:
    return _bounding_only(
        lambda _existing, described, _catalogue, now: not subscriptions.has_ended(described, now)
    )


@bug("the end of a subscription counts for nothing")
def _end_ignored() -> AbstractContextManager[object]:
    return _due_to(ends_at=None)


@bug("a plan that begins to grant grants for the time before")
def _grants_since_ignored() -> AbstractContextManager[object]:
    original = PlanCatalogue.get

    def get(self: PlanCatalogue, *asked: Any) -> Any:
        return replace(original(self, *asked), grants_since=None)

    return patch.object(PlanCatalogue, "get", get)


@bug("a month lapses by the moment that a run is about, and not by the clock")
def _lapse_by_the_run() -> AbstractContextManager[object]:
    original = subscriptions.due_periods

    def due_periods(subscription: Any, catalogue: Any, through: Any, as_of: Any, now: Any) -> Any:
        return original(subscription, catalogue, through, as_of, min(as_of, now))

    return patch("chalicelib.operations.allocations.due_periods", due_periods)


@bug("the amount that was agreed with a user is not looked at")
def _amount_of_the_plan() -> AbstractContextManager[object]:
    def monthly_amount(subscription: Any, catalogue: Any) -> int:
        of_plan: int = catalogue.get(subscription.plan).monthly_credits
        return of_plan

    return patch.object(allocations, "monthly_amount", monthly_amount)


# --- Writing exactly once -------------------------------------------------------------------------


@bug("an entry is put without a condition")
def _no_put_condition() -> AbstractContextManager[object]:
    def append(self: LedgerStore, item: Any) -> bool:
        arguments = (self._table, item["user_id"]["S"], item["entry"]["S"])
        self._connection.put_item(*arguments, attributes=item)
        return True

    def insert(self: LedgerStore, drafts: Any) -> Inserted:
        return Inserted([each for each in drafts if append(self, each.item)], [], [])

    return all_of(
        patch.object(LedgerStore, "_append", append), patch.object(LedgerStore, "insert", insert)
    )


@bug("an insert that was refused is taken for done")
def _refused_is_done() -> AbstractContextManager[object]:
    original = LedgerStore.insert

    def insert(self: LedgerStore, drafts: Any) -> Inserted:
        done = original(self, drafts)
        return Inserted([*done.appended, *done.refused], [], done.throttled)

    return patch.object(LedgerStore, "insert", insert)


@bug("an entry whose number was taken is taken for written")
def _taken_is_written() -> AbstractContextManager[object]:
    original = LedgerStore._append

    def append(self: LedgerStore, item: Any) -> bool:
        original(self, item)
        return True

    return patch.object(LedgerStore, "_append", append)


@bug("what a batch has no room for is taken for done")
def _throttled_is_done() -> AbstractContextManager[object]:
    original = LedgerStore.insert
    return patch.object(
        LedgerStore, "insert", lambda self, drafts: original(self, drafts)._replace(throttled=[])
    )


@bug("an entry that meets a transaction under way fails its message")
def _conflict_not_retried() -> AbstractContextManager[object]:
    left = partiql.PASSING_REASONS - {"TransactionConflict"}
    return patch.object(partiql, "PASSING_REASONS", left)


@bug("an account is read as it was a moment ago")
def _inconsistent_reads() -> AbstractContextManager[object]:
    original = LedgerStore._client

    class Client:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def query(self, **asked: Any) -> Any:
            return self._client.query(**{**asked, "ConsistentRead": False})

    return patch.object(
        LedgerStore,
        "_client",
        property(lambda self: Client(original.fget(self))),  # type: ignore[attr-defined]
    )


@bug("an entry does not say which operation wrote it")
def _not_correlated() -> AbstractContextManager[object]:
    return patch("chalicelib.store.ledger._correlated", lambda entry: entry)


@bug("a subscription is written whatever its version")
def _versions_not_compared() -> AbstractContextManager[object]:
    original = partiql.update

    def update_any(table: str, changed: Any, removed: Any, where: Any) -> Any:
        return original(table, changed, removed, {"user_id": where["user_id"]})

    return patch.object(partiql, "update", update_any)


@bug("an edit that lost a race is answered as if it were made")
def _lost_edit() -> AbstractContextManager[object]:
    original = SubscriptionStore._write

    def write(self: SubscriptionStore, wanted: Any, present: Any, edit: Any) -> frozenset[str]:
        original(self, wanted, present, edit)
        return frozenset()

    return patch.object(SubscriptionStore, "_write", write)


# --- Files ----------------------------------------------------------------------------------------


@bug("the rows of one user are written in any order")
def _rows_in_any_order() -> AbstractContextManager[object]:
    return patch("infra.imports.importing.user_id_of", lambda row: f"{row.line}")


@bug("a column that a file does not have is reset")
def _absent_column_resets() -> AbstractContextManager[object]:
    original = terms.read_terms

    def read_terms(values: Any, catalogue: Any, now: Any, stored: Any, **_: Any) -> Any:
        return original(values, catalogue, now, stored)

    return patch("infra.imports.subscriptions.read_terms", read_terms)


@bug("what was imported before with another amount is found out in the middle of the file")
def _found_out_too_late() -> AbstractContextManager[object]:
    return patch.object(LedgerStore, "performed_before", lambda _self, _requests: {})


# --- Failures that must not be lost ---------------------------------------------------------------


@bug("a timeout is not an outage but a crash")
def _timeouts_crash() -> AbstractContextManager[object]:
    def error_code(error: PynamoDBException | ClientError) -> Any:
        if isinstance(error, PynamoDBException):
            return error.cause_response_code
        return error.response["Error"]["Code"]

    return patch("chalicelib.store.ledger.error_code", error_code)


@bug("a worker acknowledges what failed")
def _failures_swallowed() -> AbstractContextManager[object]:
    original = records.handle_records

    def handle_records(*arguments: Any) -> Any:
        original(*arguments)
        return {"batchItemFailures": []}

    return patch("chalicelib.jobs.workers.handle_records", handle_records)


@bug("a throttled worker gives its message up")
def _throttled_message_given_up() -> AbstractContextManager[object]:
    original = records.handle_records

    def handle_records(
        services: Any, url: str, event: Any, context: Any, parse: Any, handle: Any
    ) -> Any:
        def give_up(message: Any) -> None:
            try:
                handle(message)
            except errors.FAILURES as error:
                if not errors.is_passing(error):
                    raise

        return original(services, url, event, context, parse, give_up)

    return patch("chalicelib.jobs.workers.handle_records", handle_records)


@bug("what a batch read left out is not asked for again")
def _unprocessed_forgotten() -> AbstractContextManager[object]:
    original = SubscriptionStore.get_many

    def get_many(self: SubscriptionStore, user_ids: Any, **more: Any) -> Any:
        with patch("chalicelib.store.database.attempts_for_room", lambda _: iter((0,))):
            try:
                return original(self, user_ids, **more)
            except Contention:
                return {}

    return patch.object(SubscriptionStore, "get_many", get_many)


@bug("one user's failure stops the users behind them")
def _first_failure_stops() -> AbstractContextManager[object]:
    original = records.Users.each

    def each(self: Any, parts: Any, handle: Any, users_of: Any) -> Any:
        found: list[Any] = []
        for part in parts:
            found += original(self, [part], handle, users_of)
            if self.failures:
                break
        return found

    return patch.object(records.Users, "each", each)


@bug("one subscription that cannot be read costs all of its message their month")
def _unreadable_stops_all() -> AbstractContextManager[object]:
    original = SubscriptionStore.get_many

    def get_many(self: SubscriptionStore, user_ids: Any, **more: Any) -> Any:
        found = original(self, user_ids, **more)
        for item in found.values():
            subscription_store.read_subscription(item)
        return found

    return patch.object(SubscriptionStore, "get_many", get_many)


@bug("one entry that cannot be read stops the users of its thread")
def _unreadable_entry_stops_its_thread() -> AbstractContextManager[object]:
    original = records.Users.each

    def each(self: Any, parts: Any, handle: Any, users_of: Any) -> Any:
        found: list[Any] = []
        for part in parts:
            found += original(self, [part], handle, users_of)
            if any(isinstance(error, Unreadable) for error in self.failures.values()):
                break
        return found

    return patch.object(records.Users, "each", each)


@bug("who cannot be read is left out, and the message is done")
def _unreadable_passes_for_done() -> AbstractContextManager[object]:
    original = records.Users.each

    def each(self: Any, *arguments: Any) -> Any:
        found = original(self, *arguments)
        self.failures = {
            user: error
            for user, error in self.failures.items()
            if not isinstance(error, Unreadable)
        }
        return found

    return patch.object(records.Users, "each", each)


@bug("one mail whose entry cannot be read fails the mails beside it")
def _unreadable_mail_fails_all() -> AbstractContextManager[object]:
    original = LedgerStore.entries

    def entries(self: LedgerStore, places: Any) -> Any:
        found = original(self, places)
        for item in found.values():
            ledger_items.read_entry(item)
        return found

    return patch.object(LedgerStore, "entries", entries)


@bug("what SQS takes only in part is not sent again")
def _partly_sent() -> AbstractContextManager[object]:
    def send(self: Queues, queue_url: str, bodies: Any) -> None:
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        self._client.send_message_batch(QueueUrl=queue_url, Entries=entries)

    return patch.object(Queues, "_send_chunk", send)


@bug("what a sweep has no time for is forgotten")
def _rest_of_the_sweep_forgotten() -> AbstractContextManager[object]:
    original = Queues.send_sweeps

    def send_sweeps(self: Queues, bodies: Any) -> int:
        return original(self, [body for body in bodies if '"range":null' in body])

    return patch.object(Queues, "send_sweeps", send_sweeps)


@bug("a division loses the last of its ranges")
def _range_lost() -> AbstractContextManager[object]:
    original = Range.parts
    return patch.object(Range, "parts", lambda self, *bits: original(self, *bits)[:-1])


@bug("the range in which a sweep broke off is begun behind all of it")
def _broken_off_range_passed_over() -> AbstractContextManager[object]:
    original = sweeps._rest

    def rest(sweep: Any, cursor: str, expected: int) -> Any:
        return (part for part in original(sweep, cursor, expected) if part.cursor is None)

    return patch.object(sweeps, "_rest", rest)


@bug("a range goes on to the end of its zone")
def _range_without_end() -> AbstractContextManager[object]:
    """Sweeps do twice what changes nothing; what is counted twice does not add up."""
    original = SubscriptionStore.users_of

    def users_of(self: Any, zone: str, after: Any, limit: int, asked: Range = WHOLE) -> Any:
        endless: Any = SimpleNamespace(first=asked.first, last=PLACES - 1)
        return original(self, zone, after, limit, endless)

    return patch.object(SubscriptionStore, "users_of", users_of)


@bug("the report of a range takes the place of that of another")
def _reports_mixed_up() -> AbstractContextManager[object]:
    original = Reports.put

    def put(self: Reports, key: str, *more: Any) -> None:
        folder, _, name = key.rpartition("/")
        name = f"{name[:1]}.json" if "/ranges/" in folder else name
        original(self, f"{folder}/{name}", *more)

    return patch.object(Reports, "put", put)


@bug("a sweep of expiries leaves out the midnight it is about")
def _expiries_until_before() -> AbstractContextManager[object]:
    original = LedgerStore.expiring

    def expiring(
        self: LedgerStore, zone: str, shard: int, after: Any, until: Any, *more: Any
    ) -> Any:
        return original(self, zone, shard, after, until - timedelta(seconds=1), *more)

    return patch.object(LedgerStore, "expiring", expiring)


@bug("stream records that cannot be handed on are passed over")
def _stream_passed_over() -> AbstractContextManager[object]:
    original = Queues.send_notifications

    def send_notifications(self: Queues, bodies: Any) -> int:
        try:
            return original(self, bodies)
        except (BotoCoreError, ClientError, Contention):
            return 0

    return patch.object(Queues, "send_notifications", send_notifications)


# --- Mails ----------------------------------------------------------------------------------------


@bug("nobody records which mails were sent")
def _mails_not_recorded() -> AbstractContextManager[object]:
    return patch.object(mail_store.MailRecords, "once", lambda _self, _identity, send: send())


@bug("a mail that may have been sent is sent again")
def _doubtful_mail_again() -> AbstractContextManager[object]:
    return patch.object(mail_store, "MailInDoubt", type("Nothing", (Exception,), {}))


@bug("a low balance is told of with every use")
def _low_balance_every_time() -> AbstractContextManager[object]:
    return patch.object(
        notifications, "of_low_balance", lambda usage: f"low_balance {usage.transaction_id}"
    )


@bug("a mail is known by where the user lives when it is sent")
def _identity_of_today() -> AbstractContextManager[object]:
    from chalicelib.jobs.notifications import _Sender

    original = _Sender._once

    def once(self: Any, identity: str, kind: Any, told: Any, subscription: Any) -> str:
        return original(self, f"{identity} {subscription.timezone}", kind, told, subscription)

    return patch.object(_Sender, "_once", once)


@bug("a mail bears the dates of where the user lives when it is sent")
def _dates_of_today() -> AbstractContextManager[object]:
    from chalicelib.jobs.notifications import _Sender

    original = _Sender._grants

    def grants(self: Any, user_id: str, batches: Any) -> dict[int, Any]:
        zone = self._subscriptions[user_id].timezone
        found = original(self, user_id, batches)
        return {n: replace(grant, expiry_timezone=zone) for n, grant in found.items()}

    return patch.object(_Sender, "_grants", grants)


@bug("a user who does not want to hear of something is told all the same")
def _wishes_ignored() -> AbstractContextManager[object]:
    from chalicelib.jobs.notifications import _Sender

    original = _Sender.send

    def send(self: Any, notification: Any) -> str:
        known: Mapping[str, Any] = self._subscriptions
        self._subscriptions = {
            user: replace(each, notifications=notifications.ALL_KINDS)
            for user, each in known.items()
        }
        return original(self, notification)

    return patch.object(_Sender, "send", send)


# --- Reading --------------------------------------------------------------------------------------


@bug("the history leaves out an entry at the border of two pages")
def _border_of_pages() -> AbstractContextManager[object]:
    original = LedgerStore.page

    def page(self: LedgerStore, *asked: Any, **more: Any) -> HistoryPage:
        found = original(self, *asked, **more)
        below = found.below
        return HistoryPage(found.entries, below - 1 if below and below > 1 else below)

    return patch.object(LedgerStore, "page", page)


@bug("a page that is shorter than it was to be is taken for the last")
def _short_page_is_the_last() -> AbstractContextManager[object]:
    def items(
        self: LedgerStore, user_id: str, first: str, last: str, page: int, **order: bool
    ) -> Iterator[Any]:
        after = ""
        while True:
            response = self._client.query(
                TableName=self._table,
                KeyConditionExpression="user_id = :user AND entry BETWEEN :first AND :last",
                ExpressionAttributeValues={
                    ":user": {"S": user_id},
                    ":first": {"S": first},
                    ":last": {"S": last},
                },
                Limit=page,
                ConsistentRead=True,
                ScanIndexForward=not order.get("newest_first", True),
                **({"ExclusiveStartKey": ledger_items.item_key(user_id, after)} if after else {}),
            )
            found = response["Items"]
            yield from found
            if len(found) < page:
                return
            after = found[-1]["entry"]["S"]

    return patch.object(LedgerStore, "_items", items)


@bug("whoever counts the allocated looks at one page of entries")
def _completeness_of_one_page() -> AbstractContextManager[object]:
    def entries_since(services: Any, user_id: str, _: Any) -> list[Any]:
        found = services.ledger._client.query(
            TableName=services.ledger._table,
            KeyConditionExpression="user_id = :user AND entry BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":user": {"S": user_id},
                ":first": {"S": "entry#"},
                ":last": {"S": "entry$"},
            },
            Limit=25,
            ConsistentRead=True,
            ScanIndexForward=False,
        )
        return [ledger_items.read_entry(item) for item in found["Items"]]

    return patch("chalicelib.jobs.completeness._entries_since", entries_since)


@bug("a balance of the past is that of the millisecond before")
def _past_off_by_one() -> AbstractContextManager[object]:
    original = LedgerStore.account_at

    def account_at(self: LedgerStore, user_id: str, instant: Any) -> Account:
        return original(self, user_id, instant - timedelta(milliseconds=1))

    return patch.object(LedgerStore, "account_at", account_at)


@bug("a schedule knows of no allocation that is overdue")
def _schedule_without_overdue() -> AbstractContextManager[object]:
    def next_allocation(subscription: Any, catalogue: Any, through: Any, now: Any) -> Any:
        if subscriptions.not_allocated_because(subscription, catalogue):
            return None
        period = subscriptions._first_to_come(subscription, catalogue, through, now)
        return subscriptions.NextAllocation(
            period,
            calendar.month_start(subscription.timezone, period),
            subscriptions.monthly_amount(subscription, catalogue),
        )

    return patch("chalicelib.api.account.next_allocation", next_allocation)
