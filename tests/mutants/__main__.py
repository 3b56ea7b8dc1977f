"""Makes every small mistake in the product, one at a time: do the tests notice?

    python -m tests.mutants                                    all of chalicelib/
    python -m tests.mutants chalicelib/api infra/build.py      those of a folder or a file
    python -m tests.mutants --sample 200                       that many, drawn from all

Exit status 0: at least 95 of 100 are noticed, and of those that are not each is explained in
survivors.toml. Otherwise 1, with what to do about it.
"""

import argparse
import os
import random
import resource
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tests.mutants.mutations import PRODUCT, Mutant, mutants_of
from tests.mutants.plan import MAPPED, prepared
from tests.mutants.runner import Fate, try_all
from tests.progress import progress_bar

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
LEAST_KILLED = 0.95
Key = tuple[str, str, str]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Makes every small mistake in the product, one at a time, and says which of "
        "them no test notices.",
    )
    parser.add_argument("places", nargs="*", help=f"files and folders (default: {PRODUCT})")
    parser.add_argument("--sample", type=int, help="try so many, drawn from all of them")
    parser.add_argument("--write", help="write the survivors to this file, ready to be explained")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    files = []
    for place in options.places or [PRODUCT]:
        found = files_of(place)
        if not found or place.partition("/")[0] not in MAPPED:
            print(f"error: {place} is no Python of {' or '.join(MAPPED)}", file=sys.stderr)
            return 2
        files += found
    mutants = mutants_of(ROOT, files)
    if options.sample and options.sample < len(mutants):
        mutants = sorted(random.Random(1).sample(mutants, options.sample), key=mutants.index)
    return _run(mutants, options.write)


def files_of(place: str) -> list[str]:
    path = ROOT / place
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.is_file() else []
    return [str(file.relative_to(ROOT)) for file in found]


def explained() -> dict[Key, str]:
    listed = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivors", [])
    return {(one["function"], one["before"], one["after"]): one["why"] for one in listed}


def _run(mutants: list[Mutant], write: str | None) -> int:
    started = time.monotonic()
    console = Console(stderr=True)
    fates: dict[str, Counter[Fate]] = {mutant.file: Counter() for mutant in mutants}
    survivors: list[Mutant] = []
    console.print(f"{len(mutants)} mutants; first, which test runs which line ...")
    plan = prepared(ROOT)
    with progress_bar(console) as progress:
        task = progress.add_task("mutants", total=len(mutants))
        for mutant, fate in try_all(plan, mutants):
            fates[mutant.file][fate] += 1
            if fate is Fate.SURVIVED:
                survivors.append(mutant)
            progress.advance(task)
    if write:
        Path(write).write_text("".join(_toml(survivors)), encoding="utf-8")
    known = explained()
    unexplained = [mutant for mutant in survivors if mutant.key not in known]
    noticed = {mutant.key for mutant in mutants} - {mutant.key for mutant in survivors}
    stale = [key for key in known if key in noticed]
    for mutant in unexplained:
        print(f"noticed by no test: {mutant.file}, line {mutant.first_line}, {mutant.function}")
        print(f"  - {mutant.before}\n  + {mutant.after}\n")
    for function, before, after in stale:
        print(f"explained, but a test notices it: {function}\n  - {before}\n  + {after}\n")
    if unexplained or stale:
        print(f"Write a test for each, or explain it in {SURVIVORS.relative_to(ROOT)}.\n")
    for file, counts in fates.items():
        if len(fates) > 1:
            print(f"{file}: {_words(counts)}")
    counts = sum(fates.values(), Counter[Fate]())
    share = 1 - counts[Fate.SURVIVED] / max(1, len(mutants))
    minutes = (time.monotonic() - started) / 60
    print(
        f"{_words(counts)} ({len(survivors) - len(unexplained)} of them explained); "
        f"{share:.1%} noticed, in {minutes:.0f} minutes and {_cpu_minutes():.0f} of CPU"
    )
    return 1 if unexplained or stale or share < LEAST_KILLED else 0


def _cpu_minutes() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used) / 60


def _words(counts: Counter[Fate]) -> str:
    return (
        f"{counts.total():,} mutants: {counts[Fate.KILLED]:,} killed, "
        f"{counts[Fate.TIMED_OUT]:,} ran out of time, {counts[Fate.SURVIVED]:,} survived"
    )


def _toml(survivors: list[Mutant]) -> Iterator[str]:
    for mutant in survivors:
        yield "[[survivors]]\n"
        for name, value in zip(("function", "before", "after"), mutant.key, strict=True):
            quoted = f"'''{value}'''" if "'" in value else f"'{value}'"
            yield f"{name} = {quoted}\n"
        yield 'why = ""\n\n'


if __name__ == "__main__":
    sys.exit(main())
