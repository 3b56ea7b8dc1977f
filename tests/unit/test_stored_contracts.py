"""The contracts of a subscription as its item keeps them, and what is told of damage."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain.damage import Damage, value_of
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import Billed, Contract, Report, SubscriptionStatus
from chalicelib.domain.taken_back import TakenBack
from chalicelib.store.contracts import as_contracts, contracts_text

START = datetime(2027, 1, 1, tzinfo=UTC)
BILLED = Billed("pro", BillingInterval.YEARLY, SubscriptionStatus.ACTIVE, START, None)
ENDED = BILLED._replace(status=SubscriptionStatus.CANCELLED, ends_at=START + timedelta(days=1))
CONTRACTS = (
    Contract("sub_1", START, (Report("evt_1", BILLED, None), Report("evt_2", ENDED, BILLED))),
    Contract("sub_2", START + timedelta(seconds=5), (Report("evt_3", ENDED, None),)),
)
WRITTEN: list[Any] = ["pro", "yearly", "active", 1798761600000, None]
TEXT = (
    '[["sub_1",1798761600000,[["evt_1",["pro","yearly","active",1798761600000,null],null],'
    '["evt_2",["pro","yearly","cancelled",1798761600000,1798848000000],'
    '["pro","yearly","active",1798761600000,null]]]],'
    '["sub_2",1798761605000,[["evt_3",["pro","yearly","cancelled",1798761600000,1798848000000],'
    "null]]]]"
)
"""For good: it is stored so."""


def test_contracts_are_kept_as_a_text_without_names() -> None:
    assert contracts_text(CONTRACTS) == TEXT
    assert as_contracts({"S": TEXT}) == CONTRACTS


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"sub_1": 1},
        "abc",
        ["abc"],
        [[1, 5, [["evt_1", WRITTEN, None]]]],
        [["sub_1", 5, []]],
        [["sub_1", 5, {"evt": WRITTEN}]],
        [["sub_1", "5", [["evt_1", WRITTEN, None]]]],
        [["sub_1", 5, [[7, WRITTEN, None]]]],
        [["sub_1", 5, [["evt_1", None, None]]]],
        [["sub_1", 5, [["evt_1", WRITTEN, "other"]]]],
        [["sub_1", 5, [["evt_1", [7, *WRITTEN[1:]], None]]]],
        [["sub_1", 5, [["evt_1", ["pro", "weekly", *WRITTEN[2:]], None]]]],
        [["sub_1", 5, [["evt_1", ["pro", "yearly", "gone", *WRITTEN[3:]], None]]]],
        [["sub_1", 5, [["evt_1", dict.fromkeys("abcde"), None]]]],
    ],
)
def test_damage_is_named(stored: object) -> None:
    with pytest.raises(Damage, match=r"^contracts "):
        value_of({"contracts": {"S": json.dumps(stored)}}, "contracts", as_contracts)


def test_what_is_no_list_and_what_has_no_reports_is_told() -> None:
    for text, said in (
        ("{}", "^is no list$"),
        ('[["sub_1", 5, []]]', "^has a contract without reports$"),
    ):
        with pytest.raises(Damage, match=said):
            as_contracts({"S": text})
    with pytest.raises(Damage, match=r"^is no object$"):
        TakenBack.from_body("[]")
    with pytest.raises(Damage, match=r"^is negative$"):
        TakenBack.from_body('{"charged":-1,"refunded":null,"failed":{},"disputed":{}}')
