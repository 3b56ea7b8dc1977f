"""Parses the options of commands. Refuses numbers outside of sensible limits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from chalicelib.settings import LOCAL_STAGE

MOST = 1_000_000_000
"""More users, or anything a user can have, than there will ever be: larger numbers are mistakes."""


def whole_number(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """A parser for argparse of whole numbers from ``least`` to ``most``."""

    def read(text: str) -> int:
        # If the text is no longer than the limits, int() accepts everything that isdigit() does.
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not digits or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least:,} to {most:,}")
        return int(text)

    return read


def number(most: int = MOST) -> Callable[[str], Decimal]:
    """A parser for argparse of numbers from 0 to ``most``, with decimals or without."""

    def read(text: str) -> Decimal:
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not (value.is_finite() and 0 <= value <= most):
            raise argparse.ArgumentTypeError(f"must be a number from 0 to {most:,}")
        return value

    return read


def add_stage(parser: argparse.ArgumentParser) -> None:
    """Adds the options of every command that reaches a stage: the stage and its region."""
    parser.add_argument(
        "--stage", default=LOCAL_STAGE, help="the stage; default: the running local stack"
    )
    add_region(parser)


def add_region(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the region."""
    parser.add_argument(
        "--region",
        help="default: AWS_REGION, AWS_DEFAULT_REGION, or the region of your AWS profile",
    )
