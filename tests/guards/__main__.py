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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .guard import GROUPS, Guard, LostGuardError, listed
from .infrastructure import found
from .runner import Fate, Verdict, copied_tree, preload, without_guard, without_removal

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
        return _run(chosen, options.among)
    except LostGuardError as error:
        _error.print(f"error: {error}", soft_wrap=True)
        return 1


def _run(guards: list[Guard], among: list[str] | None) -> int:
    for guard in guards:
        guard.removed()  # raises here what would be raised half an hour later
    console = Console(stderr=True)
    started = time.monotonic()
    verdicts: list[tuple[Guard, Verdict]] = []
    preload()
    with copied_tree() as tree, _progress(console) as progress:
        named = among or sorted({test for guard in guards for test in guard.tests})
        task = progress.add_task("the tests as they are", total=len(guards))
        progress.refresh()
        as_it_is = without_removal(tree, named)
        if as_it_is.fate is not Fate.NOT_NOTICED:
            _error.print(f"error: the tests fail as they are: {as_it_is.by}", soft_wrap=True)
            return 1
        for guard in guards:
            progress.update(task, description=guard.name[:48].ljust(48))
            progress.refresh()
            verdict = without_guard(tree, guard, among or guard.tests)
            verdicts.append((guard, verdict))
            if verdict.fate not in _IS_GOOD or not console.is_terminal:
                console.print(
                    f"{guard.name}: {verdict.fate.value} {verdict.by}",
                    highlight=False,
                    soft_wrap=True,
                )
            progress.advance(task)
            progress.refresh()
    return _say(verdicts, time.monotonic() - started)


def _progress(console: Console) -> Progress:
    # Refreshed by hand: a thread that draws would be in the middle of something at each fork.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        auto_refresh=False,
    )


def _say(verdicts: list[tuple[Guard, Verdict]], seconds: float) -> int:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    table = Table("group", "guards", "noticed", "not noticed", title="Guards removed one at a time")
    for group in (*GROUPS, INFRASTRUCTURE):
        fates = Counter(
            verdict.fate in _IS_GOOD for guard, verdict in verdicts if guard.group == group
        )
        if fates:
            table.add_row(group, str(fates.total()), str(fates[True]), str(fates[False]))
    console.print(table)
    bad = [(guard, verdict) for guard, verdict in verdicts if verdict.fate not in _IS_GOOD]
    for guard, verdict in bad:
        console.print(f"\n{guard.name}: {verdict.fate.value} ({verdict.by})")
        console.print(f"  {guard.file} keeps from happening: {guard.what}")
        console.print(f"  again: python -m tests.guards --only {guard.name}")
    console.print(
        f"{len(verdicts)} guards removed one at a time, {len(verdicts) - len(bad)} noticed, "
        f"in {seconds / 60:.0f} minutes"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
