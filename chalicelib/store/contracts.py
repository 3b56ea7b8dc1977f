"""The contracts of a subscription as its item stores them: one JSON text, without names.

[["sub_1", 1798761600000, [["evt_7", ["pro", "yearly", "active", 1798761600000, null], null]]]]
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from chalicelib.domain.damage import Damage, choice_of, instant, text
from chalicelib.domain.instants import to_milliseconds
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import Billed, Contract, Report, SubscriptionStatus

from .reading import Attribute, as_text


def contracts_text(contracts: Sequence[Contract]) -> str:
    """The contracts as text."""
    written = [
        [
            contract.id,
            to_milliseconds(contract.seen_at),
            [
                [
                    report.event_id,
                    _written(report.billed),
                    report.before and _written(report.before),
                ]
                for report in contract.reports
            ],
        ]
        for contract in contracts
    ]
    return json.dumps(written, separators=(",", ":"))


def as_contracts(attribute: Attribute) -> tuple[Contract, ...]:
    """The contracts of an attribute. Raises the errors that `damage.value_of` expects."""
    contracts = json.loads(as_text(attribute))
    if not isinstance(contracts, list):  # an empty object would otherwise go unnoticed
        raise Damage("is no list")
    return tuple(_contract(*each) for each in contracts)


def _written(billed: Billed) -> list[Any]:
    return [
        billed.plan,
        billed.billing_interval.value,
        billed.status.value,
        to_milliseconds(billed.started_at),
        billed.ends_at and to_milliseconds(billed.ends_at),
    ]


def _contract(contract_id: object, seen_at: object, reports: Iterable[Any]) -> Contract:
    read = tuple(_report(*each) for each in reports)
    if not read:
        raise Damage("has a contract without reports")
    return Contract(text(contract_id), instant(seen_at), read)


def _report(event_id: object, billed: Iterable[Any], before: Iterable[Any] | None) -> Report:
    return Report(
        text(event_id),
        _billed(*billed),
        None if before is None else _billed(*before),
    )


def _billed(
    plan: object, interval: object, status: object, started_at: object, ends_at: object
) -> Billed:
    return Billed(
        text(plan),
        choice_of(BillingInterval, text(interval)),
        choice_of(SubscriptionStatus, text(status)),
        instant(started_at),
        None if ends_at is None else instant(ends_at),
    )
