"""Feeds hostile input to everything that reads input: an error of our own or a valid value.

    python -m tests.fuzz                                       all readers
    python -m tests.fuzz --target "message: sweep" --examples 100000
    python -m tests.fuzz --target "message: sweep" --replay build/fuzz/7b7d.input

Exit status 0: nothing was found. 1: something was, with the smallest input and how to replay it.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.handlers import staged
from tests.fuzz.hunt import TARGETS, Found, hunt_for
from tests.fuzz.target import Amiss, attempt
from tests.parallel import in_processes
from tests.progress import progress_bar

EXAMPLES = 2_000
"""Of each reader, beside all inputs that are one change away from a valid one."""

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "build" / "fuzz"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Feeds hostile input to everything that reads input from outside.",
        epilog="Targets: " + "; ".join(TARGETS),
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        help="try each Nth of the inputs that are one change from valid (1)",
    )
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of Hypothesis, for each")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same inputs")
    parser.add_argument("--target", choices=TARGETS, metavar="NAME", help="this one only")
    parser.add_argument("--replay", metavar="FILE", type=Path, help="one input, of --target")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time")
    asked = parser.parse_args(words)
    if asked.every < 1 or asked.examples < 1:
        parser.error("--every and --examples must be at least 1")
    if asked.replay is not None:
        if asked.target is None:
            parser.error("--replay needs --target")
        return _replay(asked.target, asked.replay)
    names = [asked.target] if asked.target else [*TARGETS]
    shares = [(name, asked.every, asked.examples, asked.seed) for name in names]
    with progress_bar(Console(stderr=True)) as bar:
        hunting = in_processes(hunt_for, shares, min(asked.processes, len(names)))
        found = [*bar.track(hunting, total=len(names), description="readers")]
    return _tell(found)


def _replay(name: str, file: Path) -> int:
    target = TARGETS[name]
    try:
        with staged():
            took = attempt(target, target.kind.decode(file.read_bytes()))
    except Amiss as error:
        print(error)
        return 1
    print(f"{name}: {'accepted' if took else 'refused'}")
    return 0


def _tell(found: list[Found]) -> int:
    table = Table("target", title="Hostile input")
    for heading in ("executions", "accepted"):
        table.add_column(heading, justify="right")
    for each in found:
        table.add_row(each.target, f"{each.executions:,}", f"{each.accepted:,}")
    Console(width=110).print(table)
    failed = [each for each in found if each.failure]
    for each in failed:
        raw = TARGETS[each.target].kind.encode(each.given)
        file = FOUND / f"{hashlib.sha256(raw).hexdigest()[:16]}.input"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(raw)
        print(f"\n{each.target}:\n{each.failure}  the input: {raw[:200]!r}")
        print(f'  python -m tests.fuzz --target "{each.target}" --replay {file.relative_to(ROOT)}')
    done, accepted = (
        sum(counts) for counts in zip(*((f.executions, f.accepted) for f in found), strict=True)
    )
    print(
        f"{done:,} executions of {len(found)} readers with hostile input ({accepted:,} accepted, "
        f"the others refused): {len(failed)} {'failure' if len(failed) == 1 else 'failures'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
