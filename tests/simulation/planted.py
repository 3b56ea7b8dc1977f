"""Bugs to plant, each by its sentence: mistakes that somebody could make in the product."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from chalicelib import allocations
from chalicelib.domain import batches, calendar, ledger, notifications, subscriptions
from chalicelib.domain.batches import CreditBatch
from chalicelib.domain.errors import Contention, VersionConflict
from chalicelib.domain.instants import to_millisecond
from chalicelib.domain.ledger import Account, EntryType
from chalicelib.domain.subscriptions import SubscriptionStatus
from chalicelib.jobs import records, ticks
from chalicelib.queues import Queues
from chalicelib.store import ledger as ledger_store
from chalicelib.store import mails as mail_store
from chalicelib.store.ledger import HistoryPage, Inserted, LedgerStore
from chalicelib.store.subscriptions import SubscriptionStore, _item

Bug = Callable[[], AbstractContextManager[object]]

BUGS: dict[str, Bug] = {}


def bug(sentence: str) -> Callable[[Bug], Bug]:
    """Enters a bug in the list."""

    def enter(plant: Bug) -> Bug:
        BUGS[sentence] = plant
        return plant

    return enter


@contextmanager
def _all(*patches: AbstractContextManager[object]) -> Iterator[None]:
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
    return patch.object(
        ledger, "burn_down", lambda found, amount, now: original(found[::-1], amount, now)
    )


@bug("what was spent first is given back first")
def _first_spent_returns_first() -> AbstractContextManager[object]:
    original = batches.returned
    return patch.object(
        ledger, "returned", lambda spent, skip, amount: original(spent[::-1], skip, amount)
    )


@bug("a claw-back that the balance does not cover takes what there is")
def _claw_back_takes_a_part() -> AbstractContextManager[object]:
    original = ledger.claw_back

    def claw_back(account: Account, amount: int, request: Any, now: Any) -> Any:
        there = account.available_balance(account.time(now))
        return original(account, min(amount, there) or amount, request, now)

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


@bug("who asked before is not known by his marker")
def _marker_not_seen() -> AbstractContextManager[object]:
    return patch("chalicelib.store.ledger._existing_marker", lambda _: None)


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

    return _all(
        patch("chalicelib.allocations.due_periods", due_periods),
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

    return patch("chalicelib.allocations.due_periods", due_periods)


@bug("nobody looks from when on a subscription is eligible")
def _always_eligible() -> AbstractContextManager[object]:
    from tests.simulation.world import at

    return _due_to(eligible_from=at("2000-01-01T00:00:00Z"))


@bug("who pauses between the sweep and the allocation is given credits all the same")
def _paused_meanwhile() -> AbstractContextManager[object]:
    return _due_to(status=SubscriptionStatus.ACTIVE)


@bug("who resumes is paid for the pause")
def _resuming_pays_for_the_pause() -> AbstractContextManager[object]:
    return patch.object(subscriptions, "_receives", lambda _subscription, _catalogue: True)


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
        return Inserted([each for each in drafts if append(self, each.item)], [])

    return _all(
        patch.object(LedgerStore, "_append", append), patch.object(LedgerStore, "insert", insert)
    )


@bug("an insert that was refused is taken for done")
def _refused_is_done() -> AbstractContextManager[object]:
    original = LedgerStore.insert

    def insert(self: LedgerStore, drafts: Any) -> Inserted:
        done = original(self, drafts)
        return Inserted([*done.appended, *done.refused], [])

    return patch.object(LedgerStore, "insert", insert)


@bug("an entry that meets a transaction under way fails its message")
def _conflict_not_retried() -> AbstractContextManager[object]:
    left = ledger_store._PASSING_REASONS - {"TransactionConflict"}
    return patch.object(ledger_store, "_PASSING_REASONS", left)


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
    return patch.object(ledger_store, "_correlated", lambda entry: entry)


@bug("a subscription is put whatever its version")
def _versions_not_compared() -> AbstractContextManager[object]:
    def put(self: SubscriptionStore, subscription: Any) -> None:
        item = _item(subscription)
        self._connection.put_item(self._table, subscription.user_id, attributes=item)

    return patch.object(SubscriptionStore, "put", put)


@bug("an edit that lost a race is answered as if it were made")
def _lost_edit() -> AbstractContextManager[object]:
    original = SubscriptionStore.put

    def put(self: SubscriptionStore, subscription: Any) -> None:
        try:
            original(self, subscription)
        except VersionConflict:
            return

    return patch.object(SubscriptionStore, "put", put)


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

    def handle_records(event: Any, parse: Any, handle: Any) -> Any:
        original(event, parse, handle)
        return {"batchItemFailures": []}

    return patch("chalicelib.jobs.workers.handle_records", handle_records)


@bug("what a batch read left out is not asked for again")
def _unprocessed_forgotten() -> AbstractContextManager[object]:
    original = SubscriptionStore.get_many

    def get_many(self: SubscriptionStore, user_ids: Any, **more: Any) -> Any:
        with patch("chalicelib.store.subscriptions.attempts", lambda _: iter((0,))):
            try:
                return original(self, user_ids, **more)
            except Contention:
                return {}

    return patch.object(SubscriptionStore, "get_many", get_many)


@bug("one user's failure stops the users behind him")
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
        return original(self, [body for body in bodies if '"cursor":null' in body])

    return patch.object(Queues, "send_sweeps", send_sweeps)


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
