"""The audit: a ledger that is right is said to be, and what was altered is found and named."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import metrics
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.jobs.audits import audit_ledgers
from tests.aws.world import Context, World, client

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
    assert audit(sample=50) == {**right, "verified": 5}


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


def test_an_audit_that_finds_nothing_says_so_in_its_metrics(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    audit(sample=5)
    capsys.readouterr()
    metrics.flush()
    assert '"LedgersCorrupt":[0.0]' in capsys.readouterr().out


def test_a_zone_that_takes_too_long_goes_on_after_the_last_user(world: World, audit: Audit) -> None:
    world.context = Context(remaining_milliseconds=1)
    first = audit(timezone="Europe/Paris")
    assert first["verified"] == 1
    world.context = Context()
    assert audit(timezone="Europe/Paris", after=first["next"])["verified"] == 4


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "event"),
        ({"user_id": "1", "sample": 2}, "event"),
        ({"user_id": "1", "after": "1"}, "after"),
        ({"timezone": "Europe/Pari"}, "timezone"),
        ({"sample": 0}, "sample"),
        ({"sample": True}, "sample"),
        ({"user": "1"}, "user"),
    ],
)
def test_what_cannot_be_audited_is_refused_by_name(
    audit: Audit, event: dict[str, Any], field: str
) -> None:
    answer = audit(**event)
    assert not answer["success"]
    assert [error["field"] for error in answer["error"]["errors"]] == [field]


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


def test_an_entry_under_a_key_that_is_none_is_found(world: World, audit: Audit) -> None:
    (item, *_) = [item for _, item in world.services.ledger._stored("2")]
    item["entry"]["S"] = "entry#00000000000x"
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    (corrupt,) = audit(user_id="2")["corrupt"]
    assert corrupt["problem"] == "its key is 'entry#00000000000x'"
