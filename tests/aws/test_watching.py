"""The second reader of the ledger's stream: changes are told of, what was written is anchored."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib import metrics
from chalicelib.domain.anchors import Head, user_digest
from chalicelib.observability import SERVICE
from tests.aws.world import World, at, client


@pytest.fixture(autouse=True)
def _credits(world: World) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id)
        world.grant(user_id, 50, f"a{user_id}")
    world.grant("1", -20, "b")


def change(kind: str, user_id: str, entry: str) -> dict[str, Any]:
    """A record of the stream: somebody changed or removed an item."""
    keys = {"user_id": {"S": user_id}, "entry": {"S": entry}}
    image = {"NewImage": {**keys, "body": {"S": "Ada Lovelace"}}} if kind == "MODIFY" else {}
    return {"eventName": kind, "dynamodb": {"Keys": keys, **image}}


def kept(world: World) -> list[Head]:
    """What is in the digest of all that was written."""
    world.services.anchors.fold(at("2030-01-01T00:00:00Z"))
    return [*world.services.anchors.newest()[1]]


def written(capsys: pytest.CaptureFixture[str]) -> str:
    metrics.flush()
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["MODIFY", "REMOVE"])
@pytest.mark.parametrize(
    ("user_id", "entry"),
    [
        ("1", "entry#000000000001"),
        ("1", "reversal#000000000001#000001"),
        ("operation#" + "a" * 64, "operation"),
    ],
)
def test_a_change_is_counted_and_told_of_by_its_key_and_by_nothing_personal(
    kind: str,
    user_id: str,
    entry: str,
    world: World,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    written(capsys)
    world.watch([change(kind, user_id, entry)])
    assert '"LedgerItemsChanged":[1.0]' in written(capsys)
    (line,) = [vars(record) for record in caplog.records if record.name == SERVICE]
    assert (line["msg"], line["levelname"]) == ("ledger item changed", "ERROR")
    assert (line["user_id"], line["item"], line["change"]) == (user_id, entry, kind)
    assert "Lovelace" not in str(line)
    assert not client("s3").list_objects_v2(Bucket=world.settings.anchors_bucket)["KeyCount"]


def test_an_erasure_announces_itself_and_changes_no_anchor(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.watch()
    before = kept(world)
    changed = [change("MODIFY", "1", f"entry#{number:012}") for number in (1, 2)]
    assert [*world.services.ledger.erase("1")] == [True, True]
    written(capsys)
    world.watch(changed)
    assert '"LedgerItemsChanged":[2.0]' in written(capsys)
    assert kept(world) == before
    anchors = world.services.anchors.find(["1"]).anchors
    assert world.services.ledger.audit("1", anchors["1"]).ledger_balance == 30


def test_the_last_entry_of_each_user_of_a_batch_is_kept_in_one_object(world: World) -> None:
    world.watch(world.stream()[::-1])
    objects = client("s3").list_objects_v2(Bucket=world.settings.anchors_bucket)["Contents"]
    assert [key["Key"].partition("-")[0] for key in objects] == ["heads/2026"]
    hashes = {(item["user_id"]["S"], item["entry"]["S"]): item for item in world.lines()}
    assert kept(world) == sorted(
        Head(user_digest(user_id), number, hashes[user_id, f"entry#{number:012}"]["hash"]["S"])
        for user_id, number in (("1", 2), ("2", 1))
    )


def test_a_batch_that_is_delivered_again_changes_nothing(world: World) -> None:
    world.watch()
    before = kept(world)
    world.watch()
    world.watch(world.stream()[:1])
    assert kept(world) == before


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda item: item.pop("hash"), "hash is missing"),
        (lambda item: item.pop("body"), "body is missing"),
        (lambda item: item.update(hash={"N": "1"}), "hash is not of type S"),
        (lambda item: item.update(hash={"S": "0" * 63}), "it is no head of a ledger"),
        (lambda item: item.update(hash={"S": "0" * 64 + "\n"}), "it is no head of a ledger"),
    ],
)
def test_an_invalid_entry_is_reported_and_holds_up_no_other(
    damage: Any,
    problem: str,
    world: World,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = world.stream()
    damage(records[0]["dynamodb"]["NewImage"])
    written(capsys)
    world.watch(records)
    assert '"LedgersCorrupt":[1.0]' in written(capsys)
    assert [head.number for head in kept(world)] in ([1, 2], [2, 1])
    (line,) = [vars(record) for record in caplog.records if record.msg == "ledger corrupt"]
    keys = records[0]["dynamodb"]["Keys"]
    assert (line["user_id"], line["item"]) == (keys["user_id"]["S"], keys["entry"]["S"])
    assert (line["levelname"], line["problem"]) == ("ERROR", problem)


def test_what_s3_does_not_take_is_delivered_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": ""}}, "PutObject")

    with monkeypatch.context() as patched:
        patched.setattr(client("s3", "services"), "put_object", refuse)
        with pytest.raises(ClientError):
            world.watch()
    world.watch()
    assert len(kept(world)) == 2


def test_a_change_in_the_middle_of_a_batch_costs_no_other_entry_its_anchor(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = world.stream()
    changes = [change("MODIFY", "1", "entry#000000000001"), change("REMOVE", "3", "operation")]
    written(capsys)
    world.watch([changes[0], first, changes[1], *others])
    assert '"LedgerItemsChanged":[2.0]' in written(capsys)
    found = {(head.user, head.number) for head in kept(world)}
    assert found == {(user_digest("1"), 2), (user_digest("2"), 1)}
