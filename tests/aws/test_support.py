"""What those who answer users find, see and try over the API."""

from typing import Any

import pytest

from tests.aws.api import ADMIN, Api
from tests.aws.world import World, at, client

Json = dict[str, Any]

SUBSCRIPTIONS = "/api/subscriptions"


def found(api: Api, query: str) -> list[str]:
    """The ids on all pages."""
    user_ids: list[str] = []
    cursor = ""
    while True:
        reply = api.get(f"{SUBSCRIPTIONS}?{query}{cursor}", ADMIN)
        assert reply.status == 200, reply.text
        user_ids += [each["user_id"] for each in reply.json["subscriptions"]]
        if reply.json["next_cursor"] is None:
            return user_ids
        cursor = f"&cursor={reply.json['next_cursor']}"


# --- Finding a user -----------------------------------------------------------------------------


def test_all_who_share_an_address_are_found_however_it_is_spelled(world: World, api: Api) -> None:
    world.subscribe("1", email="Ada@Exämple.com")
    world.subscribe("2", email="ada@xn--exmple-cua.com", status="cancelled")
    world.subscribe("3", email="adam@xn--exmple-cua.com")
    for spelling in ("ada@ex%C3%A4mple.com", "ADA@xn--exmple-cua.COM"):
        assert found(api, f"email={spelling}") == ["1", "2"]
        assert found(api, f"email={spelling}&limit=1") == ["1", "2"]
    assert found(api, "email=ada@ex%C3%A4mple.com&status=cancelled") == ["2"]
    assert found(api, "email=nobody@example.com") == []


def test_who_is_found_is_shown_in_short(world: World, api: Api) -> None:
    world.subscribe("1")
    reply = api.get(f"{SUBSCRIPTIONS}?email=user1@example.com", ADMIN)
    assert reply.json == {
        "subscriptions": [
            {
                "user_id": "1",
                "email": "user1@example.com",
                "timezone": "Europe/Paris",
                "plan": "pro",
                "billing_interval": "yearly",
                "status": "active",
                "started_at": "2025-01-01T00:00:00Z",
            }
        ],
        "unreadable": 0,
        "next_cursor": None,
    }


def test_a_user_is_found_by_their_new_address_and_not_by_their_old_one(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.subscribe("1", email="new@example.com")
    assert found(api, "email=user1@example.com") == []
    assert found(api, "email=new@example.com") == ["1"]
    world.subscribe("1", email=None)
    assert found(api, "email=new@example.com") == []


def test_an_address_that_a_lagging_index_still_has_finds_nobody(world: World, api: Api) -> None:
    world.subscribe("1")
    client("dynamodb").update_item(
        TableName=world.settings.subscriptions_table,
        Key={"user_id": {"S": "1"}},
        UpdateExpression="SET email = :email",
        ExpressionAttributeValues={":email": {"S": "new@example.com"}},
    )
    assert found(api, "email=user1@example.com") == []


def test_an_erased_user_is_not_found_by_their_address(world: World, api: Api) -> None:
    world.subscribe("1")
    world.services.subscriptions.remove("1")
    assert found(api, "email=user1@example.com") == []
    index = {"TableName": world.settings.subscriptions_table, "IndexName": "by_address"}
    assert client("dynamodb").scan(**index)["Items"] == []


def test_the_index_of_addresses_has_no_address(world: World) -> None:
    world.subscribe("1")
    index = {"TableName": world.settings.subscriptions_table, "IndexName": "by_address"}
    (item,) = client("dynamodb").scan(**index)["Items"]
    assert "example.com" not in item["address"]["S"]


def test_filters_combine_and_pages_lose_nobody(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.store.subscriptions.SEARCHED_AT_ONCE", 3)
    monkeypatch.setattr("chalicelib.store.subscriptions.MOST_SEARCHED", 6)
    for number in range(20):
        changes: Json = {} if number % 4 else {"status": "paused"}
        plan = "starter" if number % 5 else "pro"
        world.subscribe(f"u{number}", plan=plan, **changes)
    world.subscribe("v", timezone="Asia/Tokyo", status="paused", plan="starter")
    everybody = sorted(f"u{number}" for number in range(20))
    assert sorted(found(api, "limit=7")) == sorted([*everybody, "v"])
    paused = {f"u{number}" for number in range(0, 20, 4)}
    starters = {f"u{number}" for number in range(20) if number % 5}
    for limit in (1, 2, 3, 100):
        assert set(found(api, f"status=paused&limit={limit}")) == {*paused, "v"}
        assert set(found(api, f"status=paused&plan=starter&limit={limit}")) == {
            *(paused & starters),
            "v",
        }
        assert found(api, f"timezone=Asia/Tokyo&limit={limit}") == ["v"]
    assert len(found(api, "plan=starter&limit=2")) == len(starters) + 1


def test_a_search_for_what_is_rare_reads_a_bounded_part_of_the_table(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.store.subscriptions.SEARCHED_AT_ONCE", 2)
    monkeypatch.setattr("chalicelib.store.subscriptions.MOST_SEARCHED", 4)
    for number in range(7):
        world.subscribe(str(number))
    reply = api.get(f"{SUBSCRIPTIONS}?status=cancelled", ADMIN)
    assert reply.json["subscriptions"] == []
    assert reply.json["next_cursor"] is not None
    assert found(api, "status=cancelled") == []


def test_a_damaged_subscription_is_counted_and_hides_no_other(world: World, api: Api) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id, email="ada@example.com")
    client("dynamodb").update_item(
        TableName=world.settings.subscriptions_table,
        Key={"user_id": {"S": "1"}},
        UpdateExpression="REMOVE version",
    )
    for query in ("email=ada@example.com", "plan=pro"):
        reply = api.get(f"{SUBSCRIPTIONS}?{query}", ADMIN).json
        assert [each["user_id"] for each in reply["subscriptions"]] == ["2"]
        assert reply["unreadable"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("email=ada", "email"),
        ("plan=No%20plan", "plan"),
        ("status=asleep", "status"),
        ("timezone=Europe/Pari", "timezone"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("name=ada", "name"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_by_field(
    world: World, api: Api, query: str, field: str
) -> None:
    assert world.now == at("2026-01-15T12:00:00Z")
    reply = api.get(f"{SUBSCRIPTIONS}?{query}", ADMIN)
    assert reply.status == 400
    assert [error["field"] for error in reply.json["errors"]] == [field]


def test_a_cursor_is_of_the_search_that_it_came_from(world: World, api: Api) -> None:
    world.subscribe("1")
    world.subscribe("2")
    cursor = api.get(f"{SUBSCRIPTIONS}?plan=pro&limit=1", ADMIN).json["next_cursor"]
    assert api.get(f"{SUBSCRIPTIONS}?plan=starter&cursor={cursor}", ADMIN).status == 400
