"""Plants bugs and looks for them: what the simulation must find, or it proves nothing."""

import argparse
import os
import sys
from functools import partial

from rich.console import Console

from tests.parallel import in_processes
from tests.progress import progress_bar
from tests.simulation import (
    planted_amounts,
    planted_payments,
    planted_promotions,
    planted_stripe,
    planted_when,
)
from tests.simulation.campaign import Result, campaign

BUGS = (
    planted_payments.BUGS
    | planted_amounts.BUGS
    | planted_when.BUGS
    | planted_stripe.BUGS
    | planted_promotions.BUGS
)


def hunt(name: str, lives: int = 100, seed: int = 1) -> Result:
    """Plants a bug and looks for it; the result has a failure if it was found."""
    with BUGS[name]():
        return campaign(lives, seed=seed, shrink=False)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.bugs", description=__doc__)
    parser.add_argument(
        "--lives", type=int, default=200, help="look for each in at most this many lives"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same lives")
    parser.add_argument("--only", default="", help="the bugs whose sentence has this in it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time")
    asked = parser.parse_args(words)
    wanted = [name for name in BUGS if asked.only in name]
    if not wanted:
        parser.error(f"no planted bug has {asked.only!r} in its sentence")
    hunting = partial(hunt, lives=asked.lives, seed=asked.seed)
    found, most = 0, 0
    with progress_bar(Console(stderr=True)) as bar:
        results = in_processes(hunting, wanted, asked.processes)
        for name, result in zip(bar.track(wanted, description="bugs"), results, strict=True):
            found += bool(result.failure)
            most = max(most, result.lives if result.failure else 0)
            word = "found" if result.failure else "HIDDEN"
            print(f"{word:6} {result.lives:4} lives {result.steps:6,} steps  {name}", flush=True)
            if result.failure:
                print(f"       {result.failure[:130]}")
    hidden = len(wanted) - found
    told = f"{found} of {len(wanted)} planted bugs found, each in {most} lives at most"
    print(f"{told}; {hidden} hidden")
    return 1 if hidden else 0


if __name__ == "__main__":
    sys.exit(main())
