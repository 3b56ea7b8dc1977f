"""Makes every small mistake in the product, one at a time: do the tests notice?

    python -m tests.mutants                                    all of chalicelib/
    python -m tests.mutants chalicelib/api infra/build.py      those of a folder or a file
    python -m tests.mutants --sample 200                       that many, drawn from all
    python -m tests.mutants clients/typescript                 the client's, tried by its own tests

Exit status 0: of the ledger, in domain/ and store/, at least 95 of 100 are noticed, and each of the
others is explained in survivors.toml; of all else, the client too, at least 85 of 100 are noticed.
Otherwise 1, with what to do about it.
"""

import argparse
import os
import random
import resource
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rich.console import Console

from tests.mutants import typescript
from tests.mutants.mutations import PRODUCT, Mutant, mutants_of
from tests.mutants.plan import MAPPED, prepared
from tests.mutants.runner import Fate, try_all
from tests.progress import progress_bar

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
LEDGER = ("chalicelib/domain/", "chalicelib/store/")
"""Where credits can be lost or doubled: there no mistake may pass without a reason."""

LEAST_KILLED = 0.95
LEAST_KILLED_ELSEWHERE = 0.85
"""Many mistakes elsewhere are in the wording of a message, or noticed by slower tests only."""

Key = tuple[str, str, str]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Makes every small mistake in the product, one at a time, and says which of "
        "them no test notices.",
    )
    parser.add_argument("places", nargs="*", help=f"files and folders (default: {PRODUCT})")
    parser.add_argument("--sample", type=int, help="try this many, drawn from all of them")
    parser.add_argument("--write", help="write the survivors to this file, ready to be explained")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    if options.places and options.places[0].startswith(typescript.CLIENT):
        return _of_client(options)
    files = []
    for place in options.places or [PRODUCT]:
        found = files_of(place)
        if not found or place.partition("/")[0] not in MAPPED:
            print(f"error: {place} is no Python of {' or '.join(MAPPED)}", file=sys.stderr)
            return 2
        files += found
    mutants = _sample(mutants_of(ROOT, files), options.sample)
    print(f"{len(mutants)} mutants; first, which test runs which line ...", file=sys.stderr)
    return _run(mutants, try_all(prepared(ROOT), mutants), options.write, SURVIVORS)


def _of_client(options: argparse.Namespace) -> int:
    files = [file for place in options.places for file in typescript.files_of(ROOT, place)]
    if not files or not (ROOT / typescript.CLIENT / "node_modules").exists():
        print(f"error: no such file; or no `npm ci` in {typescript.CLIENT} yet", file=sys.stderr)
        return 2
    client = typescript.Client(ROOT, files)
    mutants = _sample(client.mutants, options.sample)
    return _run(mutants, client.try_all(mutants), options.write, typescript.SURVIVORS)


def _sample(mutants: list[Mutant], size: int | None) -> list[Mutant]:
    if not size or size >= len(mutants):
        return mutants
    return sorted(random.Random(1).sample(mutants, size), key=mutants.index)


def files_of(place: str) -> list[str]:
    path = ROOT / place
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.is_file() else []
    return [str(file.relative_to(ROOT)) for file in found]


def explained(file: Path = SURVIVORS) -> dict[Key, str]:
    listed = tomllib.loads(file.read_text(encoding="utf-8")).get("survivors", [])
    return {(one["function"], one["before"], one["after"]): one["why"] for one in listed}


def _run(
    mutants: list[Mutant], tried: Iterable[tuple[Mutant, Fate]], write: str | None, reasons: Path
) -> int:
    started = time.monotonic()
    console = Console(stderr=True)
    fates: dict[str, Counter[Fate]] = {mutant.file: Counter() for mutant in mutants}
    survivors: list[Mutant] = []
    with progress_bar(console) as progress:
        task = progress.add_task("mutants", total=len(mutants))
        for mutant, fate in tried:
            fates[mutant.file][fate] += 1
            if fate is Fate.SURVIVED:
                survivors.append(mutant)
            progress.advance(task)
    if write:
        Path(write).write_text("".join(_toml(survivors)), encoding="utf-8")
    is_right = _report_survivors(mutants, survivors, reasons)
    is_sharp = _report_shares(fates)
    minutes = (time.monotonic() - started) / 60
    print(f"took {minutes:.0f} minutes, and {_cpu_minutes():.0f} of CPU")
    return 0 if is_right and is_sharp else 1


def _report_survivors(mutants: list[Mutant], survivors: list[Mutant], reasons: Path) -> bool:
    """Prints each survivor without a reason; whether those of the ledger all have one."""
    known = explained(reasons)
    noticed = {mutant.key for mutant in mutants} - {mutant.key for mutant in survivors}
    stale = [key for key in known if key in noticed]
    unexplained = [mutant for mutant in survivors if mutant.key not in known]
    for mutant in unexplained:
        print(f"noticed by no test: {mutant.file}, line {mutant.first_line}, {mutant.function}")
        print(f"  - {mutant.before}\n  + {mutant.after}\n")
    for function, before, after in stale:
        print(f"explained, but a test notices it: {function}\n  - {before}\n  + {after}\n")
    wrong = [mutant for mutant in unexplained if mutant.file.startswith(LEDGER)]
    if wrong or stale:
        print(
            f"{len(wrong)} survivors of {' and '.join(LEDGER)} have no reason: write a test for "
            f"each, or explain it in {reasons.relative_to(ROOT)}.\n"
        )
    return not (wrong or stale)


def _report_shares(fates: Mapping[str, Counter[Fate]]) -> bool:
    """Prints how many are noticed, in all and by file; whether these are enough."""
    of_ledger, elsewhere = Counter[Fate](), Counter[Fate]()
    for file, counts in fates.items():
        (of_ledger if file.startswith(LEDGER) else elsewhere).update(counts)
        print(f"{file}: {_words(counts)}")
    is_sharp = True
    for where, counts, least in (
        ("of the ledger", of_ledger, LEAST_KILLED),
        ("elsewhere", elsewhere, LEAST_KILLED_ELSEWHERE),
    ):
        if counts:
            print(f"{where}: {_words(counts)}; at least {least:.0%} must be")
            is_sharp = is_sharp and _share(counts) >= least
    return is_sharp


def _share(counts: Counter[Fate]) -> float:
    """The share of mutants that a test notices; all of none."""
    return 1 - counts[Fate.SURVIVED] / max(1, counts.total())


def _cpu_minutes() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used) / 60


def _words(counts: Counter[Fate]) -> str:
    return (
        f"{counts.total():,} mutants: {counts[Fate.KILLED]:,} killed, "
        f"{counts[Fate.TIMED_OUT]:,} ran out of time, {counts[Fate.SURVIVED]:,} survived "
        f"({_share(counts):.1%} noticed)"
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
