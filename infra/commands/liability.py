"""Reports which credits were outstanding at an instant, and how much had been paid for them.

python -m infra liability 2026-10-31T24:00Z [--stage prod] [--json | --as-csv] [--yes]
    [--export s3://bucket/prefix/AWSDynamoDB/id [--subscriptions s3://...]]
(make liability AT=2026-10-31T24:00Z)

It reads the ledger once, from end to end: each user's last entry at or before the instant says what
they had then. It sums up by source, by the plan that the user has today, and by the month (UTC) in
which the credits expire. The amount paid is that of the remaining credits: half of a pack is worth
half of its price.

The ledger is the table, or an export of it (infra/imports/table_export.py), which uses none of the
table's capacity. A ledger only grows, so an export of any later instant will do. Plans are in the
table of subscriptions: with exports, plans are counted only if an export of that is named, too.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from chalicelib.domain.batches import CreditBatch, Source
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, Unreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.prices import Price
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.ledger_items import is_entry, owner_of, read_entry
from chalicelib.store.subscriptions import read_subscription
from infra import reach, session
from infra.arguments import add_stage
from infra.commands.reading import DeclinedError, announce
from infra.faults import FAULTS
from infra.imports.stage_export import advised, find_in
from infra.imports.table_export import ExportError
from infra.local import stacks
from infra.terminal import progress_bar

USERS_AT_ONCE = 100
"""How many subscriptions are read at once."""

_END_OF_DAY = re.compile(r"T24:00(:00)?(?=Z$|[+-][0-9]{2}:[0-9]{2}$)")
_WITHOUT_SECONDS = re.compile(r"(T[0-9]{2}:[0-9]{2})(?![:0-9])")

COLUMNS = ("source", "plan", "expires", "credits", "paid", "currency")


class Row(NamedTuple):
    """The key of a sum. None: no source recorded; no plan; no expiry; no price.

    ``expires``: a month, such as 2026-11; ``expired`` for credits that no sweep has booked out yet.
    """

    source: str | None
    plan: str | None
    expires: str | None
    currency: str | None


@dataclass
class Liability:
    """Outstanding credits, and the price of each row's, in minor units."""

    credits: Counter[Row] = field(default_factory=Counter)
    paid: defaultdict[Row, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    balances: int = 0
    """The sum of the last lines' balances: all credits together must equal it."""
    users: int = 0
    unrecovered: int = 0
    """Refunded credits that could not be taken back, for example because they were spent."""
    unreadable: list[str] = field(default_factory=list)
    has_plans: bool = True


class _Left(NamedTuple):
    """What was left of a batch. ``expires`` is that of a `Row`."""

    number: int
    source: Source | None
    expires: str | None
    granted: int
    remaining: int


@dataclass(slots=True)
class _Standing:
    """The minimum needed of what a user had at an instant, from their entries in any order.

    ``number``, ``balance`` and ``batches`` are those of the last entry by then; None if there was
    none. ``prices`` by the numbers of purchases; ``refunds``: for each purchase the number of its
    last refund, and what that could not take back.
    """

    number: int | None = None
    balance: int = 0
    batches: tuple[_Left, ...] = ()
    prices: dict[int, Price] | None = None
    refunds: dict[int, tuple[int, int]] | None = None
    is_readable: bool = True

    def take(self, item: Item, at: datetime) -> None:
        """Adds an entry as it is stored, if it was posted by then."""
        try:
            entry = read_entry(item)
        except LedgerCorrupt:
            self.is_readable = False
            return
        if entry.posted_at > at:
            return
        if self.number is None or entry.number > self.number:
            self.number, self.balance = entry.number, entry.balance
            self.batches = tuple(_left(batch, at) for batch in entry.batches)
        if entry.price:
            self.prices = {**(self.prices or {}), entry.number: entry.price}
        if refund := entry.refund:
            refunds = self.refunds or {}
            latest = max(refunds.get(refund.purchase, (-1, 0)), (entry.number, refund.unrecovered))
            self.refunds = {**refunds, refund.purchase: latest}


Plans = Callable[[list[str]], Mapping[str, str]]
"""The plans of some users, by user id; users without a plan are left out."""


def main(words: list[str] | None = None) -> int:
    """Reads the command line and the ledger; the exit status is 1 if anything was not counted."""
    parser = argparse.ArgumentParser(
        prog="python -m infra liability",
        description="Counts the credits that were outstanding at an instant, and what was paid.",
    )
    parser.add_argument("at", metavar="AT", help="the instant, such as 2026-10-31T24:00Z")
    parser.add_argument(
        "--export",
        metavar="WHERE",
        help="read a full export of the ledger table, of AT or later, and no table: "
        "s3://bucket/prefix/AWSDynamoDB/id, or a folder with a copy of that",
    )
    parser.add_argument(
        "--subscriptions",
        metavar="WHERE",
        help="with --export: an export of the subscriptions table, to count by plan, too",
    )
    parser.add_argument("--yes", action="store_true", help="read the tables unasked")
    add_stage(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--as-csv", action="store_true", help="print CSV instead of a table")
    arguments = parser.parse_args(words)
    if arguments.subscriptions is not None and arguments.export is None:
        parser.error("--subscriptions (SUBSCRIPTIONS=) needs an export of the ledger: EXPORT=")
    try:
        at = parse_at("AT", arguments.at)
        stage = reach.reach(arguments.stage, arguments.region)
        services = stage.services
        if at > services.now():
            now = format_instant(services.now())
            raise InvalidInput.of("AT", f"must not be in the future; it is {now} now")
        if arguments.export is not None:
            found = count_exported(stage, at, arguments.export, arguments.subscriptions)
        else:
            found = count(services, at, ask=not arguments.yes)
    except (
        DeclinedError,
        InvalidInput,
        ExportError,
        stacks.NotRunningError,
        session.AwsError,
        *FAULTS,
    ) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(_as_json(found, at)))
    elif arguments.as_csv:
        _write_csv(found)
    else:
        _show(found, at)
    return _told_of_faults(found)


def parse_at(name: str, text: str) -> datetime:
    """An instant, with or without seconds; 24:00 is the midnight at the end of the day."""
    at_midnight = _END_OF_DAY.sub("T00:00:00", text)
    instant = parse_instant(name, _WITHOUT_SECONDS.sub(r"\1:00", at_midnight))
    return instant + timedelta(days=1) if at_midnight != text else instant


# --- From the tables ------------------------------------------------------------------------------


def count(services: Services, at: datetime, *, ask: bool = False) -> Liability:
    """What was outstanding at an instant, behind a progress bar; first says what it will read.

    ``ask``: whether to ask before reading, if there is a person at the terminal. Raises
    `DeclinedError`.
    """
    items, size = services.ledger.size()
    units = -(-size // 8192)
    announce(
        f"Reads the whole ledger, some {items:,} items as DynamoDB counted them in the last six "
        f"hours: about {units:,} read units, and half a unit for each user's plan. An export of "
        "the table takes none: EXPORT=",
        ask=ask,
    )
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("Reading the ledger", total=items)
        walked = progress.track(services.ledger.walk(), task_id=task)
        return _tally(_each_user(walked, at), partial(_plans_of, services))


def _each_user(items: Iterable[Item], at: datetime) -> Iterator[tuple[str, _Standing]]:
    """What each user had, from entries ordered by user."""
    for user_id, entries in groupby(items, owner_of):
        standing = _Standing()
        for item in entries:
            standing.take(item, at)
        yield user_id, standing


def _plans_of(services: Services, user_ids: list[str]) -> dict[str, str]:
    found = services.subscriptions.get_many(user_ids)
    return {user_id: plan for user_id, item in found.items() if (plan := _plan_of(item))}


def _plan_of(item: Item) -> str | None:
    try:
        return read_subscription(item).plan
    except Unreadable:
        return None  # their credits are counted anyway


# --- From exports of them -------------------------------------------------------------------------


def count_exported(
    stage: reach.Reach, at: datetime, ledger: str, subscriptions: str | None = None
) -> Liability:
    """The same from an export of the ledger; reads no table, and says so first.

    Plans come from an export of the subscriptions, if there is one. Raises `ExportError`, and
    `InvalidInput` for a text that is not a place.
    """
    settings = stage.services.settings
    lines = find_in(stage, "EXPORT", ledger, settings.ledger_table)
    until = lines.export.summary.at
    if until < at:
        with advised(lines.field, lines.table):
            raise ExportError(
                f"{lines.export.place} has what was written until {format_instant(until)}, and AT "
                f"is {format_instant(at)}: name an export of AT or later"
            )
    terms = None
    if subscriptions is not None:
        terms = find_in(stage, "SUBSCRIPTIONS", subscriptions, settings.subscriptions_table)
    print(f"Reads {lines}.", file=sys.stderr)
    print(
        f"Reads {terms}."
        if terms
        else "Plans are not in it; to count by plan, too, name an export of the table "
        f"{settings.subscriptions_table}: SUBSCRIPTIONS=",
        "Reads no table: 0 read units.",
        sep="\n",
        file=sys.stderr,
    )
    plans: dict[str, str] = {}
    with progress_bar(Console(stderr=True)) as progress:
        for item in terms.read(progress, "Reading the plans", "user_id") if terms else ():
            if plan := _plan_of(item):
                plans[owner_of(item)] = sys.intern(plan)
        entries = lines.read(progress, "Reading the export", "user_id", "entry")
        standings = _standings(entries, at)
    return _tally(standings.items(), lambda _: plans, has_plans=terms is not None)


def _standings(items: Iterator[Item], at: datetime) -> dict[str, _Standing]:
    """What each user had, from items in any order."""
    standings: defaultdict[str, _Standing] = defaultdict(_Standing)
    for item in items:
        if is_entry(item):
            standings[owner_of(item)].take(item, at)
    return standings


# --- Shared by both -------------------------------------------------------------------------------


def _left(batch: CreditBatch, at: datetime) -> _Left:
    expires = None
    if batch.expires_at:
        is_usable = batch.is_usable(at)
        # Interned, because very many batches have the same month.
        expires = sys.intern(batch.expires_at.strftime("%Y-%m")) if is_usable else "expired"
    return _Left(batch.number, batch.source, expires, batch.granted, batch.remaining)


def _tally(
    standings: Iterable[tuple[str, _Standing]], plans: Plans, *, has_plans: bool = True
) -> Liability:
    """The sums of what each user had; plans are read for many users at once."""
    found = Liability(has_plans=has_plans)
    waiting: dict[str, _Standing] = {}
    for user_id, standing in standings:
        if not standing.is_readable:
            found.unreadable.append(user_id)
        elif standing.number is not None:
            waiting[user_id] = standing
        if len(waiting) == USERS_AT_ONCE:
            _add(found, waiting, plans)
            waiting = {}
    _add(found, waiting, plans)
    found.unreadable.sort()
    return found


def _add(found: Liability, standings: Mapping[str, _Standing], plans_of: Plans) -> None:
    plans = plans_of([*standings])
    for user_id, standing in standings.items():
        prices = standing.prices or {}
        found.users += 1
        found.unrecovered += sum(lost for _, lost in (standing.refunds or {}).values())
        found.balances += standing.balance
        for batch in standing.batches:
            price = prices.get(batch.number)
            currency = price and price.currency
            row = Row(batch.source, plans.get(user_id), batch.expires, currency)
            found.credits[row] += batch.remaining
            if price:
                found.paid[row] += Fraction(price.amount * batch.remaining, batch.granted)


# --- Output ---------------------------------------------------------------------------------------


def _rows(found: Liability) -> Iterator[dict[str, Any]]:
    for row in sorted(found.credits, key=lambda row: tuple(each or "" for each in row)):
        yield {
            "source": row.source,
            "plan": row.plan,
            "expires": row.expires,
            "credits": found.credits[row],
            "paid": round(found.paid[row]) if row.currency else None,
            "currency": row.currency,
        }


def _sums(found: Liability) -> dict[str, int]:
    """What was paid in all, in minor units of each currency."""
    sums: defaultdict[str, Fraction] = defaultdict(Fraction)
    for row, paid in found.paid.items():
        sums[str(row.currency)] += paid
    return {currency: round(sums[currency]) for currency in sorted(sums)}


def _as_json(found: Liability, at: datetime) -> dict[str, Any]:
    return {
        "at": format_instant(at),
        "users": found.users,
        "credits": found.credits.total(),
        "paid": _sums(found),
        "unrecovered": found.unrecovered,
        "rows": [*_rows(found)],
        "unreadable": found.unreadable,
    }


def _write_csv(found: Liability) -> None:
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    writer.writerows(_rows(found))


def _show(found: Liability, at: datetime) -> None:
    table = Table(*COLUMNS, title=f"Outstanding at {format_instant(at)}")
    without = "none" if found.has_plans else "not read"
    for row in _rows(found):
        named = {**row, "source": row["source"] or "unknown", "plan": row["plan"] or without}
        named |= {"expires": row["expires"] or "never", "currency": row["currency"] or ""}
        named["paid"] = "" if row["paid"] is None else f"{row['paid']:,}"
        table.add_row(*(str(named[name]) for name in COLUMNS))
    console = Console()
    console.print(table)
    paid = ", ".join(f"{amount:,} {currency}" for currency, amount in _sums(found).items())
    told = f"{found.credits.total():,} credits of {found.users:,} users"
    told += f"; paid for, in minor units: {paid or 'none'}"
    console.print(f"{told}; refunded and unrecovered: {found.unrecovered:,}", highlight=False)


def _told_of_faults(found: Liability) -> int:
    """Prints what is wrong with the count; the exit status."""
    if found.unreadable:
        few = ", ".join(found.unreadable[:5])
        print(
            f"error: {len(found.unreadable):,} ledgers cannot be read and are not counted, such as "
            f"those of {few}; look at them with make verify",
            file=sys.stderr,
        )
    if found.credits.total() != found.balances:
        print(
            f"error: the last lines say {found.balances:,} credits, and their batches have "
            f"{found.credits.total():,}; look for the ledger with make verify ALL=1",
            file=sys.stderr,
        )
        return 1
    return 1 if found.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
