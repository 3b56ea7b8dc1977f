"""Writes everything stored about a user to standard output, as one JSON document.

    python -m infra export --user-id 42 > 42.json     (make export USER_ID=42 > 42.json)

Ledger entries are written while they are read, one a line, so a ledger may have any length. They
are not checked, so you can export a wrong ledger, too; `make verify` checks. An item that cannot be
read is written as it is stored, with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import Any

from chalicelib.domain import notifications
from chalicelib.domain.entries import SCHEDULED, LedgerEntry, digests_of
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.instants import format_instant
from chalicelib.domain.verification import StoredLine
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.ledger_items import read_entry, read_line
from chalicelib.store.mails import read_mail
from chalicelib.store.reading import Attribute
from chalicelib.store.subscriptions import read_subscription
from infra.repair import command
from infra.repair.command import Repair, RepairError, Summary, parsed

MAILS_A_REQUEST = 100


class Document:
    """A JSON object on standard output, written field by field."""

    def __init__(self) -> None:
        self._separator = "{"

    def field(self, name: str, value: object) -> None:
        """Writes a whole field."""
        self._begin(name)
        sys.stdout.write(_text(value))

    def array(self, name: str, elements: Iterator[object]) -> int:
        """Writes a field that is an array, one element a line; returns their number."""
        self._begin(name)
        sys.stdout.write("[")
        count = 0
        for count, element in enumerate(elements, start=1):
            sys.stdout.write(f"{',' if count > 1 else ''}\n  {_text(element)}")
        sys.stdout.write("]")
        return count

    def end(self) -> None:
        """Ends the object."""
        sys.stdout.write("\n}\n")
        sys.stdout.flush()

    def _begin(self, name: str) -> None:
        sys.stdout.write(f"{self._separator}\n{_text(name)}: ")
        self._separator = ","


def export(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    user_id = parsed("--user-id", parse_user_id, arguments.user_id)
    services = repair.services
    subscription = services.subscriptions.get_many([user_id], consistent=True).get(user_id)
    items = services.ledger.items(user_id)
    first = next(items, None)
    edits = list(services.edits.items(user_id))
    if subscription is None and first is None and not edits:
        raise RepairError(f"Nothing is kept of user {user_id}.")
    if first:
        items = chain([first], items)
    if repair.is_dry_run:
        has = "a subscription" if subscription else "no subscription"
        entries = sum(1 for _ in items)
        what = f"{has}, {len(edits):,} edits of it and {entries:,} ledger entries"
        return Summary(f"Would write {what} of user {user_id}.", {})
    mails: set[str] = set()
    operations: list[str] = []

    unreadable = Unreadables()

    def described() -> Iterator[dict[str, Any]]:
        for item in repair.follow("Writing entries", items):
            if entry := _entry(item):
                mails.update(notifications.identities(entry))
                if entry.type not in SCHEDULED:
                    operations.extend(digests_of(entry))
            yield unreadable.or_stored(item, lambda item: _described(user_id, read_line(item)))

    document = Document()
    document.field("user_id", user_id)
    document.field("stage", repair.reach.stage)
    document.field("exported_at", services.now())
    document.field(
        "subscription",
        unreadable.or_stored(subscription, _subscription) if subscription else None,
    )
    document.array("edits", map(_as_stored, edits))
    written = document.array("ledger", described())
    document.array("markers", map(_as_stored, services.ledger.markers(operations)))
    document.array("reversals", map(_as_stored, services.ledger.reversals(user_id)))
    if services.settings.stripe_table:
        customers = services.stripe.customers_of(user_id)
        document.array("stripe_customers", map(_as_stored, customers))
    sent = document.array("mails", _sent(services, sorted(mails), unreadable))
    document.end()
    return Summary(
        f"Wrote {written:,} ledger entries and {sent:,} emails of user {user_id}.{unreadable}",
        {},
        is_complete=not unreadable.count,
    )


class Unreadables:
    """Counts the items that cannot be read, and describes them as they are stored."""

    def __init__(self) -> None:
        self.count = 0

    def __str__(self) -> str:
        if not self.count:
            return ""
        return f" {self.count:,} items cannot be read: they are written as stored, with the reason."

    def or_stored(self, item: Item, describe: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
        """The content of an item; or the item itself, with the reason why it cannot be read."""
        try:
            return describe(item)
        except Unreadable as error:
            self.count += 1
            return {"unreadable": error.reason, "stored": _as_stored(item)}


def _subscription(item: Item) -> dict[str, Any]:
    subscription = read_subscription(item)
    signed, raised = subscription.sign_up, subscription.raised
    return {
        **asdict(subscription),
        "sign_up": signed and {**signed._asdict(), "period": str(signed.period)},
        "raised": raised
        and {
            "period": str(raised.period),
            "level": raised.level,
            "top_ups": [top_up._asdict() for top_up in raised.top_ups],
        },
        "contracts": [
            {
                "id": contract.id,
                "seen_at": contract.seen_at,
                "reports": [
                    {
                        "event_id": report.event_id,
                        "billed": report.billed._asdict(),
                        "before": report.before and report.before._asdict(),
                    }
                    for report in contract.reports
                ],
            }
            for contract in subscription.contracts
        ],
    }


def _described(user_id: str, line: StoredLine) -> dict[str, Any]:
    """An entry as it is stored; its body as text if that is not JSON."""
    try:
        body = json.loads(line.body)
    except ValueError:
        body = line.body
    described = {"transaction_id": f"{user_id}-{line.number}", "entry": body, "hash": line.hash}
    return described | ({"erased": line.erased} if line.erased else {})


def _entry(item: Item) -> LedgerEntry | None:
    """The content of an entry; None if it cannot be read."""
    try:
        return read_entry(item)
    except Unreadable:
        return None


def _as_stored(item: Item) -> dict[str, object]:
    """An item with all its attributes, including those that future releases add."""
    return {name: _value(attribute) for name, attribute in item.items()}


def _value(attribute: Attribute) -> object:
    """The value of an attribute; with its type, unless it is a text or a whole number."""
    ((kind, value),) = attribute.items()
    if kind == "N" and value.lstrip("-").isdecimal():
        return int(value)
    return value if kind == "S" else {kind: str(value)}


def _sent(
    services: Services, identities: list[str], unreadable: Unreadables
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(identities), MAILS_A_REQUEST):
        records = services.mail_records.find(identities[start : start + MAILS_A_REQUEST])
        for identity, item in sorted(records.items()):
            yield unreadable.or_stored(item, partial(_mail, identity))


def _mail(identity: str, item: Item) -> dict[str, Any]:
    return read_mail(identity, item)._asdict()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} has no form in JSON")


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = command.parser_of(
        "export", "Writes all that is kept of a user as JSON.", changes=False
    )
    parser.add_argument("--user-id", required=True, help="the user whose data to export")
    return command.run(parser, export, words)


if __name__ == "__main__":
    sys.exit(main())
