"""The audit: a ledger that is right is said to be, and what was altered is found and named."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import metrics
from chalicelib.domain import ledger
from chalicelib.domain.anchors import user_digest
from chalicelib.domain.entries import operation_digest
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.ledger import Account
from chalicelib.domain.verification import Anchor
from chalicelib.jobs.audits import audit_ledgers
from chalicelib.jobs.errors import SomeUsersFailed
from chalicelib.jobs.sweeps import TIME_TO_HAND_OVER
from chalicelib.operations.on_request import reverse_usage, use_credits
from tests.aws.world import Context, World, at, client

Audit = Callable[..., dict[str, Any]]


@pytest.fixture
def audit(world: World) -> Audit:
    for number in range(1, 6):
        world.subscribe(str(number), plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.grant("1", 50, "a", expires_in_days=5)
    world.grant("1", -20, "b")
    metrics.flush()
    return lambda **event: audit_ledgers(world.services, event, world.context)


def alter(world: World, user_id: str, number: int, old: str, new: str) -> None:
    key = {"user_id": {"S": user_id}, "entry": {"S": f"entry#{number:012}"}}
    table = world.settings.ledger_table
    item = client("dynamodb").get_item(TableName=table, Key=key)["Item"]
    item["body"]["S"] = item["body"]["S"].replace(old, new)
    client("dynamodb").put_item(TableName=table, Item=item)


def test_a_user_a_zone_and_a_sample_are_audited(audit: Audit) -> None:
    right = {"success": True, "corrupt": [], "next": None}
    assert audit(user_id="1") == {**right, "verified": 1}
    assert audit(timezone="Europe/Paris") == {**right, "verified": 5}
    assert audit(timezone="Asia/Tokyo") == {**right, "verified": 0}
    assert audit(sample=3) == {**right, "verified": 3}
    # All of them once, wherever in the table it began.
    assert audit(sample=10_000) == {**right, "verified": 5}


def test_the_days_sample_names_an_altered_line_and_counts_it(
    world: World, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(world, "1", 2, "Goodwill", "Badwill")
    capsys.readouterr()
    answer = audit(**{"detail-type": "Scheduled Event", "id": "e-1", "time": "x"})
    assert answer["verified"] == 5
    assert answer["corrupt"] == [
        {
            "user_id": "1",
            "number": 2,
            "problem": "the hash does not match the body and the entry before",
        }
    ]
    metrics.flush()
    written = capsys.readouterr().out
    assert '"LedgersVerified":[5.0]' in written
    assert '"LedgersCorrupt":[1.0]' in written
    assert '"LedgersCorrupt":[0.0]' not in written, "it would end the alarm"


def test_an_audit_that_finds_nothing_says_so_in_its_metrics(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    audit(sample=5)
    capsys.readouterr()
    metrics.flush()
    assert '"LedgersCorrupt":[0.0]' in capsys.readouterr().out


def test_a_zone_that_takes_too_long_goes_on_after_the_last_user(world: World, audit: Audit) -> None:
    world.context = Context(remaining_milliseconds=TIME_TO_HAND_OVER)
    assert audit(timezone="Europe/Paris")["verified"] == 5, "there was time left"
    world.context = Context(remaining_milliseconds=TIME_TO_HAND_OVER - 1)
    first = audit(timezone="Europe/Paris")
    assert (first["verified"], first["next"]) == (1, "4"), "the first of the index"
    sampled = audit(sample=3)
    assert (sampled["verified"], sampled["next"]) == (1, None), "a sample has no order"
    world.context = Context()
    assert audit(timezone="Europe/Paris", after=first["next"])["verified"] == 4


def test_a_user_who_is_removed_while_their_zone_is_audited_stops_nothing(
    world: World, audit: Audit
) -> None:
    class Removing(Context):
        def get_remaining_time_in_millis(self) -> int:
            world.services.subscriptions.remove("3-without-a-ledger")
            return super().get_remaining_time_in_millis()

    world.subscribe("3-without-a-ledger")
    alter(world, "5", 1, "Monthly", "Weekly")
    world.context = Removing()
    assert [user_id for user_id, *_ in problems(audit(timezone="Europe/Paris"))] == ["5"]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "event"),
        ({"user_id": "1", "sample": 2}, "event"),
        ({"user_id": "1", "after": "1"}, "after"),
        ({"timezone": "Europe/Pari"}, "timezone"),
        ({"sample": 2, "after": "1"}, "after"),
        ({"sample": 0}, "sample"),
        ({"sample": 10_001}, "sample"),
        ({"sample": True}, "sample"),
        ({"user": "1"}, "user"),
    ],
)
def test_what_cannot_be_audited_is_refused_by_name(
    audit: Audit, event: dict[str, Any], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = audit(**event)
    assert not answer["success"]
    assert [error["field"] for error in answer["error"]["errors"]] == [field]
    (line,) = [vars(record) for record in caplog.records if record.msg == "audit refused"]
    assert (line["code"], line["detail"].partition(":")[0]) == ("invalid_input", field)


def test_a_ledger_of_nobody_is_not_verified(world: World, audit: Audit) -> None:
    refused = audit(user_id="nobody")
    assert (refused["success"], refused["error"]["code"]) == (False, "not_found")
    assert "there is no user nobody" in refused["error"]["detail"]
    world.subscribe("new")
    assert audit(user_id="new")["verified"] == 1


def test_a_single_altered_byte_anywhere_in_a_stored_entry_is_found_and_named(
    world: World, audit: Audit
) -> None:
    assert audit(user_id="1")["corrupt"] == []
    ledger = world.services.ledger
    stored = [item for _, item in ledger._stored("1")]
    places = [
        (number, name, place)
        for number, item in enumerate(stored, 1)
        for name, value in item.items()
        if name not in ("user_id", "entry")  # another key is another item
        for place in range(len(value["S"]))
    ]

    @settings(
        max_examples=300, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
    )
    @given(st.sampled_from(places), st.integers(32, 126).map(chr))
    def altered(where: tuple[int, str, int], byte: str) -> None:
        number, name, place = where
        value = stored[number - 1][name]["S"]
        if value[place] == byte:
            return
        forged = [dict(item) for item in stored]
        forged[number - 1][name] = {"S": value[:place] + byte + value[place + 1 :]}
        setattr(ledger, "_items", lambda *_, **__: iter(forged))  # noqa: B010
        with pytest.raises(LedgerCorrupt) as found:
            ledger.verify("1")
        assert (found.value.user_id, found.value.number) == ("1", number)

    altered()


def test_an_entry_under_an_invalid_key_is_found(world: World, audit: Audit) -> None:
    (item, *_) = [item for _, item in world.services.ledger._stored("2")]
    item["entry"]["S"] = "entry#00000000000x"
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    (corrupt,) = audit(user_id="2")["corrupt"]
    assert (corrupt["number"], corrupt["problem"]) == (2, "its key is 'entry#00000000000x'")


# --- Whatever is damaged ------------------------------------------------------------------------

DAY_EVENT = {"detail-type": "Scheduled Event", "id": "e-1", "time": "2026-02-02T13:40:00Z"}

Damage = Callable[[dict[str, Any]], object]

SHAPES: dict[str, Damage] = {
    "no body": lambda item: item.pop("body"),
    "no hash": lambda item: item.pop("hash"),
    "a body that is a number": lambda item: item.update(body={"N": "1"}),
    "a hash that is a number": lambda item: item.update(hash={"N": "1"}),
    "a body that is no JSON": lambda item: item.update(body={"S": "{"}),
    "a body of nothing": lambda item: item.update(body={"S": "null"}),
    "a body of a newer release": lambda item: item["body"].update(
        S=item["body"]["S"].replace('"schema":3', '"schema":9')
    ),
    "a malformed key": lambda item: item.update(entry={"S": "entry#x"}),
}


def stored(world: World, user_id: str, entry: str) -> dict[str, Any]:
    key = {"user_id": {"S": user_id}, "entry": {"S": entry}}
    item: dict[str, Any] = client("dynamodb").get_item(
        TableName=world.settings.ledger_table, Key=key
    )["Item"]
    return item


def put(world: World, item: dict[str, Any]) -> None:
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)


def remove(world: World, user_id: str, entry: str) -> None:
    key = {"user_id": {"S": user_id}, "entry": {"S": entry}}
    client("dynamodb").delete_item(TableName=world.settings.ledger_table, Key=key)


def remove_all(world: World, user_id: str, *entries: str) -> None:
    for entry in entries:
        remove(world, user_id, entry)


def marker(world: World, operation: str) -> dict[str, Any]:
    return stored(world, f"operation#{operation_digest(operation)}", "operation")


def problems(answer: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [tuple(found.values()) for found in answer["corrupt"]]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_entry_of_any_shape_is_named_and_all_others_are_audited(
    shape: str, world: World, audit: Audit
) -> None:
    for user_id in ("2", "4"):
        item = stored(world, user_id, "entry#000000000001")
        SHAPES[shape](item)
        put(world, item)
    for event in (DAY_EVENT, {"sample": 5}, {"timezone": "Europe/Paris"}):
        answer = audit(**event)
        assert answer["verified"] == 5
        assert {found["user_id"] for found in answer["corrupt"]} == {"2", "4"}


@pytest.fixture
def broken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no reader has thought of happens to the ledger of user 3."""
    known = world.services.ledger.audit

    def verify(user_id: str, anchor: Anchor | None) -> Account:
        if user_id == "3":
            raise ZeroDivisionError(user_id)
        return known(user_id, anchor)

    monkeypatch.setattr(world.services.ledger, "audit", verify)


@pytest.mark.usefixtures("broken")
def test_what_was_found_is_counted_whatever_happens_to_one_and_the_audit_fails_at_the_end(
    world: World,
    audit: Audit,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for user_id in ("1", "5"):
        alter(world, user_id, 1, "Monthly", "Weekly")
    capsys.readouterr()
    caplog.set_level("INFO")
    caplog.clear()
    with pytest.raises(SomeUsersFailed, match=r"^1 users failed, .*'3': 'ZeroDivisionError'"):
        audit(**DAY_EVENT)
    metrics.flush()
    written = capsys.readouterr().out
    assert written.count('"LedgersCorrupt":[1.0]') == 2
    assert '"LedgersVerified":[4.0]' in written
    lines = {record.msg: vars(record) for record in caplog.records}
    failed, said = lines["audit failed"], lines["audit"]
    # Whatever the words of an unknown failure are, they are not logged.
    assert (failed["of"], failed["error"], failed["levelname"]) == (
        "3",
        "ZeroDivisionError",
        "ERROR",
    )
    assert (said["verified"], said["corrupt"]) == (4, 2)


def test_an_answer_names_some_of_the_wrong_ledgers_and_the_log_all(
    world: World,
    audit: Audit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("chalicelib.jobs.audits.MOST_NAMED", 2)
    for user_id in ("1", "2", "4"):
        alter(world, user_id, 1, "Monthly", "Weekly")
    named = [user_id for user_id, *_ in problems(audit(timezone="Europe/Paris"))]
    lines = [vars(record) for record in caplog.records if record.msg == "ledger corrupt"]
    logged = [line["user_id"] for line in lines]
    assert sorted(logged) == ["1", "2", "4"]
    assert named == logged[:2]


@pytest.mark.usefixtures("broken")
def test_an_audit_that_could_not_audit_somebody_does_not_end_the_alarm(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    with pytest.raises(SomeUsersFailed):
        audit(sample=5)
    metrics.flush()
    assert "LedgersCorrupt" not in capsys.readouterr().out


def test_the_first_that_is_found_alarms_before_the_others_are_audited(
    world: World, audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(world, "1", 1, "Monthly", "Weekly")
    capsys.readouterr()

    class Killed(BaseException):
        pass

    class Killing(Context):
        def get_remaining_time_in_millis(self) -> int:
            if '"LedgersCorrupt":[1.0]' in capsys.readouterr().out:
                raise Killed
            return super().get_remaining_time_in_millis()

    world.context = Killing()
    with pytest.raises(Killed):
        audit(**DAY_EVENT)


def test_the_event_that_is_repeated_is_an_audit_of_the_same(
    world: World, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[tuple[str, str]] = []
    for store in (world.services.subscriptions, world.services.ledger):

        def scan(start: str, _page: int, name: str = type(store).__name__) -> list[Any]:
            starts.append((name, start))
            return []

        monkeypatch.setattr(store, "scan", scan)
    for event_id in ("e-1", "e-1", "e-2"):
        audit(**{**DAY_EVENT, "id": event_id})
    first, again, other = starts[:2], starts[2:4], starts[4:]
    assert first == again
    assert {start for _, start in first}.isdisjoint(start for _, start in other)
    assert len({start for _, start in first}) == 1


# --- What stands beside the entries -------------------------------------------------------------


@pytest.fixture
def reversed_usage(world: World, audit: Audit) -> Audit:
    """User 1 has used 60, of which 10 and 20 were given back: entries 4, 5 and 6."""
    services = world.services
    use_credits(services, "1", 60, "Job", caller="app", key="u")
    for key, amount in (("r1", 10), ("r2", 20)):
        reverse_usage(services, "1", "1-4", amount, "Failed", caller="app", key=key)
    assert problems(audit(user_id="1")) == []
    return audit


MARKER = f"operation#{operation_digest('usage#app#u')}"
LINK = "reversal#000000000004#00000{}".format


def changed(world: World, user_id: str, entry: str, **attributes: Any) -> None:
    put(world, stored(world, user_id, entry) | attributes)


BESIDE: dict[str, tuple[Callable[[World], object], tuple[int, str]]] = {
    "a marker that is gone": (
        lambda world: remove(world, MARKER, "operation"),
        (4, "its operation has no marker"),
    ),
    "a marker of another user": (
        lambda world: changed(world, MARKER, "operation", owner={"S": "2"}),
        (4, "the marker of its operation names another entry"),
    ),
    "a marker of another entry": (
        lambda world: changed(world, MARKER, "operation", number={"N": "3"}),
        (4, "the marker of its operation names another entry"),
    ),
    "a usage that is said to have expired": (
        lambda world: changed(world, MARKER, "operation", expired={"N": "1"}),
        (4, "its marker says what cannot be expired"),
    ),
    "a link that is gone": (
        lambda world: remove(world, "1", LINK(2)),
        (5, "the links of its usage do not agree"),
    ),
    "all links that are gone": (
        lambda world: remove_all(world, "1", LINK(1), LINK(2)),
        (5, "the links of its usage do not agree"),
    ),
    "a first link that is gone": (
        lambda world: remove(world, "1", LINK(1)),
        (4, "a link of its reversals is missing"),
    ),
    "a link too many": (
        lambda world: put(
            world,
            stored(world, "1", LINK(2))
            | {"entry": {"S": LINK(3)}, "sequence": {"N": "3"}, "reversed_in_all": {"N": "40"}},
        ),
        (5, "the links of its usage do not agree"),
    ),
    "a link that gives back less": (
        lambda world: changed(world, "1", LINK(2), reversed_in_all={"N": "29"}),
        (5, "the links of its usage do not agree"),
    ),
    "a link that gives back more than was used": (
        lambda world: changed(world, "1", LINK(2), reversed_in_all={"N": "61"}),
        (4, "its links say that what was never used was given back"),
    ),
    "a link of what is no usage": (
        lambda world: put(
            world, stored(world, "1", LINK(1)) | {"entry": {"S": LINK(1).replace("4", "2")}}
        ),
        (2, "its links say that what was never used was given back"),
    ),
    "a link with another number": (
        lambda world: changed(world, "1", LINK(2), sequence={"N": "3"}),
        (4, f"the sequence of {LINK(2)} is another"),
    ),
    "a link without its number": (
        lambda world: put(
            world, {k: v for k, v in stored(world, "1", LINK(2)).items() if k != "sequence"}
        ),
        (4, "sequence is missing"),
    ),
    "a link under a malformed key": (
        lambda world: put(world, stored(world, "1", LINK(2)) | {"entry": {"S": "reversal#4"}}),
        (0, "its key is 'reversal#4'"),
    ),
}


@pytest.mark.parametrize("corruption", BESIDE)
def test_markers_and_links_that_do_not_agree_with_the_entries_are_found(
    corruption: str, world: World, reversed_usage: Audit
) -> None:
    corrupt, (number, problem) = BESIDE[corruption]
    corrupt(world)
    assert problems(reversed_usage(user_id="1")) == [("1", number, problem)]


def test_so_they_are_of_somebody_without_a_subscription(
    world: World, reversed_usage: Audit
) -> None:
    world.services.subscriptions.remove("1")
    assert problems(reversed_usage(**DAY_EVENT)) == []
    remove(world, "1", LINK(2))
    assert problems(reversed_usage(**DAY_EVENT)) == [
        ("1", 5, "the links of its usage do not agree")
    ]


def test_a_marker_that_names_no_entry_is_found_for_every_user(
    world: World, reversed_usage: Audit
) -> None:
    strange = f"operation#{'a' * 64}"
    for owner, number, problem in (
        ("nobody", 7, "it has a marker and is not there"),
        ("1", 99, "it has a marker and is not there"),
        ("1", 4, "the marker of another operation names it"),
    ):
        put(
            world,
            marker(world, "usage#app#u")
            | {"user_id": {"S": strange}, "owner": {"S": owner}, "number": {"N": str(number)}},
        )
        assert problems(reversed_usage(**DAY_EVENT)) == [(owner, number, problem)]
    put(world, {"user_id": {"S": strange}, "entry": {"S": "operation"}})
    assert problems(reversed_usage(**DAY_EVENT)) == [(strange, 0, "request is missing")]
    # Those before it and after it are checked all the same.
    for number, digit in enumerate("0f", 7):
        key = {"user_id": {"S": f"operation#{digit * 64}"}, "owner": {"S": "nobody"}}
        put(world, marker(world, "usage#app#u") | key | {"number": {"N": str(number)}})
    found = problems(reversed_usage(**DAY_EVENT))
    assert {number for user, number, _ in found if user == "nobody"} == {7, 8}
    assert (strange, 0, "request is missing") in found


def test_what_was_erased_and_what_expired_meanwhile_is_right(
    world: World, reversed_usage: Audit
) -> None:
    world.now = at("2026-03-15T00:00:00Z")  # the allocation of February is dead
    services = world.services
    reverse_usage(services, "1", "1-4", None, "Failed", caller="app", key="r3")
    assert problems(reversed_usage(user_id="1")) == []
    assert all(world.services.ledger.erase("1")) is False
    assert problems(reversed_usage(user_id="1")) == []


def test_reversals_from_before_they_named_their_usage_are_right_and_count(
    world: World, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = world.services
    for key, amount in (("u", 30), ("v", 20)):
        use_credits(services, "1", amount, "Job", caller="app", key=key)
    with monkeypatch.context() as before:
        known = ledger.reverse

        def unnamed(*arguments: Any) -> Any:
            reversal = known(*arguments)
            return reversal._replace(entry=replace(reversal.entry, usage=None))

        before.setattr(ledger, "reverse", unnamed)
        reverse_usage(services, "1", "1-4", 10, "Failed", caller="app", key="r1")
        reverse_usage(services, "1", "1-5", 5, "Failed", caller="app", key="r2")
    assert problems(audit(user_id="1")) == []
    reverse_usage(services, "1", "1-4", 7, "Failed", caller="app", key="r3")
    assert problems(audit(user_id="1")) == []
    extra = stored(world, "1", "reversal#000000000005#000001")
    put(
        world,
        extra
        | {
            "entry": {"S": "reversal#000000000005#000002"},
            "sequence": {"N": "2"},
            "reversed_in_all": {"N": "6"},
        },
    )
    assert problems(audit(user_id="1")) == [
        ("1", 4, "its links tell of reversals that are not there")
    ]


def test_a_writer_between_the_walk_and_the_links_makes_nothing_corrupt(
    world: World, reversed_usage: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = world.services.ledger.reversals
    came = iter([True])

    def reversals(user_id: str) -> Any:
        if next(came, False):
            reverse_usage(world.services, "1", "1-4", 5, "Failed", caller="app", key="r3")
        return known(user_id)

    monkeypatch.setattr(world.services.ledger, "reversals", reversals)
    assert problems(reversed_usage(user_id="1")) == []


# --- Anchors ------------------------------------------------------------------------------------


@pytest.fixture
def anchored(world: World, audit: Audit) -> Audit:
    """All entries are in the digest of yesterday."""
    world.now = at("2026-02-01T13:40:00Z")
    world.watch()
    world.now += timedelta(hours=24)
    assert problems(audit(**DAY_EVENT)) == []
    world.now += timedelta(hours=24)
    return audit


def test_the_day_makes_its_digest_once_of_what_is_an_hour_old(
    world: World, anchored: Audit
) -> None:
    taken_at, anchors = world.services.anchors.find(["1", "2"])
    assert taken_at == at("2026-02-02T12:00:00Z")
    assert {user_id: anchor.number for user_id, anchor in anchors.items()} == {"1": 3, "2": 1}
    for _ in range(2):
        anchored(**DAY_EVENT)
    assert world.services.anchors.find([])[0] == at("2026-02-03T12:00:00Z")
    keys = client("s3").list_object_versions(Bucket=world.settings.anchors_bucket)["Versions"]
    assert len(keys) == 3  # the heads, and two digests


def test_an_end_that_was_cut_off_is_found_by_the_day_and_so_is_a_missing_ledger(
    world: World, anchored: Audit
) -> None:
    for key in ("entry#000000000003", "entry#000000000002"):
        remove(world, "1", key)
    for item in world.lines():
        if item.get("owner") == {"S": "1"}:
            remove(world, item["user_id"]["S"], "operation")
    remove(world, "2", "entry#000000000001")
    assert problems(anchored(user_id="1")) == [], "by itself it is right"
    assert sorted(problems(anchored(**DAY_EVENT))) == [
        ("1", 2, "entries up to 3 were anchored and are gone"),
        ("2", 1, "entries up to 1 were anchored and are gone"),
    ]


def anchor_otherwise(world: World, *user_ids: str) -> set[tuple[str, int, str]]:
    """Keeps other heads of users than before; returns the problems to find."""
    records = [it for it in world.stream() if it["dynamodb"]["Keys"]["user_id"]["S"] in user_ids]
    for record in records:
        record["dynamodb"]["NewImage"]["hash"] = {"S": "f" * 64}
    world.now -= timedelta(hours=5)
    world.watch(records)
    world.now += timedelta(hours=5)
    problem = "it was anchored before, with another hash"
    return {(user_digest(user_id), 1, problem) for user_id in user_ids}


def test_heads_that_were_anchored_otherwise_before_are_found_by_their_digest(
    world: World, anchored: Audit
) -> None:
    wrong = anchor_otherwise(world, "2", "4")
    found = problems(anchored(**DAY_EVENT))
    assert (len(found), {*found}) == (2, wrong)


def test_anchors_that_nobody_can_read_fail_the_audit_once_all_else_is_done(
    world: World, anchored: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    ((digest, *_),) = anchor_otherwise(world, "2")
    client("s3").put_object(
        Bucket=world.settings.anchors_bucket, Key="heads/2026-02-02T13:00:00Z-0.gz", Body=b"none"
    )
    with pytest.raises(SomeUsersFailed, match=r"new anchors.*AnchorUnreadable"):
        anchored(**DAY_EVENT)
    assert world.services.anchors.find([])[0] == at("2026-02-03T12:00:00Z")
    (wrong,) = [vars(line) for line in caplog.records if line.msg == "ledger corrupt"]
    assert (wrong["user_id"], wrong["number"]) == (digest, 1)
    assert problems(anchored(**DAY_EVENT)) == [], "it is reported once"


def test_ledgers_are_audited_though_the_digest_before_cannot_be_read(
    world: World, anchored: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    client("s3").put_object(
        Bucket=world.settings.anchors_bucket, Key="digests/2026-02-03T12:00:00Z.gz", Body=b"none"
    )
    alter(world, "4", 1, "Monthly", "Weekly")
    with pytest.raises(SomeUsersFailed, match=r"^1 users failed, .*'anchors': 'AnchorUnreadable"):
        anchored(**DAY_EVENT)
    (wrong,) = [vars(line) for line in caplog.records if line.msg == "ledger corrupt"]
    assert (wrong["user_id"], wrong["number"]) == ("4", 1)


def test_an_audit_that_comes_again_within_the_hour_makes_no_second_digest(
    world: World, anchored: Audit
) -> None:
    """Lambda repeats what failed, minutes later."""
    for minutes in (0, 7, 12):
        world.now += timedelta(minutes=minutes)
        anchored(**DAY_EVENT)
    keys = client("s3").list_object_versions(
        Bucket=world.settings.anchors_bucket, Prefix="digests/"
    )["Versions"]
    assert sorted(key["Key"] for key in keys) == [
        "digests/2026-02-02T12:00:00Z.gz",
        "digests/2026-02-03T12:00:00Z.gz",
    ]


def test_a_ledger_is_compared_with_what_was_anchored_before_and_not_with_what_took_its_place(
    world: World, anchored: Audit
) -> None:
    """Cut off and written anew, beyond where it had ended: the chain and the new heads agree."""
    now = world.now
    for key in ("entry#000000000003", "entry#000000000002"):
        remove(world, "1", key)
    for item in world.lines():
        if item.get("owner") == {"S": "1"}:
            remove(world, item["user_id"]["S"], "operation")
    world.now = now - timedelta(hours=5)
    for key in ("c", "d", "e"):
        world.grant("1", 1_000, key)
    world.watch([it for it in world.stream() if it["dynamodb"]["Keys"]["user_id"]["S"] == "1"])
    world.now = now
    found = problems(anchored(**DAY_EVENT))
    assert [(user_id, number) for user_id, number, _ in found] == [("1", 3)], found


def test_ledgers_that_were_verified_are_counted_though_one_could_not_be(
    world: World,
    audit: Audit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    walk = world.services.ledger.audit

    def failing(user_id: str, anchor: Anchor | None) -> Any:
        if user_id == "2":
            raise ZeroDivisionError
        return walk(user_id, anchor)

    monkeypatch.setattr(world.services.ledger, "audit", failing)
    capsys.readouterr()
    with pytest.raises(SomeUsersFailed):
        audit(timezone="Europe/Paris")
    metrics.flush()
    assert '"LedgersVerified":[4.0]' in capsys.readouterr().out
