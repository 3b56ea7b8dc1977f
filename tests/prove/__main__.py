"""Everything that proves the guarantee, one after the other, and a summary of what it showed.

    python -m tests.prove                    all of it: three hours     (make prove)
    python -m tests.prove zones crashes      some of it
    python -m tests.prove --list             what there is

What a part prints goes into build/prove/<part>.log; its last line is its summary. Exit status 0:
every part shows what it is to show.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "prove"


@dataclass(frozen=True)
class Part:
    """One program: what it is to show, and the command after ``python -m``."""

    shows: str
    command: tuple[str, ...]


PARTS = {
    "zones": Part("the calendar is that of two oracles", ("tests.zones",)),
    "simulation": Part(
        "whatever happens, the product does what the reference says",
        ("tests.simulation.campaign", "--lives", "2000", "--seed", "1"),
    ),
    "bugs": Part("the simulation finds planted bugs", ("tests.simulation.bugs",)),
    "crashes": Part("every pair of crashes is repaired", ("tests.crashes",)),
    "soak": Part("five years of 500 users add up", ("tests.simulation.years",)),
    "concurrency": Part("64 threads and killed processes lose nothing", ("tests.concurrency",)),
    "guards": Part("no guard of the infrastructure can be removed unnoticed", ("tests.guards",)),
    "fuzz": Part("hostile input is refused and nothing else", ("tests.fuzz",)),
    "generators": Part("clients that generators make can call the API", ("tests.generators",)),
    "mutants": Part("tests notice small mistakes", ("tests.mutants",)),
}


@dataclass(frozen=True)
class Outcome:
    status: int
    minutes: float
    summary: str


def run(name: str, part: Part) -> Outcome:
    log = LOGS / f"{name}.log"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        ended = subprocess.run(
            [sys.executable, "-m", *part.command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    summary = lines[-1].strip() if lines else "it printed nothing"
    return Outcome(ended.returncode, (time.monotonic() - started) / 60, summary)


def prove(names: list[str], console: Console) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    table = Table("part", "is to show that", "minutes", "shown", "summary", show_lines=True)
    failed = []
    for place, name in enumerate(names, 1):
        part = PARTS[name]
        with console.status(f"{place} of {len(names)}: {name}, log in build/prove/{name}.log"):
            outcome = run(name, part)
        shown = "yes" if outcome.status == 0 else f"NO ({outcome.status})"
        console.print(f"{name}: {shown}. {outcome.summary}", highlight=False)
        table.add_row(name, part.shows, f"{outcome.minutes:.1f}", shown, outcome.summary)
        if outcome.status:
            failed.append(name)
    console.print(table)
    for name in failed:
        print(f"{name} failed: see build/prove/{name}.log, or python -m {PARTS[name].command[0]}")
    print(f"{len(names) - len(failed)} of {len(names)} parts show what they are to show")
    return 1 if failed else 0


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.prove",
        description="Runs everything that proves the guarantee, and prints what it showed. "
        "Each part is a program of its own, with options of its own.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--list", action="store_true", help="list the parts and their commands")
    options = parser.parse_args(words)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    if options.list:
        for name, part in PARTS.items():
            print(f"{name:<12} {part.shows:<60} python -m {' '.join(part.command)}")
        return 0
    return prove(options.parts or list(PARTS), Console(width=None if sys.stdout.isatty() else 130))


if __name__ == "__main__":
    sys.exit(main())
