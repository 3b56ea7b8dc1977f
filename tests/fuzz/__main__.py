"""Feeds hostile input to everything that reads input: an error of our own or a valid value.

    python -m tests.fuzz                                       10,000,000 executions
    python -m tests.fuzz --target "message: sweep" --executions 100000
    python -m tests.fuzz --target "message: sweep" --replay 7b7d      (hexadecimal, or a file)

Exit status 0: nothing was found. 1: something was, with the smallest input and how to replay it.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.engine import ROOT, Failure, Result, Target, execute, run
from tests.fuzz.targets import TARGETS, shares, staged
from tests.progress import progress_bar

EXECUTIONS = 10_000_000
LONGEST_HEX = 300
"""Longer inputs are put into a file."""

FOUND = ROOT / "build" / "fuzz"


def main(words: list[str] | None = None) -> int:
    """Reads the command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Feeds hostile input to everything that reads input from outside.",
        epilog="Targets: " + "; ".join(TARGETS),
    )
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help="over all targets")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same inputs")
    parser.add_argument("--target", choices=TARGETS, metavar="NAME", help="this one only")
    parser.add_argument("--replay", metavar="HEX_OR_FILE", help="one input, of --target")
    arguments = parser.parse_args(words)
    if arguments.replay is not None:
        if arguments.target is None:
            parser.error("--replay needs --target")
        try:
            raw = _input(arguments.replay)
        except ValueError:
            parser.error(f"--replay: neither a file nor hexadecimal: {arguments.replay[:40]}")
        return _replay(TARGETS[arguments.target], raw)
    if arguments.executions < len(TARGETS):
        parser.error(f"--executions must be {len(TARGETS)} or more")
    targets = [TARGETS[arguments.target]] if arguments.target else list(TARGETS.values())
    return _run(targets, arguments.executions, arguments.seed)


def _input(text: str) -> bytes:
    path = Path(text)
    return path.read_bytes() if len(text) < 200 and path.is_file() else bytes.fromhex(text)


def _replay(target: Target, raw: bytes) -> int:
    with staged():
        answer = execute(target, target.kind.decode(raw))
    if isinstance(answer, Failure):
        print(answer.error)
        print(f"{target.name}: {answer.where}")
        return 1
    print(f"{target.name}: {'accepted' if answer.is_accepted else 'refused'}, {answer.how}")
    return 0


def _run(targets: list[Target], executions: int, seed: int) -> int:
    results: list[Result] = []
    with staged(), progress_bar(Console(stderr=True), 40) as progress:
        task = progress.add_task("", total=executions)
        for target in targets:
            progress.update(task, description=target.name)
            wanted = shares(executions, targets)[target.name]
            results.append(run(target, wanted, seed, lambda done: progress.advance(task, done)))
    failures = sum(len(result.failures) for result in results)
    Console(width=110).print(_table(results))
    for result in results:
        for failure in result.failures.values():
            _tell(result.target, failure)
    done = sum(result.executions for result in results)
    accepted = sum(result.accepted for result in results)
    print(
        f"{done:,} executions of {len(results)} readers with hostile input ({accepted:,} accepted, "
        f"the others refused): {failures} {'failure' if failures == 1 else 'failures'}"
    )
    return 1 if failures else 0


def _table(results: list[Result]) -> Table:
    table = Table(title="Hostile input")
    table.add_column("target")
    for heading in ("executions", "accepted", "refused", "failures"):
        table.add_column(heading, justify="right")
    for result in results:
        counts = (result.executions, result.accepted, result.refused, len(result.failures))
        table.add_row(result.target.name, *(f"{count:,}" for count in counts))
    return table


def _tell(target: Target, failure: Failure) -> None:
    raw = target.kind.encode(failure.given)
    replay = raw.hex()
    if len(replay) > LONGEST_HEX:
        path = FOUND / f"{hashlib.sha256(raw).hexdigest()[:16]}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        replay = str(path.relative_to(ROOT))
    print(f"\n{target.name}: {failure.where}, {failure.times:,} times")
    print(f"  {failure.error.strip().splitlines()[-1][:200]}")
    print(f"  the smallest input: {raw[:200]!r}")
    print(f'  python -m tests.fuzz --target "{target.name}" --replay {replay}')


if __name__ == "__main__":
    sys.exit(main())
