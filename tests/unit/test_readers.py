"""Readers of stored items: what they read, and how they name what cannot be read."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from chalicelib.domain.anchors import user_digest
from chalicelib.domain.errors import LedgerCorrupt, Unreadable
from chalicelib.domain.verification import StoredLine
from chalicelib.store.ledger_items import account_of, read_entry, read_head, read_line
from chalicelib.store.mails import MailStatus, read_mail
from chalicelib.store.subscriptions import read_subscription
from tests.unit.test_ledger import GRANT_BODY
from tests.unit.test_subscriptions import at

# --- The ledger -----------------------------------------------------------------------------------


def entry(**attributes: Any) -> dict[str, Any]:
    """Entry 7 of user 1, with what is given of its attributes."""
    return {
        "user_id": {"S": "1"},
        "entry": {"S": "entry#000000000007"},
        **{name: {"S": value} for name, value in attributes.items()},
    }


def test_the_head_that_an_entry_is_names_nobody() -> None:
    head = read_head(entry(body="{}", hash="a" * 64))
    assert head == (user_digest("1"), 7, "a" * 64)


def test_an_entry_that_is_no_head_is_named() -> None:
    with pytest.raises(LedgerCorrupt) as caught:
        read_head(entry(body="{}", hash="a"))
    assert str(caught.value) == "ledger of user 1, entry 7: it is no head of a ledger"


def test_a_line_is_what_is_stored_with_its_seal_if_it_has_one() -> None:
    assert read_line(entry(body="{}", hash="a")) == StoredLine(7, "{}", "a", None)
    assert read_line(entry(body="{}", hash="a", erased="b")) == StoredLine(7, "{}", "a", "b")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (entry(hash="a"), "body is missing"),
        (entry(body="{}"), "hash is missing"),
        (entry(body="{}", hash="a") | {"erased": {"N": "1"}}, "erased is not of type S"),
    ],
)
def test_a_line_that_lacks_something_is_named(item: dict[str, Any], reason: str) -> None:
    with pytest.raises(LedgerCorrupt) as caught:
        read_line(item)
    assert str(caught.value) == f"ledger of user 1, entry 7: {reason}"
    assert caught.value.number == 7


@pytest.mark.parametrize("read", [read_entry, read_head, read_line])
def test_an_entry_whose_key_names_no_number_is_number_0(read: Callable[[Any], object]) -> None:
    with pytest.raises(LedgerCorrupt) as caught:
        read(entry(body="{}", hash="a") | {"entry": {"S": "entry#7"}})
    assert caught.value.number == 0
    assert str(caught.value) == "ledger of user 1, entry 0: its key is 'entry#7'"


def test_an_entry_without_a_body_is_named() -> None:
    with pytest.raises(LedgerCorrupt) as caught:
        read_entry(entry(hash="a"))
    assert str(caught.value) == "ledger of user 1, entry 7: body is missing"


def test_an_entry_and_its_account_are_those_of_the_user_and_the_number_in_its_key() -> None:
    item = {**entry(body=GRANT_BODY, hash="a"), "user_id": {"S": "42"}}
    item["entry"] = {"S": "entry#000000000001"}
    read = read_entry(item)
    assert (read.user_id, read.number) == ("42", 1)
    assert account_of(item) == ("42", read, "a")


def test_an_account_whose_last_entry_has_no_hash_is_named() -> None:
    item = entry(body=GRANT_BODY.replace('"number":1', '"number":7')) | {"user_id": {"S": "42"}}
    with pytest.raises(LedgerCorrupt) as caught:
        account_of(item)
    assert str(caught.value) == "ledger of user 42, entry 7: hash is missing"


# --- Records of emails ----------------------------------------------------------------------------


def test_a_record_of_an_email_is_read_and_one_that_cannot_be_is_named_by_its_key() -> None:
    item = {"id": {"S": "mail#1"}, "status": {"S": "COMPLETED"}, "expiration": {"N": "1768478400"}}
    read = read_mail("manual 1-1", item)
    assert read == ("manual 1-1", MailStatus.COMPLETED, at("2026-01-15T12:00:00Z"), {})
    with pytest.raises(Unreadable) as caught:
        read_mail("manual 1-1", {**item, "expiration": {"S": "1"}})
    assert str(caught.value) == "mail of mail#1: expiration is not of type N"


# --- Subscriptions --------------------------------------------------------------------------------

SUBSCRIPTION: dict[str, Any] = {
    "user_id": {"S": "1"},
    "timezone": {"S": "Europe/Paris"},
    "plan": {"S": "pro"},
    "billing_interval": {"S": "yearly"},
    "status": {"S": "active"},
    "started_at": {"N": "1735689600000"},
    "eligible_from": {"N": "1769900400000"},
    "version": {"N": "1"},
}


def test_a_subscription_that_cannot_be_read_is_named_by_its_user() -> None:
    with pytest.raises(Unreadable) as caught:
        read_subscription({**SUBSCRIPTION, "plan": {"N": "1"}})
    assert str(caught.value) == "subscription of user 1: plan is not of type S"


def test_eligibility_is_the_local_date_where_there_is_one_and_else_the_instant() -> None:
    assert read_subscription(SUBSCRIPTION).eligible_from == at("2026-01-31T23:00:00Z")
    dated = read_subscription({**SUBSCRIPTION, "eligible_on": {"S": "2026-02-01"}})
    assert dated.eligible_from == date(2026, 2, 1)


@pytest.mark.parametrize("day", ["", "2026-02-30", "20260201"])
def test_an_invalid_local_date_is_damage_even_beside_a_valid_instant(day: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_subscription({**SUBSCRIPTION, "eligible_on": {"S": day}})
    assert str(caught.value) == "subscription of user 1: eligible_on is malformed"
