"""Very many users of the bench: kept in little memory, and read like any others."""

import json
from typing import Any

import pytest

from bench.crowd import MOST_USERS, Crowd, user_id_of
from bench.database import Refused, Store
from bench.scale import Handed, main
from bench.workload import ZONE, subscription

USERS = 3_000
ITEM = subscription("pro")


def answer(store: Store, operation: str, **values: Any) -> Any:
    return json.loads(store.answer(operation, values))


def page(store: Store, after: str, limit: int = 1_000) -> list[str]:
    found = answer(
        store,
        "Query",
        TableName="credits-bench-subscriptions",
        IndexName="by_timezone",
        KeyConditionExpression="allocation_timezone = :z AND spread > :a",
        ExpressionAttributeValues={":z": {"S": ZONE}, ":a": {"S": after}},
        Limit=limit,
    )
    return [item["spread"]["S"] for item in found["Items"]]


def everybody(store: Store) -> list[str]:
    found: list[str] = []
    while more := page(store, found[-1] if found else ""):
        found += more
    return found


@pytest.fixture
def store() -> Store:
    store = Store()
    store.answer("control_seed", {"prefix": "user", "users": USERS, "subscription": ITEM})
    return store


def get(store: Store, user_id: str) -> Any:
    key = {"user_id": {"S": user_id}}
    return answer(store, "GetItem", TableName="subscriptions", Key=key).get("Item")


def test_a_crowd_is_in_the_order_of_its_index_and_takes_eight_bytes_a_user() -> None:
    crowd = Crowd("user", USERS, ITEM)
    assert len(crowd) == USERS
    assert list(crowd) == sorted(crowd) == crowd[:]
    assert {user_id for _, user_id in crowd} == {user_id_of("user", n) for n in range(USERS)}
    assert crowd._users.itemsize == 8


def test_the_ids_of_the_most_users_have_the_order_of_their_numbers() -> None:
    last = [user_id_of("user", number) for number in (9, 10, 999_999, MOST_USERS - 1)]
    assert sorted(last) == last


def test_a_crowd_is_paged_like_users_who_were_put_one_by_one(store: Store) -> None:
    one_by_one = Store()
    for number in range(USERS):
        item = get(store, user_id_of("user", number))
        put = [{"PutRequest": {"Item": item}}]
        one_by_one.answer("BatchWriteItem", {"RequestItems": {"subscriptions": put}})
    store.read_units = 0.0
    found = everybody(store)
    assert len(found) == USERS
    assert found == everybody(one_by_one)
    assert store.read_units == one_by_one.read_units > 0


def test_nobody_is_found_who_is_not_of_the_crowd(store: Store) -> None:
    assert get(store, "user-0000000")["plan"] == {"S": "pro"}
    for user_id in ("user-0003000", "user-1", "user-x", "other-0000001", "user", ""):
        assert get(store, user_id) is None


def test_one_of_a_crowd_who_is_edited_is_read_as_edited_and_once(store: Store) -> None:
    item = get(store, "user-0000007") | {"plan": {"S": "business"}}
    store.answer(
        "PutItem",
        {
            "TableName": "subscriptions",
            "Item": item,
            "ConditionExpression": "version = :v",
            "ExpressionAttributeValues": {":v": {"N": "1"}},
        },
    )
    assert get(store, "user-0000007")["plan"] == {"S": "business"}
    assert everybody(store) == sorted(set(everybody(store)))
    assert len(everybody(store)) == USERS
    with pytest.raises(Refused):
        store.answer(
            "PutItem",
            {
                "TableName": "subscriptions",
                "Item": item,
                "ConditionExpression": "attribute_not_exists(user_id)",
            },
        )


def test_crowds_of_a_zone_are_paged_together_and_forgotten_together(store: Store) -> None:
    store.answer("control_seed", {"prefix": "warm", "users": 100, "subscription": ITEM})
    assert everybody(store) == sorted(everybody(store))
    assert len(everybody(store)) == USERS + 100
    store.answer("control_forget", {"tables": ["subscriptions"]})
    assert everybody(store) == []
    assert get(store, "user-0000000") is None


def test_of_the_messages_only_the_last_are_kept_but_every_user_is_counted() -> None:
    handed = Handed(2_000)
    for start in [*range(0, 2_000, 10), 0, 0]:
        users = [user_id_of("user", start + number) for number in range(10)]
        handed.add(json.dumps({"user_ids": users}))
    assert (handed.messages, len(handed.last), handed.missing) == (202, 50, 0)
    assert handed.twice == 10
    assert Handed(5).missing == 5


def test_more_users_than_there_are_ids_for_are_refused_with_the_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--users", "10000001"])
    assert "--users: must be a whole number from 1 to 10,000,000" in capsys.readouterr().err
