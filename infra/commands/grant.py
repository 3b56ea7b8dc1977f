"""Grants credits to the users of a CSV file, in two steps (docs/promotions.md).

    python -m infra grant promo.csv --approved-by ada                 (make grant CSV= APPROVED_BY=)
    python -m infra grant promo.csv --approved-by ada --digest 3f...  (with DIGEST=)

The first command checks the file, shows what it would grant, and prints a digest. The second grants
exactly that, to each user once. The digest is only valid for this file, stage and account, and for
the person to whom it was shown. Standard output is for programs: it has the digest.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_actor
from chalicelib.operations.adjustments import NEVER
from chalicelib.settings import LOCAL_STAGE
from infra import reach
from infra.arguments import add_stage
from infra.commands.import_file import attempt, reached
from infra.imports import csv_file
from infra.imports.csv_file import CheckedFile, UnreadableFileError
from infra.imports.importing import (
    check_with_progress,
    import_with_progress,
    show_problems,
)
from infra.imports.promotions import COLUMNS, Promotion
from infra.reach import Reach
from infra.session import AwsError

MOST_SHOWN = 20

_DIGEST = re.compile("[0-9a-f]{64}")

_UNNAMED = re.compile(r"arn:[^:]+:sts::\d+:assumed-role/[^/]+/(botocore-session-)?\d+")
"""A role session that a program has named after the time: botocore and aws-vault do so."""


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the command; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra grant",
        description="Shows what a CSV file would grant, and its digest. With that digest, grants "
        "it, to each user once.",
        epilog=f"Columns: {','.join(COLUMNS.all)}. The last {len(COLUMNS.optional)} may be empty "
        "or left out. docs/promotions.md has an example.",
    )
    parser.add_argument("file", type=Path, help="the CSV file")
    add_stage(parser)
    parser.add_argument("--approved-by", required=True, help="your name, as ledgers will show it")
    parser.add_argument("--digest", help="grant what was shown with this digest")
    arguments = parser.parse_args(words)
    console = Console(stderr=True)
    return attempt(lambda: _run(arguments, console), arguments.file, console)


def _run(given: argparse.Namespace, console: Console) -> int:
    reach.check_name(given.stage)
    actor = parse_actor("--approved-by", given.approved_by)
    if given.digest is not None and not _DIGEST.fullmatch(given.digest):
        raise InvalidInput.of("--digest", "must be the 64 digits that the command printed")
    text = csv_file.read(given.file)
    file = Promotion({}, actor).file
    here = reached(lambda: reach.reach(given.stage, given.region), file, text, console)
    alone = file.check_alone(text, here.services.catalogue, here.services.now())
    promotion = Promotion.of(alone.good, actor)
    place = _place(here)
    digest = promotion.digest(*place)
    if not alone.problems and given.digest not in (None, digest):
        # Without naming the right digest: the person must look at what it stands for.
        raise UnreadableFileError(
            f"is not what was approved: DIGEST is not that of this file, {actor} and "
            f"{_words(place).rstrip(',')}. Nothing was granted. Look at it again: leave DIGEST out"
        )
    checked = check_with_progress(promotion.file, here.services, text, console)
    if checked.problems:
        show_problems(console, checked.problems)
        # A run that has begun goes on: users who can no longer be granted do not stop the others.
        if alone.problems or given.digest is None or not checked.written:
            rows = len(checked.bad) + len(checked.good)
            _say(console, f"{len(checked.bad):,} of {rows:,} rows are wrong. Nothing was granted.")
            return 1
    if not promotion.grants:
        raise UnreadableFileError("grants nothing: it has no rows")
    if given.digest is None:
        _show(promotion, checked, console)
        _say(
            console,
            "Nothing was granted yet. The digest is good for this file, "
            f"{actor} and {_words(place)} alone. To grant exactly this:\n{_again(given, digest)}",
        )
        print(digest)
        return 0
    return _grant(promotion, checked, here, console)


def _place(here: Reach) -> tuple[str, ...]:
    """Where it is granted, and the caller's name by AWS. Raises `AwsError` if there is none."""
    if here.stage == LOCAL_STAGE:
        return here.stage, "", "", ""
    if not here.caller or _UNNAMED.fullmatch(here.caller):
        raise AwsError(
            f"AWS does not say who you are: your session of a role is named {here.caller}. Name it "
            "in your profile, in ~/.aws/config: role_session_name = ada"
        )
    return here.stage, here.account or "", here.services.settings.region, here.caller


def _words(place: tuple[str, ...]) -> str:
    stage, account, region, caller = place
    if not account:
        return f"stage {stage}"
    return f"stage {stage} in account {account} and {region}, as {caller},"


def _again(given: argparse.Namespace, digest: str) -> str:
    """The command that grants what is shown."""
    values = {"CSV": str(given.file), "APPROVED_BY": given.approved_by}
    values |= {} if given.stage == LOCAL_STAGE else {"STAGE": given.stage}
    values |= {"REGION": given.region} if given.region else {}
    values |= {"DIGEST": digest}
    return "make grant " + " ".join(f"{name}={shlex.quote(each)}" for name, each in values.items())


def _show(promotion: Promotion, checked: CheckedFile, console: Console) -> None:
    """Prints what would be granted, by its terms; the largest sums first."""
    table = Table()
    for name in ("users", "credits", "each", "expires", "description", "source", "priority"):
        is_number = name in ("users", "credits", "each", "priority")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    table.add_column("email")
    rows = sorted(promotion.by_terms().items(), key=lambda row: (-sum(row[1]), row[0]))
    for terms, amounts in rows[:MOST_SHOWN]:
        least, most = min(amounts), max(amounts)
        days = terms.expires_in_days
        table.add_row(
            *(f"{len(amounts):,}", f"{sum(amounts):,}"),
            f"{least:,}" if least == most else f"{least:,} to {most:,}",
            "never" if days == NEVER else f"after {days:,} days",
            *(Text(terms.description), terms.source.value, str(terms.priority)),
            "yes" if terms.notify else "no",
        )
    console.print(table)
    if len(rows) > MOST_SHOWN:
        _say(console, f"... and {len(rows) - MOST_SHOWN:,} more kinds of grants")
    _say(
        console,
        f"{promotion.credits:,} credits for {len(promotion.grants):,} users, in about "
        f"{promotion.write_units:,} write units.",
    )
    if checked.written:
        _say(
            console,
            f"{checked.written:,} of them have been granted this already, and get nothing more.",
        )


def _grant(promotion: Promotion, checked: CheckedFile, here: Reach, console: Console) -> int:
    done = import_with_progress(promotion.file, here.services, checked.good, console)
    _say(console, f"Promotion {promotion.name}: {done}.")
    if done.failures:
        show_problems(console, done.failures)
        _say(console, "These were not granted. Run the same command again to finish it.")
    return 1 if done.failures or checked.problems else 0


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
