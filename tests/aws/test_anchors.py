"""The anchors bucket: heads are kept, folded into the digest of the day, and found again."""

import gzip
from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.domain.anchors import Head, user_digest
from chalicelib.domain.errors import AnchorUnreadable
from chalicelib.domain.verification import Anchor
from chalicelib.store import anchors
from chalicelib.store.anchors import Anchors
from tests.aws.world import World, at, client

DAY = timedelta(days=1)
NOON = at("2026-07-01T12:00:00.250Z")


def head(user_id: str, number: int, letter: str = "a") -> Head:
    return Head(user_digest(user_id), number, letter * 64)


@pytest.fixture
def bucket(world: World) -> Anchors:
    return world.services.anchors


def digest(bucket: Anchors) -> list[Head]:
    return [*bucket.newest()[1]]


def in_bucket(world: World, prefix: str) -> list[str]:
    answer = client("s3").list_objects_v2(Bucket=world.settings.anchors_bucket, Prefix=prefix)
    return [found["Key"] for found in answer.get("Contents", ())]


def put(world: World, key: str, body: bytes) -> None:
    client("s3").put_object(Bucket=world.settings.anchors_bucket, Key=key, Body=body)


def test_where_nothing_was_kept_there_is_no_anchor(bucket: Anchors) -> None:
    assert bucket.find(["1"]) == (None, {})
    assert bucket.fold(NOON) == ([], [])
    assert bucket.find(["1"]) == (NOON, {})


def test_the_digest_has_the_last_head_of_every_user_in_order(bucket: Anchors) -> None:
    bucket.keep([head("1", 3), head("2", 1)], NOON)
    bucket.keep([head("1", 5), head("3", 7)], NOON + timedelta(hours=1))
    bucket.keep([head("1", 4)], NOON + timedelta(hours=2))
    assert bucket.fold(NOON + DAY) == ([], [])
    assert digest(bucket) == sorted([head("1", 5), head("2", 1), head("3", 7)])
    assert bucket.find(["1", "3", "4"]) == (
        NOON + DAY,
        {"1": Anchor(5, "a" * 64), "3": Anchor(7, "a" * 64)},
    )


def test_the_same_batch_in_another_order_is_the_same_object(world: World, bucket: Anchors) -> None:
    heads = [head("1", 3), head("2", 1)]
    for batch in (heads, heads[::-1]):
        bucket.keep(batch, NOON)
    assert in_bucket(world, "heads/") == ["heads/2026-07-01T12:00:00.250Z-914e303c2e48523e.gz"]


def test_the_bucket_is_reached_by_what_the_settings_say(world: World, bucket: Anchors) -> None:
    bucket.keep([head("1", 3)], NOON)
    Anchors(world.settings).fold(NOON + DAY)
    assert digest(bucket) == [head("1", 3)]


def test_each_days_digest_is_the_one_before_and_what_was_kept_since(bucket: Anchors) -> None:
    bucket.keep([head("1", 3), head("2", 1)], NOON)
    bucket.fold(NOON + DAY)
    bucket.keep([head("2", 2)], NOON + DAY)
    bucket.fold(NOON + 2 * DAY)
    bucket.fold(NOON + 3 * DAY)
    assert digest(bucket) == sorted([head("1", 3), head("2", 2)])
    # The earlier one is there as it was.
    first = (NOON + DAY, {"2": Anchor(1, "a" * 64)})
    assert bucket.find(["2"], NOON + 2 * DAY) == first
    assert bucket.find(["2"], NOON + DAY + timedelta(hours=1)) == first
    assert bucket.find(["2"], NOON + DAY) == (None, {})


def test_a_batch_is_in_the_first_digest_that_is_of_a_later_instant(bucket: Anchors) -> None:
    bucket.keep([head("1", 1)], NOON)
    bucket.fold(NOON)
    assert digest(bucket) == []
    bucket.fold(NOON + DAY)
    assert digest(bucket) == [head("1", 1)]


def test_every_batch_of_the_days_between_two_digests_is_in_the_second(bucket: Anchors) -> None:
    bucket.fold(NOON)
    for day in range(5):
        bucket.keep([head(str(day), 1), head("each", 1, "abcde"[day])], NOON + day * DAY)
    contradictions, _ = bucket.fold(NOON + 5 * DAY)
    users = [*map(str, range(5))]
    assert sorted(bucket.find([*users, "each"])[1]) == [*users, "each"]
    assert head("each", 1, "a") in digest(bucket), "the first that was kept is right"
    assert [each.hash[0] for each in contradictions] == [*"bcde"]


def test_an_object_says_nothing_of_when_or_where_it_was_written(
    world: World, bucket: Anchors
) -> None:
    bucket.keep([head("1", 3)], NOON)
    bucket.fold(NOON + DAY)
    for prefix in ("heads/", "digests/"):
        (key,) = in_bucket(world, prefix)
        answer = client("s3").get_object(Bucket=world.settings.anchors_bucket, Key=key)
        beginning = answer["Body"].read(8)
        # RFC 1952: no flag, such as that of a name, and a time of 0.
        assert beginning == b"\x1f\x8b\x08" + bytes(5)


def test_a_batch_of_entries_that_came_late_is_in_the_next_digest(bucket: Anchors) -> None:
    bucket.keep([head("1", 2)], NOON)
    bucket.fold(NOON + DAY)
    bucket.keep([head("2", 9), head("1", 1)], NOON + DAY)
    bucket.fold(NOON + 2 * DAY)
    assert digest(bucket) == sorted([head("1", 2), head("2", 9)])


def test_a_digest_is_made_once_and_never_behind_a_later_one(world: World, bucket: Anchors) -> None:
    bucket.keep([head("1", 1)], NOON)
    for until in (NOON + DAY, NOON + DAY, NOON + timedelta(hours=1)):
        bucket.fold(until)
    assert in_bucket(world, "digests/") == ["digests/2026-07-02T12:00:00.250Z.gz"]
    versions = client("s3").list_object_versions(
        Bucket=world.settings.anchors_bucket, Prefix="digests/"
    )["Versions"]
    assert len(versions) == 1


def test_a_digest_that_another_made_meanwhile_is_left_as_it_is(
    world: World, bucket: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.keep([head("1", 1)], NOON)
    monkeypatch.setattr(bucket, "_objects", lambda *_: {})
    bucket.fold(NOON + DAY)
    bucket.fold(NOON + DAY)
    monkeypatch.undo()
    assert digest(bucket) == []
    versions = client("s3").list_object_versions(
        Bucket=world.settings.anchors_bucket, Prefix="digests/"
    )["Versions"]
    assert len(versions) == 1


def test_any_other_refusal_of_s3_is_a_failure(
    bucket: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "PutObject")

    monkeypatch.setattr(bucket._client, "put_object", refuse)
    with pytest.raises(ClientError):
        bucket.keep([head("1", 1)], NOON)
    with pytest.raises(ClientError):
        bucket.fold(NOON)


@pytest.mark.parametrize("in_memory", [1, 7, 1_000])
def test_any_number_of_heads_is_folded_a_part_at_a_time(
    in_memory: int, bucket: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "HEADS_IN_MEMORY", in_memory)
    random = Random(7)
    last: dict[str, Head] = {}
    for day in range(3):
        for batch in range(4):
            heads = [head(str(random.randrange(20)), random.randrange(1, 50)) for _ in range(9)]
            bucket.keep(heads, NOON + day * DAY + timedelta(minutes=batch))
            for each in heads:
                last[each.user] = max(each, last.get(each.user, each))
        bucket.fold(NOON + (day + 1) * DAY)
    assert digest(bucket) == sorted(last.values())


def test_a_head_that_contradicts_an_earlier_one_is_named_and_not_believed(bucket: Anchors) -> None:
    bucket.keep([head("1", 3), head("2", 3)], NOON)
    bucket.fold(NOON + DAY)
    bucket.keep([head("1", 3, "0"), head("2", 3)], NOON + DAY)
    bucket.keep([head("3", 1, "f")], NOON + DAY)
    bucket.keep([head("3", 1, "0")], NOON + DAY + timedelta(hours=1))
    contradictions, unreadable = bucket.fold(NOON + 2 * DAY)
    assert sorted(contradictions) == sorted([head("1", 3, "0"), head("3", 1, "0")])
    assert unreadable == []
    assert digest(bucket) == sorted([head("1", 3), head("2", 3), head("3", 1, "f")])
    # It is told once.
    assert bucket.fold(NOON + 2 * DAY) == bucket.fold(NOON + 3 * DAY) == ([], [])


def bad_objects() -> Iterable[bytes]:
    good = head("9", 9).line().encode()
    yield good
    yield gzip.compress(good)[:-4]
    yield gzip.compress(good)[:-8] + bytes(8)
    yield gzip.compress(b"\xff\n")
    yield gzip.compress(good.upper())
    yield gzip.compress(good.replace(b" 9 ", b" 0 "))
    yield gzip.compress(good.replace(b" 9 ", b" -9 "))
    yield gzip.compress(good.replace(b"\n", b" \n"))
    yield gzip.compress(good[1:])
    yield gzip.compress(good.replace(b"\n", b"\r\n"))
    yield gzip.compress(good)[:10] + b"\xff" * 8


@pytest.mark.parametrize("body", [*bad_objects()], ids=range(11))
def test_a_batch_that_nobody_can_read_is_named_and_the_others_are_folded(
    body: bytes, world: World, bucket: Anchors
) -> None:
    bucket.keep([head("1", 1)], NOON)
    put(world, "heads/2026-07-01T13:00:00Z-0.gz", body)
    bucket.keep([head("2", 2)], NOON + timedelta(hours=2))
    contradictions, unreadable = bucket.fold(NOON + DAY)
    assert (contradictions, [str(error)[:55] for error in unreadable]) == (
        [],
        ["the anchors heads/2026-07-01T13:00:00Z-0.gz cannot be r"],
    )
    assert {head("1", 1), head("2", 2)} <= {*digest(bucket)}


def test_a_digest_that_nobody_can_read_is_named(world: World, bucket: Anchors) -> None:
    put(world, "digests/2026-07-01T12:00:00.250Z.gz", b"none")
    with pytest.raises(AnchorUnreadable, match="digests/2026-07-01"):
        bucket.find(["1"])
    with pytest.raises(AnchorUnreadable, match="digests/2026-07-01"):
        bucket.fold(NOON + DAY)


def test_what_is_put_on_top_of_an_object_is_not_read(world: World, bucket: Anchors) -> None:
    bucket.keep([head("1", 3)], NOON)
    (key,) = in_bucket(world, "heads/")
    put(world, key, gzip.compress(head("1", 9).line().encode()))
    bucket.fold(NOON + DAY)
    put(world, "digests/2026-07-02T12:00:00.250Z.gz", gzip.compress(b""))
    assert digest(bucket) == [head("1", 3)]
    client("s3").delete_object(
        Bucket=world.settings.anchors_bucket, Key="digests/2026-07-02T12:00:00.250Z.gz"
    )
    assert digest(bucket) == [head("1", 3)]


def test_an_anchor_names_nobody(world: World, bucket: Anchors) -> None:
    bucket.keep([head("ada.lovelace", 1)], NOON)
    bucket.fold(NOON + DAY)
    for key in in_bucket(world, ""):
        body = client("s3").get_object(Bucket=world.settings.anchors_bucket, Key=key)["Body"]
        text = gzip.decompress(body.read()).decode()
        assert text == head("ada.lovelace", 1).line()
        assert "ada" not in text
        assert len(user_digest("ada.lovelace")) == 32


def test_s3_is_asked_for_what_it_wants_of_an_object_that_it_locks(
    world: World, bucket: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No emulator insists on it: S3 refuses a locked object that comes without a checksum."""
    s3 = client("s3", "services")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(s3, "put_object", lambda **request: asked.append(request))
    bucket.keep([head("1", 1)], NOON)
    bucket.fold(NOON + DAY)
    assert [request["Key"].partition("/")[0] for request in asked] == ["heads", "digests"]
    for request in asked:
        assert request["Bucket"] == world.settings.anchors_bucket
        assert request["ChecksumAlgorithm"] == "CRC32"
        assert request["IfNoneMatch"] == "*", "another version would be put on top"


def test_all_objects_are_found_however_many_pages_s3_makes_of_them(
    bucket: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = client("s3", "services")
    listed = s3.list_object_versions
    monkeypatch.setattr(s3, "list_object_versions", lambda **it: listed(**(it | {"MaxKeys": 1})))
    for number in range(1, 4):
        bucket.keep([head(str(number), number)], NOON + timedelta(minutes=number))
    bucket.fold(NOON + DAY)
    bucket.fold(NOON + 2 * DAY)
    assert digest(bucket) == sorted(head(str(number), number) for number in range(1, 4))
    assert bucket.newest()[0] == NOON + 2 * DAY
