"""Replays the tick of an instant or the ticks of a range, as the schedule would have run them.

    python -m infra replay --from 2026-07-01T00:00Z [--to ...] --kind allocation

Each tick invokes the deployed tick function. Replaying a tick that has done its work changes
nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_choice
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.jobs.ticks import sweeps_of
from chalicelib.messages.work import SweepKind
from infra.repair import command
from infra.repair.command import Repair, Summary, parsed
from infra.ticks import TickFailedError, Ticks

TICK = timedelta(minutes=15)

LONGEST_RANGE = timedelta(days=7)
"""The longest range of one replay: every midnight is swept again for that long anyway."""

FUNCTIONS = {SweepKind.ALLOCATION: "allocation-tick", SweepKind.EXPIRY: "expiry-tick"}

_WITHOUT_SECONDS = re.compile(r"(T[0-9]{2}:[0-9]{2})(?![:0-9])")


def parse_tick(field: str, value: object) -> datetime:
    """A quarter of an hour, with or without its seconds: ``2026-07-01T00:00Z``."""
    text = _WITHOUT_SECONDS.sub(r"\1:00", value) if isinstance(value, str) else value
    instant = parse_instant(field, text)
    tick = calendar.tick_at(instant)
    if tick != instant:
        raise InvalidInput.of(
            field,
            f"must be a quarter of an hour, when the ticks are: {format_instant(tick)} or "
            f"{format_instant(tick + TICK)}",
        )
    return instant


def ticks_between(first: datetime, last: datetime) -> list[datetime]:
    """Every tick from ``first`` to ``last``, both included. Raises `InvalidInput`."""
    if last < first:
        raise InvalidInput.of("--to", "must not be before --from")
    if last - first > LONGEST_RANGE:
        raise InvalidInput.of(
            "--to",
            f"must be at most {LONGEST_RANGE.days} days after --from: replay longer ranges in "
            f"parts, the first until {format_instant(first + LONGEST_RANGE)}",
        )
    return [first + place * TICK for place in range((last - first) // TICK + 1)]


def replay(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    first = parsed("--from", parse_tick, arguments.first)
    last = parsed("--to", parse_tick, arguments.last) if arguments.last is not None else first
    kind = parsed("--kind", parse_choice(SweepKind), arguments.kind)
    zones = (
        calendar.parse_timezones("--zones", re.split(r"[,\s]+", arguments.zones.strip()))
        if arguments.zones is not None
        else None
    )
    ticks, catalogue = ticks_between(first, last), repair.services.catalogue
    now = repair.services.now()
    if last > now:
        option = "--to" if arguments.last else "--from"
        raise InvalidInput.of(option, f"must not be ahead of the clock: {format_instant(now)}")
    due = {
        tick: len(found)
        for tick in ticks
        if (found := {swept.timezone for swept, _ in sweeps_of(catalogue, kind, tick, zones)})
    }
    facts: dict[str, Any] = {"kind": kind.value, "ticks": len(ticks), "replayed": [], "failed": []}
    moments = (
        format_instant(first)
        if first == last
        else f"{format_instant(first)} to {format_instant(last)}"
    )
    if not due:
        where = "in the chosen zones" if zones else "anywhere"
        return Summary(f"At {moments} no {kind.value} sweep was due {where}.", facts)
    repair.show(
        f"{kind.value} ticks of {moments} that start sweeps",
        ("tick", "#zones"),
        [(format_instant(tick), count) for tick, count in due.items()],
    )
    if not repair.is_agreed(f"replay {len(due)} ticks, which sweep {sum(due.values()):,} zones"):
        return Summary(f"{len(due)} of {len(ticks)} ticks have something to sweep.", facts)
    invoker = Ticks(repair.reach)
    for tick in repair.follow("Replaying ticks", due, len(due)):
        try:
            invoker.invoke(FUNCTIONS[kind], tick, zones)
        except TickFailedError as error:
            facts["failed"].append({"time": format_instant(tick), "why": str(error)})
            repair.say(f"FAILED: {error}")
        else:
            facts["replayed"].append(format_instant(tick))
    text = f"Replayed {len(facts['replayed'])} of {len(due)} ticks; their sweeps run now."
    return Summary(text, facts, is_complete=not facts["failed"])


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = command.parser_of("replay", "Replays the ticks of a moment, or of a range of them.")
    parser.add_argument(
        "--from", dest="first", required=True, metavar="INSTANT", help="such as 2026-07-01T00:00Z"
    )
    parser.add_argument(
        "--to", dest="last", metavar="INSTANT", help="the last tick; default: one tick only"
    )
    kinds = [kind.value for kind in FUNCTIONS]
    parser.add_argument("--kind", required=True, choices=kinds, help="the schedule to replay")
    parser.add_argument("--zones", help="timezones, separated by commas; default: all")
    return command.run(parser, replay, words)


if __name__ == "__main__":
    sys.exit(main())
