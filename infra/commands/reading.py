"""Shared by commands that read whole tables of a stage, or exports of them."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime

from rich.console import Console

from infra.arguments import add_stage
from infra.reach import Reach
from infra.terminal import is_agreed
from infra.whatif import sources
from infra.whatif.sources import Source

EXPORTS = ("export", "subscriptions", "edits")


class DeclinedError(Exception):
    """A person was asked whether to read the tables, and declined."""


def announce(cost: str, *, ask: bool) -> None:
    """Says what will be read.

    ``ask``: whether to ask first, if there is a person at the terminal. Raises `DeclinedError`.
    """
    print(cost, file=sys.stderr)
    if ask and sys.stdin.isatty() and not is_agreed(Console(stderr=True)):
        raise DeclinedError("Declined: nothing was read.")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """The options of a command that reads the pasts of users, and its stage."""
    for name in EXPORTS:
        parser.add_argument(
            f"--{name}",
            metavar="WHERE",
            help="read full exports of the tables of ledger, subscriptions and edits, and no "
            "table: s3://bucket/prefix/AWSDynamoDB/id each, or folders with copies",
        )
    parser.add_argument("--yes", action="store_true", help="read the tables unasked")
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def arguments_of(parser: argparse.ArgumentParser, words: list[str] | None) -> argparse.Namespace:
    """The arguments; ends the program if some of the exports are missing."""
    given = parser.parse_args(words)
    if sum(getattr(given, name) is not None for name in EXPORTS) not in (0, len(EXPORTS)):
        parser.error("exports come together: EXPORT= of the ledger, SUBSCRIPTIONS= and EDITS=")
    return given


def source_of(
    stage: Reach, given: argparse.Namespace, until: datetime, *, is_sample: bool
) -> Source:
    """The source of the pasts: the named exports, or else the tables.

    ``until``: the instant that an export must reach. Raises `ExportError` and `InvalidInput`.
    """
    ledger, subscriptions, edits = (getattr(given, name) for name in EXPORTS)
    if ledger is None:
        return sources.Tables(stage, is_sample)
    return sources.find_exports(stage, (ledger, subscriptions, edits), until, is_sample=is_sample)
