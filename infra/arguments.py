"""How commands read what they are given: a number that cannot be meant is refused, with limits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from chalicelib.settings import LOCAL_STAGE

MOST = 1_000_000_000
"""More users, or more of anything a user, than there will be: a slip of the keyboard."""


def whole_number(least: int = 1, most: int = MOST) -> Callable[[str], int]:
    """What argparse reads a whole number with, from ``least`` to ``most``."""

    def read(text: str) -> int:
        # As long as it is no longer than the limits, int() cannot refuse what isdigit() takes.
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
        if not digits or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least:,} to {most:,}")
        return int(text)

    return read


def number(most: int = MOST) -> Callable[[str], Decimal]:
    """What argparse reads a number with, from 0 to ``most``, with decimals or without."""

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
    """What every command takes that reaches a stage: which, and in which region."""
    parser.add_argument("--stage", default=LOCAL_STAGE, help="default: the running local stack")
    add_region(parser)


def add_region(parser: argparse.ArgumentParser) -> None:
    """Where in AWS."""
    parser.add_argument(
        "--region",
        help="default: AWS_REGION, AWS_DEFAULT_REGION, or the region of your AWS profile",
    )
