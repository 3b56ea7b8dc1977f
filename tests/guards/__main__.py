"""Takes every guard of the product away, one at a time: which test notices?

    python -m tests.guards                                   all of them
    python -m tests.guards --group bounds                    those of a group
    python -m tests.guards --only a-token-is-bounded         some, by name
    python -m tests.guards --only ... --among tests/unit     looks for a test that notices

Exit status 0: each removal makes one of the tests fail that the guard names. Otherwise 1.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.progress import progress_bar

from .guard import GROUPS, Guard, LostGuardError, listed
from .infrastructure import found
from .runner import Fate, TestsFailError, Verdict, verdicts

INFRASTRUCTURE = "infrastructure"
_error = Console(stderr=True, markup=False)
_IS_GOOD = {Fate.NOTICED, Fate.TIMED_OUT}


def all_guards() -> list[Guard]:
    """Every guard there is: those that are listed, and those of the infrastructure."""
    return [*(guard for group in GROUPS for guard in listed(group)), *found()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; answers its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.guards",
        description="Takes every guard of the product away, one at a time, in a copy of the tree, "
        "and says which test notices.",
    )
    parser.add_argument("--group", choices=[*GROUPS, INFRASTRUCTURE], help="those of a group")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these, by name")
    parser.add_argument(
        "--among",
        nargs="+",
        metavar="TEST",
        help="run these tests in place of those that are named",
    )
    options = parser.parse_args(arguments)
    guards = all_guards()
    unknown = set(options.only or ()) - {guard.name for guard in guards}
    if unknown:
        _error.print(
            f"error: there is no guard called {', '.join(sorted(unknown))}", soft_wrap=True
        )
        return 2
    chosen = [
        guard
        for guard in guards
        if options.group in (None, guard.group) and (not options.only or guard.name in options.only)
    ]
    try:
        return _run(chosen, options.among or [])
    except (LostGuardError, TestsFailError) as error:
        _error.print(f"error: {error}", soft_wrap=True)
        return 1


def _run(guards: list[Guard], among: list[str]) -> int:
    for guard in guards:
        guard.removed()  # raises here what would be raised half an hour later
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    started = time.monotonic()
    tried: list[tuple[Guard, Verdict]] = []
    with progress_bar(console, auto_refresh=False) as progress:
        task = progress.add_task("the tests as they are".ljust(48), total=len(guards))
        progress.refresh()
        for guard, verdict in verdicts(guards, among):
            tried.append((guard, verdict))
            if verdict.fate not in _IS_GOOD or not console.is_terminal:
                console.print(f"{guard.name}: {verdict.fate.value} {verdict.by}")
            progress.update(task, advance=1, description=guard.name[:48].ljust(48))
            progress.refresh()
    return _say(tried, time.monotonic() - started)


def _say(tried: list[tuple[Guard, Verdict]], seconds: float) -> int:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    table = Table("group", "guards", "noticed", "not noticed", title="Guards removed one at a time")
    for group in (*GROUPS, INFRASTRUCTURE):
        fates = Counter(
            verdict.fate in _IS_GOOD for guard, verdict in tried if guard.group == group
        )
        if fates:
            table.add_row(group, str(fates.total()), str(fates[True]), str(fates[False]))
    console.print(table)
    bad = [(guard, verdict) for guard, verdict in tried if verdict.fate not in _IS_GOOD]
    for guard, verdict in bad:
        console.print(f"\n{guard.name}: {verdict.fate.value} ({verdict.by})")
        console.print(f"  {guard.file} keeps from happening: {guard.what}")
        console.print(f"  again: python -m tests.guards --only {guard.name}")
    console.print(
        f"{len(tried)} guards removed one at a time, {len(tried) - len(bad)} noticed, "
        f"in {seconds / 60:.0f} minutes"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
