"""Plants bugs and looks for them: what the simulation must find, or it proves nothing.

python -m tests.simulation.bugs [--lives 100] [--seed 1] [--only WORD]
"""

import argparse
import sys

from tests.simulation.campaign import Result, campaign
from tests.simulation.planted import BUGS


def hunt(name: str, lives: int = 100, seed: int = 1) -> Result:
    """Plants a bug and looks for it; the result has a failure if it was found."""
    with BUGS[name]():
        return campaign(lives, seed=seed, shrink=False)


def main() -> int:
    """Reads the command line; the exit status: 1 when a bug stays hidden."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=100, help="in how many lives at most")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same lives")
    parser.add_argument("--only", default="", help="the bugs whose sentence has this in it")
    arguments = parser.parse_args()
    wanted = [name for name in BUGS if arguments.only in name]
    if not wanted:
        parser.error(f"no planted bug has {arguments.only!r} in its sentence")
    found, most = 0, 0
    for name in wanted:
        result = hunt(name, arguments.lives, arguments.seed)
        is_found = result.failure is not None
        found += is_found
        most = max(most, result.lives if is_found else 0)
        word = "found" if is_found else "HIDDEN"
        found_after = f"{result.lives:4} lives {result.steps:6,} steps"
        print(f"{word:6} {found_after}  {name}", flush=True)
        if is_found:
            print(f"       {_cause(result)}")
    hidden = len(wanted) - found
    told = f"{found} of {len(wanted)} planted bugs found, each in {most} lives at most"
    print(f"{told}; {hidden} hidden")
    return 1 if hidden else 0


def _cause(result: Result) -> str:
    failure = result.failure
    cause = failure.__cause__ if failure and failure.__cause__ else failure
    return f"{type(cause).__name__}: {str(cause)[:110]}"


if __name__ == "__main__":
    sys.exit(main())
