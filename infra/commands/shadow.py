"""Compares a stage with the system that it runs beside (docs/migrating.md); nothing is granted.

python -m infra shadow old.csv [--stage prod] [--from 2026-11-20T22:00:00Z]
    [--until 2026-12-01T02:00:00Z] [--tolerance 15] [--yes] [--json]
    [--export s3://bucket/prefix/AWSDynamoDB/id --subscriptions s3://... --edits s3://...]
(make shadow CSV=old.csv FROM=2026-11-20T22:00:00Z STAGE=prod)

The file has the movements of the old system (infra/imports/movements.py). The command names each
difference, writes a page and two files with the users who differ, and stores the night's figure in
the reports bucket. It ends with status 1 if a difference is not explained.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.domain.errors import CreditsError, InvalidInput
from chalicelib.domain.instants import format_instant, parse_instant, parse_past
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import next_allocation
from chalicelib.services import read_clock
from infra import reach, session
from infra.arguments import whole_number
from infra.commands.reading import (
    DeclinedError,
    add_sources,
    announce,
    arguments_of,
    source_of,
)
from infra.deployment import packaging
from infra.faults import FAULTS
from infra.imports import csv_file, movements
from infra.imports.csv_file import CheckedFile, UnreadableFileError
from infra.imports.importing import show_problems
from infra.imports.movements import Movement
from infra.imports.table_export import ExportError
from infra.local import stacks
from infra.shadow import files, nights, page
from infra.shadow.comparison import Comparison, Shadow, compare
from infra.shadow.findings import Code, Finding
from infra.shadow.grants import Coming
from infra.shadow.nights import NIGHTS_BEFORE_THE_SWITCH, clean_nights
from infra.shadow.shifts import Zones
from infra.shadow.tally import Tally
from infra.terminal import progress_bar
from infra.whatif.past import Past
from infra.whatif.sources import Source

FOLDER = packaging.BUILD / "shadow"

TOLERANCE = 15
"""In minutes: a job that runs every quarter of an hour is in time."""


@dataclass(frozen=True)
class Asked:
    """What to compare: the movements of each user, and the time range."""

    movements: Mapping[str, Sequence[Movement]]
    start: datetime | None
    until: datetime
    tolerance: timedelta
    digest: str


def main(words: list[str] | None = None) -> int:
    """Reads the command line and compares; the exit status is 1 for unexplained differences."""
    parser = argparse.ArgumentParser(
        prog="python -m infra shadow",
        description="Compares the ledgers of a stage with what moved in the system beside which "
        "it runs, and names every difference. Grants nothing.",
        epilog=f"Columns: {','.join(movements.COLUMNS.all)}. The last may be left out.",
    )
    parser.add_argument("file", type=Path, help="the CSV file with what moved there")
    parser.add_argument(
        "--from", dest="start", help="when the balances were exported; default: the first entry"
    )
    parser.add_argument("--until", help="when the file was exported; default: its last movement")
    parser.add_argument(
        "--tolerance",
        type=whole_number(0, 24 * 60),
        default=TOLERANCE,
        help=f"how many minutes are no lateness; default: {TOLERANCE}",
    )
    add_sources(parser)
    given = arguments_of(parser, words)
    console = Console(stderr=True)
    try:
        return _run(given, console)
    except UnreadableFileError as error:
        print(f"error: {given.file}: {error}", file=sys.stderr)
    except (
        *(CreditsError, DeclinedError, ExportError),
        *(stacks.NotRunningError, session.AwsError, *FAULTS),
    ) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
    return 1


def _run(given: argparse.Namespace, console: Console) -> int:
    reach.check_name(given.stage)
    text = csv_file.read(given.file)
    for field, value in (("FROM", given.start), ("UNTIL", given.until)):
        if value is not None:
            parse_instant(field, value)  # before looking for the stage
    try:
        stage = reach.reach(given.stage, given.region)
    except (stacks.NotRunningError, session.AwsError):
        _are_right(movements.check(text, read_clock()), console)  # found without a stage, too
        raise
    checked = movements.check(text, stage.services.now())
    if not _are_right(checked, console):
        return 1
    asked = _asked(given, text, movements.read(checked.good, stage.services.now()), stage)
    source = source_of(stage, given, asked.until, is_sample=False)
    announce(source.cost(None), ask=not given.yes)
    report = _Report.of(stage.stage, asked)
    found = report.compare(source, asked, stage.services.catalogue, console)
    night = found.night(asked.digest)
    nights.write(stage.services.reports, night)
    known = nights.read(stage.services.reports)
    report.page.write_text(page.page(found, known, stage.stage), encoding="utf-8")
    in_a_row = clean_nights(known, night.day)
    if given.json:
        print(json.dumps({**found.as_json(), "clean_nights": in_a_row}))
    else:
        show(found, in_a_row)
    print("\n".join(report.said(found)), file=sys.stderr)
    return 1 if found.unexplained else 0


def _are_right(checked: CheckedFile, console: Console) -> bool:
    """Whether all rows can be compared; shows what is wrong with the others."""
    if checked.problems:
        show_problems(console, checked.problems)
        rows = len(checked.bad) + len(checked.good)
        console.print(f"{len(checked.bad):,} of {rows:,} rows are wrong. Nothing was compared.")
    return not checked.problems


@dataclass
class _Report:
    """Where the result is written. ``granted``: how many users would have less after the switch."""

    page: Path
    differences: Path
    grants: Path
    granted: int = 0

    @classmethod
    def of(cls, stage: str, asked: Asked) -> _Report:
        """The report of a stage and a night."""
        name = f"{stage}-{asked.until:%Y-%m-%d}"
        differences, grants = (FOLDER / f"{name}-{what}.csv" for what in ("differences", "grants"))
        return cls(FOLDER / f"{name}.html", differences, grants)

    def compare(
        self, source: Source, asked: Asked, catalogue: PlanCatalogue, console: Console
    ) -> Tally:
        """Compares all users, and writes down who differs on the way."""
        found = Tally(asked.until)
        with files.writing(self.differences, self.grants) as written:
            for compared, past in compared_users(source, asked, catalogue, console):
                subscription = past.subscription if past else None
                found.add(compared, subscription.plan if subscription else "none")
                days = files.days_of(subscription, catalogue) if subscription else ""
                written.add(compared, days)
        self.granted = written.granted
        return found

    def said(self, found: Tally) -> Iterator[str]:
        """Where the report is, for people."""
        yield f"The same with pictures: {self.page}"
        if found.users > found.same:
            yield f"All who differ: {self.differences}"
        if self.granted:
            yield (
                f"What users would lack on switching, {self.granted:,} of them: {self.grants}. To "
                f"make up for it then: make grant CSV={self.grants} APPROVED_BY=..."
            )


def _asked(
    given: argparse.Namespace, text: str, rows: Sequence[Movement], stage: reach.Reach
) -> Asked:
    """What to compare. Raises `InvalidInput`, and `UnreadableFileError` for an empty file."""
    if not rows:
        raise UnreadableFileError("has no rows: there is nothing to compare with")
    parse = parse_past(stage.services.now())
    start = parse("FROM", given.start) if given.start is not None else None
    until = parse("UNTIL", given.until) if given.until is not None else rows[-1].at
    if start and start >= until:
        raise InvalidInput.of("FROM", f"must be before the end, {format_instant(until)}")
    by_user = defaultdict[str, list[Movement]](list)
    for movement in rows:
        if (start is None or start <= movement.at) and movement.at <= until:
            by_user[movement.user_id].append(movement)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Asked(by_user, start, until, timedelta(minutes=given.tolerance), digest)


def compared_users(
    source: Source, asked: Asked, catalogue: PlanCatalogue, console: Console
) -> Iterator[tuple[Comparison, Past | None]]:
    """Compares all users of a source and of the file, behind a progress bar."""
    users = list(dict.fromkeys(source.users()))
    strangers = sorted(asked.movements.keys() - users)
    with progress_bar(console) as progress:
        task = progress.add_task("Comparing users", total=len(users) + len(strangers))
        for first in range(0, len(users), source.at_once):
            for user_id, past in source.pasts(users[first : first + source.at_once], progress):
                yield _compared(user_id, past, asked, catalogue)
                progress.advance(task)
        for user_id in strangers:
            yield unreadable(user_id, "is not registered: import their subscription", asked), None
            progress.advance(task)


def _compared(
    user_id: str, past: Past | CreditsError, asked: Asked, catalogue: PlanCatalogue
) -> tuple[Comparison, Past | None]:
    try:
        if isinstance(past, CreditsError):
            raise past
        shadow = shadow_of(past, asked.until, catalogue)
    except CreditsError as error:
        return unreadable(user_id, str(error), asked), None
    its = asked.movements.get(user_id, ())
    return compare(shadow, its, asked.start, asked.until, asked.tolerance), past


def shadow_of(past: Past, until: datetime, catalogue: PlanCatalogue) -> Shadow:
    """What a comparison needs from a user's past."""
    subscription = past.subscription
    zones = [
        str(zone)
        for edit in past.edits
        for change in edit.changes
        if change.field == "timezone"
        for zone in (change.before, change.after)
        if zone and zone != subscription.timezone
    ]
    through = past.entries[-1].allocated_through if past.entries else None
    coming = next_allocation(subscription, catalogue, through, until)
    return Shadow(
        subscription.user_id,
        past.entries,
        Zones(subscription.timezone, tuple(dict.fromkeys(zones))),
        coming and Coming(coming.at, coming.amount, str(coming.period)),
    )


def unreadable(user_id: str, why: str, asked: Asked) -> Comparison:
    """The comparison of a user who cannot be compared."""
    lines = [each.line for each in asked.movements.get(user_id, ())]
    finding = Finding(Code.UNREADABLE, why, asked.until, lines[0] if lines else None)
    return Comparison(user_id, 0, 0, (finding,))


def show(found: Tally, in_a_row: int) -> None:
    """Prints the result for people."""
    console = Console()
    table = Table("finding", "explained", title=f"Until {format_instant(found.until)}")
    for name in ("users", "times", "credits more there"):
        table.add_column(name, justify="right")
    table.add_column("for example", overflow="fold")
    table.add_row("same", "", f"{found.same:,}", "", "", "")
    for line in found.lines:
        user_id, finding = line.examples[0]
        explained = "yes" if line.code.is_explained else "NO"
        figures = (f"{line.users:,}", f"{line.times:,}", f"{line.credits:+,}")
        table.add_row(line.code.heading, explained, *figures, Text(f"{user_id}: {finding.brief}"))
    console.print(table)
    so_far = f" It has been for {in_a_row}." if in_a_row else ""
    console.print(
        f"Unexplained: {found.unexplained:,} of {found.users:,} users. Before the switch it must "
        f"be 0 for {NIGHTS_BEFORE_THE_SWITCH} nights in a row.{so_far}",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
