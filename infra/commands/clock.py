"""Shows the clock of the running local stack, or moves it forward.

python -m infra clock --to "next 1st" --zone Europe/Paris
(make clock TO="next 1st" ZONE=Europe/Paris)
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.instants import format_instant
from infra import session
from infra.local import stacks
from infra.local.clock import STOPPED_BY, LocalClock, parse_moment, parse_target
from infra.terminal import moving_bar


def main(words: list[str] | None = None) -> int:
    """Moves the clock of the running local stack; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra clock",
        description="Shows the clock of the running local stack, or moves it forward.",
        epilog='make clock TO="next 1st" ZONE=Europe/Paris',
    )
    parser.add_argument(
        "--to", help="'next midnight', 'next 1st', '+30 days' or 2027-01-01T05:00:00Z"
    )
    parser.add_argument(
        "--zone", default="UTC", help="the timezone of the midnight or the 1st (default: UTC)"
    )
    arguments = parser.parse_args(words)
    try:
        zone = calendar.parse_timezone("zone", arguments.zone)
        if arguments.to is not None:
            parse_target(arguments.to, zone)
        clock = LocalClock(stacks.running_stack())
        if arguments.to is not None:
            began = clock.now()
            to = parse_moment(arguments.to, began, zone)
            with moving_bar(Console(stderr=True), "Moving the clock", began, to) as show:
                clock.move(to, lambda step, _: show(step.at))
        print(format_instant(clock.now()))
    except (stacks.NotRunningError, *STOPPED_BY) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
