"""Records of edits: what they say, how they are stored, and whether an edit gives more."""

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from chalicelib.domain.damage import Damage
from chalicelib.domain.edits import (
    BY_LINK,
    Change,
    Edit,
    Editor,
    EditorKind,
    changes,
    gives_more,
    shown_fields,
)
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.instants import CLOCKS_DIFFER
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.subscriptions import (
    Billed,
    Contract,
    Report,
    Subscription,
    SuppressedBecause,
)
from chalicelib.domain.terms import FIELDS
from chalicelib.store.edits import key_of, read_edit
from tests.unit.test_subscriptions import ADA, CATALOGUE, at

EDIT = Edit(
    user_id="42",
    version=3,
    edited_at=at("2026-01-15T12:00:00.123Z"),
    editor=Editor(EditorKind.ADMIN, "ada"),
    changes=(Change("email", "ädä@example.com", None), Change("notifications", [], ["manual"])),
    correlation_id="c-1",
)


def test_an_edit_is_read_as_it_was_written() -> None:
    assert Edit.from_body("42", EDIT.body()) == EDIT
    plain = replace(EDIT, editor=BY_LINK, changes=(), correlation_id=None)
    assert Edit.from_body("42", plain.body()) == plain
    assert json.loads(EDIT.body()) == {
        "schema": 1,
        "version": 3,
        "edited_at": 1768478400123,
        "kind": "admin",
        "subject": "ada",
        "changes": [["email", "ädä@example.com", None], ["notifications", [], ["manual"]]],
        "correlation_id": "c-1",
    }
    assert "ädä" in EDIT.body(), "as short as it is"
    assert " " not in EDIT.body()


def test_the_record_of_an_edit_is_that_of_its_user_under_a_key_that_sorts_by_version() -> None:
    assert key_of(3, "a") == "000000000003#a"
    item = {"user_id": {"S": "42"}, "edit": {"S": key_of(3, "a")}, "body": {"S": EDIT.body()}}
    assert read_edit(item) == EDIT


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "1",
        "{}",
        "[" * 100_000,
        EDIT.body().replace('"schema":1', '"schema":2'),
        EDIT.body().replace('"kind":"admin"', '"kind":"owner"'),
        EDIT.body().replace('"kind":"admin",', ""),
        EDIT.body().replace("1768478400123", "1e400"),
        EDIT.body().replace("1768478400123", "99999999999999999999"),
        EDIT.body().replace('"email",', ""),
        EDIT.body().replace('"version":3', '"version":"three"'),
        EDIT.body().replace('"version":3', '"version":0'),
        EDIT.body().replace('"version":3', '"version":true'),
        EDIT.body().replace('"subject":"ada"', '"subject":7'),
        EDIT.body().replace('"correlation_id":"c-1"', '"correlation_id":[]'),
    ],
)
def test_a_body_that_this_release_does_not_write_is_one_error_by_name(body: str) -> None:
    item = {"user_id": {"S": "42"}, "edit": {"S": "000000000003#a"}, "body": {"S": body}}
    with pytest.raises(Unreadable, match=r"^edit of user 42, 000000000003#a: body ") as refused:
        read_edit(item)
    assert "ädä" not in str(refused.value)


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        (EDIT.body(), "[]", "is of another schema"),
        (EDIT.body(), "{}", "is of another schema"),
        ('"schema":1', '"schema":2', "is of another schema"),
        ('"version":3', '"version":0', "version is no version"),
        ('"version":3', '"version":true', "version is no version"),
        ("1768478400123", "0.5", "edited_at is no whole number"),
        ('"subject":"ada"', '"subject":7', "subject is no text"),
        ('"correlation_id":"c-1"', '"correlation_id":[]', "correlation_id is no text"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(right: str, wrong: str, reason: str) -> None:
    with pytest.raises(Damage, match=f"^{reason}$"):
        Edit.from_body("42", EDIT.body().replace(right, wrong))


def test_what_the_api_shows_has_every_field_that_can_be_edited() -> None:
    late = replace(ADA, started_at=ADA.started_at + timedelta(milliseconds=7))
    assert str(shown_fields(late)["started_at"]).endswith(".007Z")
    assert set(shown_fields(ADA)) == (FIELDS - {"user_id"}) | {
        "mail_suppressed_because",
        "resumed_at",
    }


def test_only_what_differs_is_a_change_and_of_somebody_new_all_there_is() -> None:
    assert changes(ADA, ADA) == ()
    assert changes(ADA, replace(ADA, version=9)) == ()
    edited = replace(
        ADA,
        plan="free",
        notifications=frozenset({MailKind.MANUAL, MailKind.ALLOCATION}),
        suppressed=SuppressedBecause.BOUNCE,
        ends_at=at("2027-01-01T00:00:00Z"),
        resumed_at=at("2026-01-15T12:00:00.123Z"),
        eligible_from=date(2026, 2, 3),
    )
    found = {each.field: (each.before, each.after) for each in changes(ADA, edited)}
    shown = shown_fields(ADA)
    assert found == {
        "plan": (ADA.plan, "free"),
        "notifications": (shown["notifications"], ["allocation", "manual"]),
        "mail_suppressed_because": (None, "bounce"),
        "ends_at": (None, "2027-01-01T00:00:00Z"),
        "resumed_at": (None, "2026-01-15T12:00:00.123Z"),
        "eligible_from": (shown["eligible_from"], "2026-02-03"),
    }
    new = {each.field: (each.before, each.after) for each in changes(None, ADA)}
    assert new == {name: (None, value) for name, value in shown.items() if value is not None}


def more(before: Subscription | None, after: Subscription) -> dict[str, bool]:
    return gives_more(before, after, CATALOGUE)


@pytest.mark.parametrize(
    ("before", "after", "is_more"),
    [
        (None, 1, True),
        (100, 101, True),
        (100, 99, False),
        (100, None, True),  # the plan grants 500
        (499, None, True),
        (500, None, False),
        (501, None, False),
    ],
)
def test_an_own_amount_gives_more_if_it_exceeds_the_own_amount_or_the_plans_before(
    before: int | None, after: int | None, *, is_more: bool
) -> None:
    was = replace(ADA, plan="pro", allocation_amount=before)
    edited = replace(was, allocation_amount=after)
    assert more(was, edited) == {"allocation_amount": is_more}
    assert more(was, was) == {}


def test_of_a_plan_that_is_gone_nobody_is_given_more() -> None:
    was = replace(ADA, plan="gone", allocation_amount=5)
    assert more(was, replace(was, allocation_amount=None)) == {"allocation_amount": False}


def test_on_a_plan_that_is_gone_a_higher_own_amount_gives_more() -> None:
    was = replace(ADA, plan="gone", allocation_amount=5)
    assert more(was, replace(was, allocation_amount=6)) == {"allocation_amount": True}


def test_what_becomes_of_a_contract_is_recorded() -> None:
    billed = Billed(ADA.plan, ADA.billing_interval, ADA.status, ADA.started_at, None)
    contract = Contract("sub_1", ADA.started_at, (Report("evt_1", billed, None),))
    (change,) = changes(ADA, replace(ADA, contracts=(contract,)))
    assert change == Change("contracts", None, ["sub_1: active"])


def test_somebody_new_is_given_more_by_any_own_amount_and_by_the_past() -> None:
    now = at("2026-01-15T12:00:00Z")
    new = replace(ADA, registered_at=now, eligible_from=now, allocation_amount=None)
    found = more(None, new)
    assert not any(found.values())
    assert found["plan"] is False
    assert more(None, replace(new, allocation_amount=1))["allocation_amount"]
    for moment, is_more in (
        (now - CLOCKS_DIFFER, False),
        (now - CLOCKS_DIFFER - timedelta(milliseconds=1), True),
        (now + timedelta(days=1), False),
        (date(2026, 1, 15), True),
        (date(2026, 1, 16), False),
    ):
        assert more(None, replace(new, eligible_from=moment))["eligible_from"] is is_more
    # Of whom it is not known when they registered, any eligibility can be earlier than that.
    assert more(None, replace(new, registered_at=None))["eligible_from"] is True


def test_an_eligibility_is_earlier_by_where_the_user_has_lived() -> None:
    was = replace(ADA, timezone="Europe/Paris", eligible_from=date(2026, 3, 1))
    midnight = at("2026-02-28T23:00:00Z")
    for moment, is_more in (
        (midnight, False),
        (midnight - timedelta(milliseconds=1), True),
        (date(2026, 2, 28), True),
        (date(2026, 3, 2), False),
    ):
        assert more(was, replace(was, eligible_from=moment)) == {"eligible_from": is_more}
    moved = replace(was, timezone="Asia/Tokyo")
    assert more(was, moved) == {"timezone": False}
    assert more(was, replace(moved, eligible_from=midnight))["eligible_from"] is False
