"""Writes all that is kept of a user to standard output, as one JSON document.

    python -m infra.repair.export --user-id 42 > 42.json     (make export USER_ID=42 > 42.json)

Ledger entries are written as they are read, one a line, so a ledger of any length fits. They are
not checked, so that one that is wrong can be looked at, too; `infra.verify` checks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime
from itertools import chain
from typing import Any

from chalicelib.domain import notifications
from chalicelib.domain.errors import LedgerCorrupt, Unreadable
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import SCHEDULED, LedgerEntry, digest_of
from chalicelib.domain.verification import StoredLine
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.mails import read_mail
from infra.repair import command
from infra.repair.command import Repair, RepairError, Summary, parsed

MAILS_A_REQUEST = 100


class Document:
    """A JSON object on standard output, written field by field."""

    def __init__(self) -> None:
        self._separator = "{"

    def field(self, name: str, value: object) -> None:
        """Writes a field as a whole."""
        self._begin(name)
        sys.stdout.write(_text(value))

    def array(self, name: str, elements: Iterator[object]) -> int:
        """Writes a field that is an array, an element a line; how many there were."""
        self._begin(name)
        sys.stdout.write("[")
        count = 0
        for count, element in enumerate(elements, start=1):
            sys.stdout.write(f"{',' if count > 1 else ''}\n  {_text(element)}")
        sys.stdout.write("]")
        return count

    def end(self) -> None:
        """Ends it."""
        sys.stdout.write("\n}\n")
        sys.stdout.flush()

    def _begin(self, name: str) -> None:
        sys.stdout.write(f"{self._separator}\n{_text(name)}: ")
        self._separator = ","


def export(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    user_id = parsed("--user-id", parse_user_id, arguments.user_id)
    services = repair.services
    subscription = services.subscriptions.find(user_id)
    lines = services.ledger.lines(user_id)
    first = next(lines, None)
    if subscription is None and first is None:
        raise RepairError(f"Nothing is kept of user {user_id}.")
    if first:
        lines = chain([first], lines)
    if repair.is_dry_run:
        has = "a subscription" if subscription else "no subscription"
        entries = sum(1 for _ in lines)
        return Summary(f"Would write {has} and {entries:,} ledger entries of user {user_id}.", {})
    mails: set[str] = set()
    operations: list[str] = []

    def described() -> Iterator[dict[str, Any]]:
        for line in repair.follow("Writing entries", lines):
            if entry := _entry(user_id, line):
                mails.update(notifications.identities(entry))
                if entry.type not in SCHEDULED:
                    operations.append(digest_of(entry))
            yield _described(user_id, line)

    document = Document()
    document.field("user_id", user_id)
    document.field("stage", repair.reach.stage)
    document.field("exported_at", services.now())
    document.field("subscription", asdict(subscription) if subscription else None)
    written = document.array("ledger", described())
    document.array("markers", map(_as_stored, services.ledger.markers(operations)))
    document.array("reversals", map(_as_stored, services.ledger.reversals(user_id)))
    sent = document.array("mails", _sent(services, sorted(mails)))
    document.end()
    return Summary(f"Wrote {written:,} ledger entries and {sent:,} mails of user {user_id}.", {})


def _described(user_id: str, line: StoredLine) -> dict[str, Any]:
    """An entry as it is stored; its body as text where that is no JSON."""
    try:
        body = json.loads(line.body)
    except ValueError:
        body = line.body
    described = {"transaction_id": f"{user_id}-{line.number}", "entry": body, "hash": line.hash}
    return described | ({"erased": line.erased} if line.erased else {})


def _entry(user_id: str, line: StoredLine) -> LedgerEntry | None:
    """What a line says; None where it cannot be read."""
    try:
        return LedgerEntry.from_body(user_id, line.number, line.body)
    except LedgerCorrupt:
        return None


def _as_stored(item: Item) -> dict[str, object]:
    """An item with all of its attributes: what is stored tomorrow is in it, too."""
    return {
        name: int(value["N"]) if "N" in value else next(iter(value.values()))
        for name, value in item.items()
    }


def _sent(services: Services, identities: list[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(identities), MAILS_A_REQUEST):
        records = services.mail_records.find(identities[start : start + MAILS_A_REQUEST])
        for identity, item in sorted(records.items()):
            try:
                yield read_mail(identity, item)._asdict()
            except Unreadable as error:
                yield {"identity": identity, "unreadable": error.reason, "stored": _as_stored(item)}


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
    parser.add_argument("--user-id", required=True, help="whose data")
    return command.run(parser, export, words)


if __name__ == "__main__":
    sys.exit(main())
