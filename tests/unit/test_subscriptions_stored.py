"""A subscription as its item keeps it: what is written is read, and what is damaged is named."""

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.notifications import ALL_KINDS, MailKind
from chalicelib.domain.subscriptions import Billed, Contract, Raised, Report, SignUp, TopUp
from chalicelib.store.subscriptions import _item, read_subscription
from tests.unit.test_subscriptions import ADA, at

BILLED = Billed(ADA.plan, ADA.billing_interval, ADA.status, ADA.started_at, None)
GROWN: dict[str, Any] = {
    "sign_up": SignUp(Period(2026, 1), 34, at("2026-01-15T12:00:00.123Z")),
    "raised": Raised(Period(2026, 2), 2000, (TopUp(284, at("2026-02-10T10:00:00Z")),)),
    "contracts": (Contract("sub_1", ADA.started_at, (Report("evt_1", BILLED, None),)),),
    "notifications": ALL_KINDS - {MailKind.MANUAL, MailKind.ALLOCATION, MailKind.PURCHASE},
}
STORED = {
    "sign_up": "2026-01 34 1768478400123",
    "raised": "2026-02 2000 284@1770717600000",
    "contracts": '[["sub_1",1735689600000,[["evt_1",["pro","yearly","active",1735689600000,'
    "null],null]]]]",
    "unwanted_mails": "allocation manual purchase",
}


def test_what_was_added_later_is_stored_as_these_texts_and_read() -> None:
    item = _item(replace(ADA, **GROWN))
    assert {name: item[name] for name in STORED} == {
        name: {"S": text} for name, text in STORED.items()
    }
    assert read_subscription(item) == replace(ADA, **GROWN)
    plain = _item(ADA)
    assert not plain.keys() & STORED.keys()
    assert read_subscription(plain) == ADA


SIGN_UPS = (
    *("2026-01 34", "12026-01 34 1", "x026-01 34 1", "2026-011 34 1", "2026-0x 34 1"),
    *("2026-01 034 1", "2026-01 3x 1", "2026-01 12345678901 1"),
    *("2026-01 34 1234567890123456", "2026-01 34 1x"),
)
RAISED = (
    *("2026-02 2000 284", "12026-02 20 2@1", "x026-02 20 2@1", "2026-021 20 2@1"),
    *("2026-0x 20 2@1", "2026-02 020 2@1", "2026-02 2x 2@1", "2026-02 12345678901 2@1"),
    *("2026-02 20 02@1", "2026-02 20 2x@1", "2026-02 20 12345678901@1"),
    *("2026-02 20 2@1234567890123456", "2026-02 20 2@1x", "2026-02 20" + " 2@1" * 11),
)


@pytest.mark.parametrize(
    ("name", "wrong", "problem"),
    [
        *(("sign_up", wrong, "is no period, amount and instant") for wrong in SIGN_UPS),
        *(("raised", wrong, "is no period, amount and steps") for wrong in RAISED),
        ("contracts", "{}", "is no list"),
    ],
)
def test_damage_is_named(name: str, wrong: str, problem: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read_subscription({**_item(ADA), name: {"S": wrong}})
    assert str(refused.value).endswith(f": {name} {problem}")


def test_a_level_without_steps_is_read() -> None:
    stored = {**_item(ADA), "raised": {"S": "2026-02 2000"}}
    assert read_subscription(stored).raised == Raised(Period(2026, 2), 2000, ())
