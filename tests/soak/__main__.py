"""Years of random lives in one run of the product: every ledger is verified, and memory is flat."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.progress import progress_bar
from tests.simulation.reference import Violation
from tests.simulation.world import simulated
from tests.soak.lives import Figures, Soak
from tests.soak.product import SHARDS, USERS_A_PAGE
from tests.soak.verdict import Credits, credits_of, judge

YEAR = 365
HALF = 182
MOST_GROWTH = 0.03
"""By how much memory may grow after the first year."""
MEGABYTE = 1_000_000


@dataclass
class Course:
    """A run: what each year came to, and the memory at every half of one."""

    users: int
    seed: int
    years: list[tuple[Figures, Credits, int]] = field(default_factory=list)
    """Figures, credits and mails at the end of each."""
    memory: list[int] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Of memory since the end of the first year, at the most."""
        settled = self.memory[1:]
        return max(settled) / settled[0] - 1 if settled else 0.0


@contextmanager
def soaking(users: int, seed: int) -> Iterator[Soak]:
    """The world of a run."""
    soak = Soak(users=users, seed=seed)
    with simulated(soak.zones, USERS_A_PAGE, SHARDS), soak.running(), soak.lived():
        yield soak


def run(users: int, days: int, seed: int, advance: Progress | None = None) -> Course:
    """Lives through so many days, and judges. Raises `Violation`."""
    course = Course(users, seed)
    task = advance.add_task("days", total=days) if advance else None
    with soaking(users, seed) as soak:
        for number, _ in enumerate(soak.live(days), 1):
            if number % HALF == 0 or number == days:
                course.memory.append(soak.product.memory())
            if number % YEAR == 0 or number == days:
                soak.figures.memory = course.memory[-1]
                course.years.append((soak.figures, credits_of(soak), len(soak.aws.state.mails)))
                soak.figures = Figures()
            if advance and task is not None:
                advance.advance(task)
        soak.settle()
        judge(soak)
    return course


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--users", type=int, default=500, help="how many live (500)")
    parser.add_argument("--years", type=int, default=5, help="how long (5)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same lives (1)")
    arguments = parser.parse_args(words)
    if arguments.users < 1 or arguments.years < 1:
        parser.error("--users and --years must be at least 1")
    began = time.monotonic()
    try:
        with progress_bar(Console(stderr=True)) as progress:
            course = run(arguments.users, arguments.years * YEAR, arguments.seed, progress)
    except Violation as wrong:
        print(f"WRONG: {wrong}")
        print(
            f"again: python -m tests.soak --users {arguments.users} --years {arguments.years} "
            f"--seed {arguments.seed}"
        )
        print("1 violation: the run ended at it")
        return 1
    print_table(course)
    is_flat = course.growth <= MOST_GROWTH
    _, found, mails = course.years[-1]
    figures = [figures for figures, _, _ in course.years]
    print(
        "memory at each half year, MB: "
        + ", ".join(f"{size / MEGABYTE:.1f}" for size in course.memory)
    )
    print(
        f"{arguments.years} years of {arguments.users} users in "
        f"{(time.monotonic() - began) / 60:.0f} minutes: {found.lines:,} ledger lines and "
        f"{mails:,} mails as expected, {sum(each.faults for each in figures):,} faults, "
        f"{found.granted:,} credits granted and all accounted for; memory grew by "
        f"{course.growth:.1%} after the first year"
        + ("" if is_flat else f", more than the {MOST_GROWTH:.0%} allowed")
    )
    return 0 if is_flat else 1


def print_table(course: Course) -> None:
    """A row for each year; credits, lines and mails are of all years until then."""
    table = Table("year", box=None)
    heads = "requests,refused,edits,ticks,irregular,faults,lines,mails,granted,spent,clawed back"
    for head in f"{heads},expired,left,memory MB".split(","):
        table.add_column(head, justify="right")
    for year, (figures, found, mails) in enumerate(course.years, 1):
        counts = (
            figures.requests,
            figures.refused,
            figures.edits,
            figures.ticks,
            figures.irregular,
            figures.faults,
            found.lines,
            mails,
            found.granted,
            found.spent,
            found.clawed_back,
            found.expired,
            found.left,
        )
        memory = f"{figures.memory / MEGABYTE:.1f}"
        table.add_row(str(year), *(f"{count:,}" for count in counts), memory)
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
