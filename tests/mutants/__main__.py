"""Makes every small mistake in the domain and the store, one at a time: do the tests notice?

    python -m tests.mutants                                    all of them
    python -m tests.mutants chalicelib/domain/batches.py       those of a file

Exit status 0: at least 95 of 100 are noticed, and of those that are not each is explained in
survivors.toml. Otherwise 1, with what to do about it.
"""

import argparse
import os
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tests.mutants.mutations import Mutant, mutants_of
from tests.mutants.runner import Fate, prepared, try_all
from tests.progress import progress_bar

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
LEAST_KILLED = 0.95
Key = tuple[str, str, str, str]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; answers its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Makes every small mistake in the domain and the store, one at a time, and "
        "says which of them no test notices.",
    )
    parser.add_argument("files", nargs="*", help="files to look at (default: domain and store)")
    parser.add_argument("--write", help="write the survivors to this file, ready to be explained")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    files = options.files or all_files()
    for file in files:
        if file not in all_files():
            print(f"error: {file} is no file of the domain or the store", file=sys.stderr)
            return 2
    return _run(files, options.write, is_whole=not options.files)


def all_files() -> list[str]:
    """The files that mistakes are made in."""
    product = ROOT / "chalicelib"
    rooms = [path for room in ("domain", "store") for path in sorted((product / room).glob("*.py"))]
    return [str(path.relative_to(ROOT)) for path in (*rooms, product / "plans_file.py")]


def explained() -> dict[Key, str]:
    """The survivors that are explained, and why they survive."""
    listed = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivors", [])
    return {
        (one["file"], one["function"], one["before"], one["after"]): one["why"] for one in listed
    }


def _run(files: list[str], write: str | None, *, is_whole: bool) -> int:
    mutants = [mutant for file in files for mutant in mutants_of(ROOT, file)]
    started = time.monotonic()
    console = Console(stderr=True)
    fates: dict[str, Counter[Fate]] = {file: Counter() for file in files}
    survivors: list[Mutant] = []
    console.print(f"{len(mutants)} mutants; first, which test runs which line ...")
    with prepared(ROOT) as plan, progress_bar(console) as progress:
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
    here = {mutant.key for mutant in survivors}
    stale = [key for key in known if key[0] in files and key not in here]
    for mutant in unexplained:
        print(f"noticed by no test: {mutant.file}, line {mutant.first_line}, {mutant.function}")
        print(f"  - {mutant.before}\n  + {mutant.after}\n")
    for key in stale:
        print(f"explained, but there is no such survivor: {key[0]}, {key[1]}")
        print(f"  - {key[2]}\n  + {key[3]}\n")
    if unexplained or stale:
        print(f"Write a test for each, or explain it in {SURVIVORS.relative_to(ROOT)}.\n")
    for file, counts in fates.items():
        if len(files) > 1 and counts:
            print(f"{file}: {_words(counts)}")
    counts = sum(fates.values(), Counter[Fate]())
    share = 1 - counts[Fate.SURVIVED] / max(1, len(mutants))
    minutes = (time.monotonic() - started) / 60
    is_bad = bool(unexplained or stale or (is_whole and share < LEAST_KILLED))
    print(
        f"{_words(counts)} ({len(survivors) - len(unexplained)} of them explained); "
        f"{share:.1%} noticed, in {minutes:.0f} minutes"
    )
    return 1 if is_bad else 0


def _words(counts: Counter[Fate]) -> str:
    return (
        f"{counts.total():,} mutants: {counts[Fate.KILLED]:,} killed, "
        f"{counts[Fate.TIMED_OUT]:,} ran out of time, {counts[Fate.SURVIVED]:,} survived"
    )


def _toml(survivors: list[Mutant]) -> Iterator[str]:
    for mutant in survivors:
        yield "[[survivors]]\n"
        for name, value in zip(("file", "function", "before", "after"), mutant.key, strict=True):
            quoted = f"'''{value}'''" if "'" in value else f"'{value}'"
            yield f"{name} = {quoted}\n"
        yield 'why = ""\n\n'


if __name__ == "__main__":
    sys.exit(main())
