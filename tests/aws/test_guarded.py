"""Guards that no story of the product runs into: bounds, timeouts, races in the very middle.

`python -m tests.guards` takes each guard away in turn; these are the tests of those that no other
test missed.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib import retries
from chalicelib.api import cursors, issuer_keys
from chalicelib.domain.calendar import Period, zone_names
from chalicelib.domain.completeness import MOST_NAMED, Tally
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import (
    Contention,
    CreditsError,
    InvalidInput,
    LedgerCorrupt,
    NotFound,
)
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.ledger import Request, grant, use
from chalicelib.domain.ranges import Range
from chalicelib.jobs import audits, completeness, manual, notifications
from chalicelib.mails import links
from chalicelib.mails.errors import MailPostponed
from chalicelib.mails.rendering import Mail
from chalicelib.mails.sending import Mailer
from chalicelib.messages.notifications import ExpiringSoon
from chalicelib.operations import allocations, on_request
from chalicelib.operations.adjustments import Adjustment, adjust
from chalicelib.operations.on_request import Void
from chalicelib.queues import Queues
from chalicelib.settings import TokenSettings
from chalicelib.store import anchors
from chalicelib.store.database import connect
from chalicelib.store.ledger import draft
from chalicelib.store.ledger_reading import ExpiringPage
from chalicelib.store.reports import Reports
from chalicelib.store.subscriptions import UsersPage
from chalicelib.store.wire.client import MOST_ATTEMPTS
from chalicelib.store.wire.errors import ServiceError
from infra.deployment import packaging
from tests import wire
from tests.aws.api import ADMIN, BACKEND, NOBODY, Api, user
from tests.aws.world import BY_TEST, REGION, Context, World, at, client

LONGEST_REQUEST = 29.0
LONGEST_WORK = 60.0


def watch(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[str, Any, Any], Any]
) -> list[tuple[str, Any]]:
    """The calls to DynamoDB from now on; ``change`` may answer another answer."""
    dynamodb: Any = world.services.dynamodb
    original = dynamodb.call
    calls: list[tuple[str, Any]] = []

    def call(operation: str, arguments: Any) -> Any:
        calls.append((operation, arguments))
        return change(operation, arguments, lambda: original(operation, arguments))

    monkeypatch.setattr(dynamodb, "call", call)
    return calls


def as_ever(_operation: str, _arguments: Any, perform: Callable[[], Any]) -> Any:
    return perform()


# --- Clients --------------------------------------------------------------------------------------


def test_every_client_gives_up_before_its_function_is_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    class Session:
        def create_client(self, service: str, **settings: Any) -> Any:
            made[service] = settings["config"]
            return SimpleNamespace(get_secret_value=lambda **_: {"SecretString": "k" * 32})

    monkeypatch.setattr("botocore.session.get_session", Session)
    Queues(world.settings)
    Reports(world.settings)
    Mailer(world.settings)
    links.read_key(REGION, "secret")
    assert set(made) == {"sqs", "s3", "sesv2", "secretsmanager"}
    for config in made.values():
        attempts = (config.retries or {}).get("total_max_attempts", 3)
        assert attempts * max(config.connect_timeout, config.read_timeout) < LONGEST_WORK
    # The API starts runs: it must still be there to say that SQS is not.
    sqs = made["sqs"]
    assert sqs.retries["total_max_attempts"] * sqs.read_timeout < LONGEST_REQUEST
    # An email that SES may have taken must not be sent again by the SDK. So nobody gets an email
    # whose answer came too late: SES is given more time than the others.
    assert made["sesv2"].retries["total_max_attempts"] == 1
    assert (made["sesv2"].read_timeout, sqs.read_timeout) == (10, 5)


def test_dynamodb_is_given_up_before_api_gateway_gives_up() -> None:
    transport = connect(REGION).transport
    longest = max(transport.connect_timeout, transport.read_timeout)
    assert MOST_ATTEMPTS > 1
    assert MOST_ATTEMPTS * longest < LONGEST_REQUEST


def test_the_issuer_is_given_up_before_the_authorizer_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float | None] = []

    class Silent(HTTPConnection):
        def __init__(self, host: str, timeout: float | None = None) -> None:
            waited.append(timeout)
            super().__init__(host)

        def request(self, *_: Any, **__: Any) -> None:
            raise TimeoutError

    monkeypatch.setattr(issuer_keys, "HTTPSConnection", Silent)
    settings = TokenSettings.read(
        {"TOKEN_ISSUER": "https://issuer.example.com", "TOKEN_AUDIENCE": "a", "STAGE": "prod"}
    )
    with pytest.raises(TimeoutError):
        issuer_keys.fetch_keys(settings)
    config = json.loads((packaging.ROOT / ".chalice" / "config.json").read_text("utf-8"))
    timeout = config["lambda_functions"]["authorizer"]["lambda_timeout"]
    # Half of its time, for both documents: the rest is for a cold start and the answer.
    assert timeout / 2 >= issuer_keys.FETCH_SECONDS
    assert [wait is not None and 0 < wait <= timeout / 2 for wait in waited] == [True]


def test_a_pause_is_random_and_half_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    for attempt in [20] * 50:
        retries.pause_with_jitter(attempt)
    assert 0 <= min(slept) < 0.25 < max(slept) <= 0.5
    assert len(set(slept)) > 1


def test_a_race_that_is_never_won_is_given_up_while_there_is_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    pauses: list[int] = []
    monkeypatch.setattr(world.services.ledger, "_pause", pauses.append)
    monkeypatch.setattr(world.services.ledger, "_append", lambda _item: False)
    with pytest.raises(Contention):
        world.services.ledger.post("1", lambda account: _grant(world, account))
    assert pauses == list(range(1, 25))
    longest = sum(min(0.5, 0.005 * 2**attempt) for attempt in pauses)
    assert longest < LONGEST_REQUEST / 2


def _grant(world: World, account: Any, key: str = "a") -> Any:
    return grant(account, 5, Request(f"manual#test#{key}", "test", "Gift"), world.now, "UTC", None)


# --- Races, in the very middle of a decision ------------------------------------------------------


def test_scheduled_work_that_is_overtaken_overwrites_nothing(world: World) -> None:
    world.subscribe()
    overtaken: list[Any] = []

    def decide(account: Any) -> Any:
        if not overtaken:
            overtaken.append(world.grant("1", 7, "overtakes"))
        return None if account.ledger_balance >= 12 else _grant(world, account)

    world.services.ledger.post("1", decide)
    assert [entry.amount for entry in world.history()] == [7, 5]


def test_an_operation_that_is_overtaken_overwrites_nothing(world: World) -> None:
    world.subscribe()
    overtaken: list[Any] = []

    def decide(account: Any) -> Any:
        if not overtaken:
            overtaken.append(world.grant("1", 7, "overtakes"))
        return use(account, 2, Request("usage#test#a", "test", "Export"), world.now)

    world.grant("1", 3, "before")
    world.services.ledger.perform("1", "usage#test#a", {"amount": 2}, decide)
    assert [entry.amount for entry in world.history()] == [3, 7, -2]


def test_an_entry_of_a_batch_that_is_overtaken_is_refused_and_its_neighbour_written(
    world: World,
) -> None:
    world.subscribe("1")
    world.subscribe("2")
    ledger = world.services.ledger
    drafts = [draft(ledger.account(user_id), lambda a: _grant(world, a, "b")) for user_id in "12"]
    world.grant("1", 7, "overtakes")
    inserted = ledger.insert([each for each in drafts if each])
    assert [each.entry.user_id for each in inserted.appended] == ["2"]
    assert [each.entry.user_id for each in inserted.refused] == ["1"]
    assert [entry.amount for entry in world.history("1")] == [7]


def test_a_worker_whose_entry_is_refused_in_a_batch_decides_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.allocation_tick("2026-01-31T23:00:00Z")
    world.deliver_waiting("sweeps")
    insert = world.services.ledger.insert

    def overtaken(drafts: Any) -> Any:
        world.grant("1", 7, "overtakes")
        return insert(drafts)

    monkeypatch.setattr(world.services.ledger, "insert", overtaken)
    assert world.deliver("allocations", world.take("allocations")) == []
    assert [entry.amount for entry in world.history()] == [7, 500]


def test_an_entry_that_fails_for_good_in_a_batch_is_the_failure_of_its_own_user(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that is larger than an item can be."""
    for user_id in "123":
        world.subscribe(user_id)
    world.allocation_tick("2026-01-31T23:00:00Z")
    world.deliver_waiting("sweeps")
    error: Any = {"Code": "ValidationException", "Message": "no"}

    def refuse(operation: str, arguments: Any, perform: Callable[[], Any]) -> Any:
        if operation == "ExecuteStatement" and arguments["Parameters"][0] == {"S": "2"}:
            raise wire.refused(operation, "ValidationException")
        if operation != "BatchExecuteStatement":
            return perform()
        owners = [each["Parameters"][0]["S"] for each in arguments["Statements"]]
        arguments["Statements"] = [
            each for each in arguments["Statements"] if each["Parameters"][0] != {"S": "2"}
        ]
        answer = perform()
        if "2" in owners:
            answer["Responses"].insert(owners.index("2"), {"Error": error})
        return answer

    watch(world, monkeypatch, refuse)
    messages = world.take("allocations")
    assert world.deliver("allocations", messages) == messages
    assert [world.balance(user_id) for user_id in "123"] == [500, 0, 500]


def test_an_insert_that_meets_a_transaction_is_decided_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    met: list[str] = []

    def conflict(operation: str, _arguments: Any, perform: Callable[[], Any]) -> Any:
        if operation == "ExecuteStatement" and not met:
            met.append(operation)
            raise wire.refused(operation, "TransactionConflictException")
        return perform()

    watch(world, monkeypatch, conflict)
    monkeypatch.setattr(world.services.ledger, "_pause", lambda _: None)
    world.services.ledger.post(
        "1", lambda account: None if account.last else _grant(world, account)
    )
    assert world.balance() == 5


@pytest.mark.parametrize("codes", [["ValidationError"], ["DuplicateItem", "ItemTooBig"]])
def test_a_transaction_that_is_cancelled_for_good_is_not_decided_again(
    world: World, monkeypatch: pytest.MonkeyPatch, codes: list[str]
) -> None:
    world.subscribe()

    def cancel(operation: str, _arguments: Any, perform: Callable[[], Any]) -> Any:
        if operation != "ExecuteTransaction":
            return perform()
        raise wire.cancelled(*codes)

    calls = watch(world, monkeypatch, cancel)
    monkeypatch.setattr(world.services.ledger, "_pause", lambda _: None)
    with pytest.raises(ServiceError):
        adjust(world.services, Adjustment("1", 5, "Gift"), actor="ada", caller="ada", key="a")
    assert [operation for operation, _ in calls].count("ExecuteTransaction") == 1


def test_a_marker_that_is_being_written_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    first = on_request.use_credits(world.services, "1", 5, "Export", caller="test", key="a")
    met: list[str] = []

    def conflict(operation: str, _arguments: Any, perform: Callable[[], Any]) -> Any:
        if operation == "TransactGetItems" and not met:
            met.append(operation)
            raise wire.cancelled(operation=operation)
        return perform()

    watch(world, monkeypatch, conflict)
    monkeypatch.setattr(world.services.ledger, "_pause", lambda _: None)
    again = on_request.use_credits(world.services, "1", 5, "Export", caller="test", key="a")
    assert (met, again.replayed, again.entry) == (["TransactGetItems"], True, first.entry)


def test_two_registrations_at_once_are_one(world: World) -> None:
    store = world.services.subscriptions
    seen: list[Any] = []

    def decide(present: Any) -> Any:
        seen.append(present)
        return present or first

    first = replace(world.subscribe("2"), user_id="1", plan="starter")

    def race(present: Any) -> Any:
        if not seen:
            store.change("1", decide, BY_TEST, world.now)
        return decide(present)

    assert store.change("1", race, BY_TEST, world.now) == first
    assert seen == [None, None, first], "the second saw the first"
    assert len(world.services.edits.newest_first("1", None, 9).items) == 1


def test_removing_nobody_says_so(world: World) -> None:
    assert not world.services.subscriptions.remove("nobody")
    world.subscribe()
    assert world.services.subscriptions.remove("1")


def test_an_erasure_replaces_only_the_line_that_it_has_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    ledger = world.services.ledger
    before = list(ledger.lines("1"))
    assert list(ledger.erase("1")) == [True]
    stored = world.lines()
    with monkeypatch.context() as late:
        late.setattr(ledger, "lines", lambda _user_id: iter(before))
        assert list(ledger.erase("1")) == [False]
    assert world.lines() == stored


def test_an_erasure_does_not_seal_what_was_tampered_with(world: World) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    table, key = world.settings.ledger_table, {"user_id": {"S": "1"}}
    (item,) = (line for line in world.lines() if line["entry"]["S"].startswith("entry#"))
    item["body"]["S"] = item["body"]["S"].replace("Goodwill", "Badwill")
    client("dynamodb").put_item(TableName=table, Item=item | key)
    stored = world.lines()
    with pytest.raises(LedgerCorrupt):
        list(world.services.ledger.erase("1"))
    assert world.lines() == stored


def test_an_entry_under_a_key_that_is_too_short_is_named(world: World) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    (item,) = (line for line in world.lines() if line["entry"]["S"].startswith("entry#"))
    item["entry"]["S"] = "entry#2"
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    with pytest.raises(LedgerCorrupt, match="its key is 'entry#2'"):
        world.services.ledger.verify("1")


# --- Reading --------------------------------------------------------------------------------------


def test_decisions_are_made_from_what_is_committed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    calls = watch(world, monkeypatch, as_ever)
    ledger, subscriptions = world.services.ledger, world.services.subscriptions
    ledger.account("1")
    ledger.entry("1", 1)
    ledger.entries([("1", 1)])
    subscriptions.find("1")
    subscriptions.get_many(["1"], consistent=True)
    assert len(calls) == 5
    for operation, arguments in calls:
        tables = arguments.get("RequestItems", {"": arguments}).values()
        assert all(table.get("ConsistentRead") for table in tables), operation


def test_what_a_read_of_many_leaves_out_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in "12":
        world.subscribe(user_id)
        world.grant(user_id, 5, user_id)
    world.queue_mails()
    world.send_mails()

    def half(operation: str, arguments: Any, perform: Callable[[], Any]) -> Any:
        ((table, wanted),) = arguments["RequestItems"].items()
        first, rest = wanted["Keys"][:1], wanted["Keys"][1:]
        wanted["Keys"] = first
        answer = perform()
        if rest:
            answer["UnprocessedKeys"] = {table: {"Keys": rest}}
        assert operation == "BatchGetItem"
        return answer

    watch(world, monkeypatch, half)
    for store in (world.services.ledger, world.services.subscriptions, world.services.mail_records):
        monkeypatch.setattr(store, "_pause", lambda _: None)
    assert set(world.services.subscriptions.get_many("12")) == {"1", "2"}
    assert set(world.services.ledger.entries([("1", 1), ("2", 1)])) == {("1", 1), ("2", 1)}
    identities = ["manual 1-1", "manual 2-1"]
    assert set(world.services.mail_records.find(identities)) == set(identities)


def test_a_search_for_a_rare_type_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    (entry,) = world.history()
    asked: list[int] = []

    def newest_first(_user_id: str, _below: int | None, page: int) -> Iterator[Any]:
        for number in range(999_999, 0, -1):
            if number % page == 999_999 % page:
                asked.append(page)
            yield replace(entry, number=number)

    monkeypatch.setattr(world.services.ledger, "newest_first", newest_first)
    page = world.services.ledger.page("1", 20, kind=EntryType.USAGE)
    assert page.entries == []
    assert page.below == 999_000
    assert asked == [250] * 4


def test_a_preview_asks_a_hundred_times_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def users_of(_zone: str, _after: str | None, limit: int) -> UsersPage:
        asked.append(limit)
        return UsersPage([], None)

    monkeypatch.setattr(world.services.subscriptions, "users_of", users_of)
    page = allocations.preview_run(world.services, Period(2026, 1), zone_names(), None, 50)
    assert (asked, page.due) == ([50] * 100, [])
    assert page.position


# --- Handing over ---------------------------------------------------------------------------------


def endless(pages: int) -> Callable[..., UsersPage]:
    count = iter(range(1, 10_000))

    def users_of(
        _zone: str, _after: str | None, _limit: int, _range: Range, _day: int | None
    ) -> UsersPage:
        place = next(count)
        last = None if place == pages else f"u{place}"
        return UsersPage([f"u{place}"], last)

    return users_of


@pytest.mark.parametrize(("remaining", "pages"), [(9_999, 1), (10_001, 3)])
def test_a_sweep_hands_over_ten_seconds_before_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch, remaining: int, pages: int
) -> None:
    world.subscribe()
    world.allocation_tick("2026-01-31T23:00:00Z")
    limits: list[int] = []
    pages_of = endless(3)

    def users_of(
        zone: str, after: str | None, limit: int, range_: Range, day: int | None
    ) -> UsersPage:
        limits.append(limit)
        return pages_of(zone, after, limit, range_, day)

    monkeypatch.setattr(world.services.subscriptions, "users_of", users_of)
    world.context = Context(remaining)
    assert world.deliver("sweeps", world.take("sweeps")[:1]) == []
    assert limits == [1000] * pages
    assert bool(world.take("sweeps")) == (pages == 1)


def test_a_sweep_of_reminders_hands_over_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.subscribe()
    world.expiry_tick("2026-01-31T23:00:00Z")
    reminders = [body for body in world.take("sweeps") if '"reminder"' in body]
    end = at("2026-02-03T23:00:00Z")

    def expiring(
        _zone: str, _shard: int, _after: Any, _until: Any, key: str | None, limit: int
    ) -> ExpiringPage:
        first = 0 if key is None else 1000
        users = [f"u{number}" for number in range(first, first + limit)]
        return ExpiringPage(users, f"k{first}", [end] * len(users))

    monkeypatch.setattr(world.services.ledger, "expiring", expiring)
    sent: list[str] = []

    def send_notifications(bodies: Iterable[str]) -> int:
        sent.extend(bodies)
        return len(sent)

    monkeypatch.setattr(world.services.queues, "send_notifications", send_notifications)
    world.context = Context(9_999)
    assert world.deliver("sweeps", reminders[:1]) == []
    assert len(sent) == 1000
    rest = world.take("sweeps")
    assert len(rest) == 32
    assert '"range":"00000","cursor":"Europe/Paris 00 k0"' in rest[0]
    assert '"range":"00001","cursor":null' in rest[1]


def test_a_check_reads_a_hundred_users_and_few_entries_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.allocate_at("2026-01-31T23:00:00Z")
    users: list[int] = []
    entries: list[int] = []
    users_of, newest_first = (
        world.services.subscriptions.users_of,
        world.services.ledger.newest_first,
    )

    def watched_users(
        zone: str, after: str | None, limit: int, range_: Range, day: int | None
    ) -> UsersPage:
        users.append(limit)
        return users_of(zone, after, limit, range_, day)

    def watched_entries(user_id: str, *, page: int) -> Any:
        entries.append(page)
        return newest_first(user_id, page=page)

    monkeypatch.setattr(world.services.subscriptions, "users_of", watched_users)
    monkeypatch.setattr(world.services.ledger, "newest_first", watched_entries)
    completeness.start_checks(world.services, {"period": "2026-02", "zones": ["Europe/Paris"]})
    assert world.deliver("checks", world.take("checks")) == []
    assert (users, entries) == ([100], [25])


def test_a_tally_names_twenty_users_and_counts_all() -> None:
    tally = sum((Tally(1, missing=1, missing_users=(str(n),)) for n in range(30)), Tally())
    assert (tally.missing, len(tally.missing_users), MOST_NAMED) == (30, 20, 20)
    values = json.loads(json.dumps(tally.values()))
    assert Tally.parse("tally", values) == tally
    for wrong in ({"missing_users": ["1"] * 21}, {"missing": -1}):
        with pytest.raises(InvalidInput):
            Tally.parse("tally", values | wrong)


def test_the_days_audit_is_of_two_hundred_and_names_twenty(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def scan(_start: str, page: int) -> Iterator[str]:
        asked.append(("a page", page))
        return (str(number) for number in range(1_000))

    def verify(user_id: str, _anchor: object) -> None:
        raise LedgerCorrupt(user_id, 1, "it is for a test")

    read: list[dict[str, Any]] = []

    def items(_start: str, page: int) -> Iterator[dict[str, Any]]:
        asked.append(("items", page))
        for number in range(2_000):
            read.append({"user_id": {"S": str(number % 200)}, "entry": {"S": "entry#"}})
            yield read[-1]

    monkeypatch.setattr(world.services.subscriptions, "scan", scan)
    monkeypatch.setattr(world.services.ledger, "scan", items)
    monkeypatch.setattr(world.services.ledger, "audit", verify)
    event = {"detail-type": "Scheduled Event", "id": "e", "time": "x"}
    answer = audits.audit_ledgers(world.services, event, Context())
    assert (answer["verified"], len(answer["corrupt"])) == (200, 20)
    assert (asked, len(read)) == ([("items", 500), ("a page", 100)], 1_000)
    answer = audits.audit_ledgers(world.services, {"sample": 10_001}, Context())
    assert answer["error"]["code"] == "invalid_input"


def test_heads_are_sorted_a_hundred_thousand_at_a_time() -> None:
    assert anchors.HEADS_IN_MEMORY == 100_000


def test_what_sqs_never_takes_is_a_failure(world: World) -> None:
    class Refusing:
        def __init__(self, times: int) -> None:
            self.times = times
            self.sizes: list[int] = []

        def send_message_batch(self, **request: Any) -> Any:
            self.sizes.append(len(request["Entries"]))
            self.times -= 1
            failed = request["Entries"][:1] if self.times >= 0 else []
            return {"Failed": [{"Id": entry["Id"]} for entry in failed]}

    some = Refusing(2)
    assert Queues(world.settings, lambda _: None, some).send_sweeps(["a"] * 12) == 12
    # Ten, of which one comes twice more, and the other two.
    assert some.sizes == [10, 1, 1, 2]
    with pytest.raises(Contention):
        Queues(world.settings, lambda _: None, Refusing(1_000)).send_sweeps(["a"])


# --- Emails ---------------------------------------------------------------------------------------


def test_an_email_is_put_off_no_longer_than_sqs_and_the_message_last(world: World) -> None:
    unit = world.settings.mail_retry_seconds
    delays = [notifications._delay(world.services, MailPostponed("busy"), 50) for _ in range(500)]
    assert unit < max(delays) <= 360 * unit
    assert min(delays) >= 180 * unit


def test_an_email_that_ses_postpones_is_tried_for_longer_than_its_rolling_day(world: World) -> None:
    """The shortest that the retries of a message can take, until its receives are used up."""
    resources = (packaging.ROOT / "infra" / "resources.yaml").read_text(encoding="utf-8")
    (receives,) = re.findall(r"maxReceiveCount: (\d+)\n", resources)
    shortest = sum(
        min(
            notifications._delay(world.services, MailPostponed("quota"), receive)
            for _ in range(200)
        )
        for receive in range(1, int(receives))
    )
    assert 25 * 3600 < shortest < 60 * 3600


class Ses:
    """Takes every email, and counts how often its connections are closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def send_email(self, **_: Any) -> dict[str, str]:
        return {"MessageId": "m"}


def test_an_email_waits_for_its_turn_and_a_connection_that_was_idle_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    ses = Ses()
    pace: Any = SimpleNamespace(wait=lambda: turns.append("waited"))
    mailer = Mailer(world.settings, client=ses, pace=pace)
    clock = [1_000.0]
    monkeypatch.setattr("chalicelib.mails.sending.time.monotonic", lambda: clock[0])
    mail = Mail(next(iter(world.subscribe().notifications)), "S", "T", "H", "https://u")
    mailer.send("1", "ada@example.com", mail)
    assert turns == ["waited"]
    clock[0] += 4
    mailer.drop_old_connections()
    assert ses.closed == 0
    clock[0] += 2
    mailer.drop_old_connections()
    assert ses.closed == 1


def test_a_token_of_a_link_that_is_too_long_is_not_even_decoded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_text: str) -> bytes:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(links, "_decode", fail)
    with pytest.raises(InvalidInput):
        world.services.unsubscribe_links.read("a" * 401)


def test_a_user_who_unsubscribed_from_reminders_gets_no_reminder(world: World) -> None:
    world.subscribe(plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.subscribe(plan="starter", notifications=[])
    (batch,) = world.services.ledger.account("1").batches
    assert batch.expires_at
    world.now = batch.expires_at - timedelta(days=3)
    assert world.send_mails([ExpiringSoon("1", batch.expires_at, world.now).body()]) == []
    assert world.outbox.recipients() == []


# --- Who is who -----------------------------------------------------------------------------------


def test_no_token_can_be_the_manual_function() -> None:
    with pytest.raises(InvalidInput):
        parse_user_id("sub", manual.CALLER)


def test_keys_of_voids_and_reversals_belong_to_their_callers(world: World) -> None:
    world.subscribe()
    world.grant("1", 50, "a")
    usage = on_request.use_credits(world.services, "1", 10, "Export", caller="shop", key="a").entry
    for caller in ("shop", "ada"):
        back = on_request.reverse_usage(
            world.services, "1", usage.transaction_id, 3, "Oops", caller=caller, key="k"
        )
        assert not back.replayed
    assert world.balance() == 46
    voids = {Void("1", 1, "Mistake", "ada", caller, "k").operation for caller in ("ada", "eve")}
    assert len(voids) == 2


def test_the_usage_of_one_user_is_not_given_back_as_that_of_another(world: World) -> None:
    for user_id in "12":
        world.subscribe(user_id)
        world.grant(user_id, 50, user_id)
        on_request.use_credits(world.services, user_id, 10, "Export", caller="shop", key=user_id)
    # Both have a usage of this number.
    with pytest.raises(NotFound):
        on_request.reverse_usage(
            world.services, "1", "2-2", None, "Oops", caller="shop", key="back"
        )
    assert (world.balance("1"), world.balance("2")) == (40, 40)


def test_keys_of_grants_belong_to_their_callers(world: World) -> None:
    world.subscribe()
    for caller in ("ada", "eve"):
        outcome = adjust(
            world.services, Adjustment("1", 5, "Gift"), actor="ada", caller=caller, key="k"
        )
        assert not outcome.replayed
    assert world.balance() == 10


def test_a_transaction_id_that_cannot_be_one_is_not_looked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    calls = watch(world, monkeypatch, as_ever)
    for number in ("1" * 13, "0", "x", "-1", ""):
        with pytest.raises(NotFound):
            on_request.reverse_usage(
                world.services, "1", f"1-{number}", None, "Oops", caller="shop", key="a"
            )
    assert calls == []


def test_a_void_is_of_what_granted_something(world: World) -> None:
    world.subscribe()
    world.grant("1", 50, "a")
    on_request.use_credits(world.services, "1", 10, "Export", caller="shop", key="a")
    with pytest.raises(NotFound):
        on_request.void_batch(world.services, Void("1", 2, "Mistake", "ada", "ada", "k"))


# --- The API --------------------------------------------------------------------------------------


def test_every_answer_says_what_browsers_may_do_with_it(world: World, api: Api) -> None:
    world.subscribe()
    headers = api.get("/api/credits/balance", user()).headers
    expected = {
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "strict-transport-security": "max-age=63072000; includeSubDomains",
        "x-content-type-options": "nosniff",
    }
    assert {name: headers.get(name) for name in expected} == expected


def test_the_unsubscribe_page_may_not_be_framed_nor_run_anything(world: World, api: Api) -> None:
    world.subscribe()
    token = world.services.unsubscribe_links.token("1", None)
    policy = api.get(f"/api/unsubscribe?token={token}", user()).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("route", ["allocation-schedule", "balance", "history"])
def test_a_caller_without_a_token_does_not_learn_what_a_query_may_hold(
    api: Api, route: str
) -> None:
    assert api.get(f"/api/credits/{route}?nonsense=1", NOBODY).status == 401


def test_a_caller_without_a_token_does_not_learn_what_a_body_may_hold(api: Api) -> None:
    assert api.post("/api/credits/use", NOBODY, {"nonsense": 1}).status == 401


def test_a_refusal_that_no_route_knows_is_a_fault_of_ours(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()

    def account(_user_id: str) -> Any:
        raise CreditsError("it is for a test")

    monkeypatch.setattr(world.services.ledger, "account", account)
    reply = api.get("/api/credits/balance", user())
    assert (reply.status, reply.json["code"]) == (500, "internal_error")


def test_a_forged_position_of_a_preview_is_refused(world: World, api: Api) -> None:
    world.subscribe()
    listing = f"preview 2026-01 {['Europe/Paris']}"
    body = {"period": "2026-01", "zones": ["Europe/Paris"], "dry_run": True}
    for position, status in (("Europe/Paris 1", 200), ("x" * 65 + " 1", 400), ("a b c", 400)):
        cursor = cursors.encode(listing, position)
        reply = api.post("/api/credits/allocation-runs", ADMIN, body | {"cursor": cursor})
        assert reply.status == status, position


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_subscription_that_is_no_object_is_refused(api: Api, method: str) -> None:
    for body in (b"[]", b"1", b'"pro"', b"null"):
        reply = api.send(method, "/api/subscriptions/1", BACKEND, raw=body)
        assert (reply.status, reply.json["errors"][0]["field"]) == (400, "body")


def test_a_cursor_of_kilobytes_is_not_even_decoded() -> None:
    assert cursors.parse_cursor("cursor", "A" * 512)
    for wrong in ("A" * 513, "", None, 7):
        with pytest.raises(InvalidInput):
            cursors.parse_cursor("cursor", wrong)
