"""One reader a table: whatever is stored and cannot be read is one named error.

An item is damaged as a hand, a restore or a roll-back can damage it; the stores are the real ones.
"""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.domain.errors import LedgerCorrupt, Unreadable
from chalicelib.domain.verification import Link
from chalicelib.mails.errors import MailInDoubt
from chalicelib.store.database import Item
from chalicelib.store.ledger import Performed
from chalicelib.store.ledger_items import read_link, read_marker
from chalicelib.store.mails import read_mail, record_id
from chalicelib.store.subscriptions import read_subscription, readable
from tests.aws.damage import damage, having, newer, without
from tests.aws.world import BY_TEST, World

ENTRY = "entry#000000000001"


# --- Subscriptions --------------------------------------------------------------------------------

REQUIRED = (
    *("timezone", "plan", "billing_interval", "status", "started_at", "eligible_from", "version"),
)
TEXTS = (
    *("email", "timezone", "plan", "billing_interval", "status", "eligible_on", "unwanted_mails"),
    *("suppressed", "suppressed_before", "language"),
)
NUMBERS = (
    *("started_at", "eligible_from", "allocation_amount", "version", "registered_at"),
    *("resumed_at", "ends_at", "observed_at"),
)


def reason(world: World, user_id: str = "1") -> str:
    """Why a subscription cannot be read: alone, and among others that can be."""
    store = world.services.subscriptions
    with pytest.raises(Unreadable) as alone:
        store.get(user_id)
    with pytest.raises(Unreadable):
        store.change(user_id, lambda present: present or store.get(user_id), BY_TEST, world.now)
    found = store.get_many([user_id, "2"])
    with pytest.raises(Unreadable) as among:
        read_subscription(found[user_id])
    assert set(readable(found)) == {"2"} & found.keys()
    assert str(alone.value) == str(among.value)
    assert str(alone.value) == f"subscription of user {user_id}: {alone.value.reason}"
    return alone.value.reason


@pytest.fixture
def subscribed(world: World) -> World:
    world.subscribe("1")
    world.subscribe("2")
    return world


@pytest.mark.parametrize("name", REQUIRED)
def test_a_subscription_without_an_attribute_is_named_and_hides_no_other(
    subscribed: World, name: str
) -> None:
    damage("subscriptions", {"user_id": {"S": "1"}}, without(name))
    assert reason(subscribed) == f"{name} is missing"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *((name, {"N": "5"}) for name in TEXTS),
        *((name, {"S": "5"}) for name in NUMBERS),
        *((name, {"NULL": True}) for name in (*TEXTS, *NUMBERS)),
    ],
)
def test_a_subscription_with_an_attribute_of_another_type_is_named(
    subscribed: World, name: str, wrong: dict[str, Any]
) -> None:
    damage("subscriptions", {"user_id": {"S": "1"}}, having(name, wrong))
    assert reason(subscribed) == f"{name} is not of type {'S' if name in TEXTS else 'N'}"


@pytest.mark.parametrize(
    ("name", "wrong", "why"),
    [
        ("status", {"S": "frozen"}, "status is unknown to this release"),
        ("billing_interval", {"S": "weekly"}, "billing_interval is unknown to this release"),
        ("suppressed", {"S": "quota"}, "suppressed is unknown to this release"),
        ("suppressed_before", {"S": "x y"}, "suppressed_before is unknown to this release"),
        ("suppressed_before", {"S": ""}, "suppressed_before is unknown to this release"),
        ("eligible_on", {"S": "2026-02-30"}, "eligible_on is malformed"),
        ("eligible_on", {"S": ""}, "eligible_on is malformed"),
        ("started_at", {"N": "1.5"}, "started_at is malformed"),
        ("ends_at", {"N": "1" * 30}, "ends_at is malformed"),
        ("version", {"N": "-1"}, "version is negative"),
        ("allocation_amount", {"N": "-1"}, "allocation_amount is negative"),
        ("allocation_amount", {"N": "0.5"}, "allocation_amount is malformed"),
    ],
)
def test_a_subscription_with_an_invalid_value_is_named(
    subscribed: World, name: str, wrong: dict[str, Any], why: str
) -> None:
    damage("subscriptions", {"user_id": {"S": "1"}}, having(name, wrong))
    assert reason(subscribed) == why


def test_a_kind_of_email_of_another_release_is_nothing_to_this_one(subscribed: World) -> None:
    key = {"user_id": {"S": "1"}}
    damage("subscriptions", key, having("unwanted_mails", {"S": "manual postcards"}))
    store = subscribed.services.subscriptions
    assert "manual" not in store.get("1").notifications
    assert len(store.get("2").notifications) == len(store.get("1").notifications) + 1


def test_a_damaged_subscription_can_be_removed(subscribed: World) -> None:
    for user_id in ("1", "2"):
        damage("subscriptions", {"user_id": {"S": user_id}}, lambda item: item.pop("status"))
    damage("subscriptions", {"user_id": {"S": "1"}}, without("version"))
    assert subscribed.services.subscriptions.remove("1")
    assert subscribed.services.subscriptions.remove("2")
    assert subscribed.services.subscriptions.get_many(["1", "2"]) == {}


def test_a_damaged_subscription_that_is_repaired_meanwhile_is_read_again(
    subscribed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = subscribed.services.subscriptions
    key = {"user_id": {"S": "1"}}
    whole = damage("subscriptions", key, without("version")) | {"version": {"N": "1"}}
    reads: list[Item | None] = []
    read = store._read

    def overtaken(user_id: str) -> Item | None:
        reads.append(read(user_id))
        if len(reads) == 1:
            damage("subscriptions", key, lambda item: item.update(whole))
        return reads[-1]

    monkeypatch.setattr(store, "_read", overtaken)
    monkeypatch.setattr(store, "_pause", lambda _: None)
    assert store.remove("1")
    assert ["version" in item for item in reads if item] == [False, True]


@pytest.mark.parametrize("edits", [{"N": "1"}, {"L": []}, {"S": ""}])
def test_damaged_ids_of_edits_are_those_of_no_edit(subscribed: World, edits: Item) -> None:
    damage("subscriptions", {"user_id": {"S": "1"}}, having("edits", edits))
    assert subscribed.subscribe("1", plan="starter").version == 2
    assert subscribed.services.subscriptions.get("1").plan == "starter"


@pytest.mark.parametrize("wrong", [{"N": "1"}, None])
def test_a_user_without_a_timezone_is_listed_with_the_others(
    subscribed: World, wrong: Item | None
) -> None:
    change = without("timezone") if wrong is None else having("timezone", wrong)
    damage("subscriptions", {"user_id": {"S": "1"}}, change)
    found = subscribed.services.subscriptions.timezones(None).timezones
    assert found == {"1": None, "2": subscribed.services.subscriptions.get("2").timezone}


# --- The ledger -----------------------------------------------------------------------------------


@pytest.fixture
def granted(subscribed: World) -> World:
    subscribed.grant("1", 10, "a")
    subscribed.grant("2", 10, "b")
    return subscribed


@pytest.mark.parametrize("wrong", [None, {"N": "5"}, {"NULL": True}, {"B": b"x"}])
@pytest.mark.parametrize("name", ["body", "hash"])
def test_an_entry_without_its_body_or_hash_is_named(
    granted: World, name: str, wrong: Item | None
) -> None:
    change = without(name) if wrong is None else having(name, wrong)
    damage("ledger", {"user_id": {"S": "1"}, "entry": {"S": ENTRY}}, change)
    what = "is missing" if wrong is None else "is not of type S"
    store = granted.services.ledger
    with pytest.raises(LedgerCorrupt) as caught:
        store.account("1")
    assert str(caught.value) == f"ledger of user 1, entry 1: {name} {what}"
    for read in (store.verify, store.lines):
        with pytest.raises(LedgerCorrupt, match=f"{name} {what}"):
            list(read("1"))
    if name == "body":
        for look in (lambda: store.history("1"), lambda: store.entry("1", 1)):
            with pytest.raises(LedgerCorrupt, match=f"{name} {what}"):
                look()
    assert store.account("2").ledger_balance == 10


def test_a_seal_of_another_type_is_named(granted: World) -> None:
    key = {"user_id": {"S": "1"}, "entry": {"S": ENTRY}}
    damage("ledger", key, having("erased", {"N": "5"}))
    with pytest.raises(LedgerCorrupt, match="erased is not of type S"):
        granted.services.ledger.verify("1")


def test_an_entry_of_a_newer_release_is_named(granted: World) -> None:
    key = {"user_id": {"S": "1"}, "entry": {"S": ENTRY}}
    damage("ledger", key, newer)
    with pytest.raises(LedgerCorrupt, match="schema is unknown to this release"):
        granted.services.ledger.account("1")


def test_an_entry_with_an_invalid_key_is_named(granted: World) -> None:
    key = {"user_id": {"S": "1"}, "entry": {"S": ENTRY}}
    damage("ledger", key, having("entry", {"S": "entry#x"}))
    with pytest.raises(LedgerCorrupt, match=r"^ledger of user 1, entry 0: its key is 'entry#x'$"):
        granted.services.ledger.account("1")


# --- Markers and links of reversals ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["request", "owner", "number", "expired"])
@pytest.mark.parametrize("wrong", [None, {"BOOL": True}, {"N": "-1"}, {"N": "0.5"}])
def test_a_marker_that_cannot_be_read_is_named_and_hides_no_other(
    world: World, name: str, wrong: Item | None
) -> None:
    world.subscribe("1")
    store = world.services.ledger
    world.grant("1", 10, "a")
    (key,) = (
        {name: item[name] for name in ("user_id", "entry")}
        for item in world.lines()
        if item["entry"]["S"] == "operation"
    )
    world.grant("1", 10, "b")
    change = without(name) if wrong is None else having(name, wrong)
    item = damage("ledger", key, change)
    with pytest.raises(Unreadable, match=f"^ledger of {key['user_id']['S']}: {name} is "):
        read_marker(item)
    assert world.grant("1", 10, "a")["error"]["code"] == "unreadable"
    operations = [
        f"manual#{caller}#{key_}"
        for caller in {entry.operation.split("#")[1] for entry in world.history("1")}
        for key_ in "ab"
    ]
    first, second = store.performed_before({each: {} for each in operations}).values()
    assert {type(first), type(second)} == {Unreadable, Performed}
    assert store.account("1").ledger_balance == 20


@pytest.mark.parametrize("name", ["sequence", "reversed_in_all"])
@pytest.mark.parametrize("wrong", [None, {"S": "1"}, {"N": "-1"}, {"N": "0.5"}])
def test_a_link_of_a_reversal_that_cannot_be_read_is_named(name: str, wrong: Item | None) -> None:
    link: Item = {
        "user_id": {"S": "1"},
        "entry": {"S": "reversal#000000000002#000001"},
        "sequence": {"N": "1"},
        "reversed_in_all": {"N": "5"},
    }
    assert read_link(link, 2) == Link(2, 1, 5)
    (without(name) if wrong is None else having(name, wrong))(link)
    with pytest.raises(
        Unreadable, match=f"^ledger of user 1, reversal#000000000002#000001: {name} is "
    ):
        read_link(link, 2)


# --- Records of emails ----------------------------------------------------------------------------

IDENTITY = "manual 1-1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without("status"), "status is missing"),
        (having("status", {"S": "LOST"}), "status is unknown to this release"),
        (having("status", {"N": "1"}), "status is not of type S"),
        (without("expiration"), "expiration is missing"),
        (having("expiration", {"N": "1" * 20}), "expiration is malformed"),
        (having("data", {"S": "{"}), "data is malformed"),
        (having("data", {"S": "[]"}), "data is no object"),
        (having("data", {"N": "1"}), "data is not of type S"),
        (having("in_progress_expiration", {"S": "1"}), "in_progress_expiration is not of type N"),
    ],
)
def test_a_record_of_an_email_that_cannot_be_read_is_named_and_no_email_is_sent(
    world: World, change: Callable[[Item], object], why: str
) -> None:
    mails = world.services.mail_records
    mails.once(IDENTITY, lambda: {"message_id": "m-1"})
    mails.once("manual 2-1", lambda: {"message_id": "m-2"})
    damage("mails", {"id": {"S": record_id(IDENTITY)}}, change)
    sent: list[str] = []

    def send() -> dict[str, Any]:
        sent.append("again")
        return {}

    with pytest.raises(Unreadable) as caught:
        mails.once(IDENTITY, send)
    assert str(caught.value) == f"mail of {record_id(IDENTITY)}: {why}"
    assert sent == []
    found = mails.find([IDENTITY, "manual 2-1"])
    assert read_mail("manual 2-1", found["manual 2-1"]).said == {"message_id": "m-2"}
    with pytest.raises(Unreadable, match=why):
        read_mail(IDENTITY, found[IDENTITY])


def test_a_record_whose_end_is_of_another_type_is_named(world: World) -> None:
    world.services.mail_records.once(IDENTITY, dict)
    item = damage("mails", {"id": {"S": record_id(IDENTITY)}}, having("expiration", {"S": "1"}))
    with pytest.raises(Unreadable, match="expiration is not of type N"):
        read_mail(IDENTITY, item)


def test_an_email_in_doubt_is_no_record_that_cannot_be_read(world: World) -> None:
    mails = world.services.mail_records

    def lose() -> dict[str, Any]:
        raise MailInDoubt("no answer")

    with pytest.raises(MailInDoubt):
        mails.once(IDENTITY, lose)
    with pytest.raises(MailInDoubt):
        mails.once(IDENTITY, lose)
    found = mails.find([IDENTITY])
    assert read_mail(IDENTITY, found[IDENTITY]).status == "INPROGRESS"
