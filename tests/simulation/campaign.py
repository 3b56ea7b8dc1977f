"""Runs the simulation: many lives, and of the first that fails the shortest story."""

import argparse
import os
import re
import secrets
import sys
import time
import traceback
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import patch

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.errors import DidNotReproduce
from hypothesis.internal.conjecture.engine import ConjectureRunner
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console

from tests.parallel import in_processes
from tests.progress import progress_bar
from tests.simulation.life import Life
from tests.simulation.machine import Machine
from tests.simulation.reference import Violation


@dataclass
class Result:
    lives: int
    steps: int
    struck: int
    failure: str = ""
    """What failed, in a line; nothing when all is well."""
    traceback: str = ""
    """Where, if what failed is not a rule of the reference."""
    story: tuple[str, ...] = ()
    replay: str = ""

    def told(self) -> str:
        lines = [f"  {place}. {line}" for place, line in enumerate(self.story, 1)]
        command = f"python -m tests.simulation.campaign --replay {self.replay}"
        return "\n".join(
            ["The shortest story that fails:", *lines, f"Replay it: {command}", self.traceback]
        ).rstrip()


def _every_life_anew() -> AbstractContextManager[object]:
    """Hypothesis follows each example by five that resemble it; lives had rather be all different.

    Half of a campaign went to them, and they found nothing that the first had not.
    """
    return patch.object(ConjectureRunner, "generate_mutations_from", lambda _self, _data: None)


def campaign(
    lives: int,
    steps: int = 40,
    seed: int | str | None = None,
    replay: str = "",
    *,
    shrink: bool = True,
) -> Result:
    """Lives through the simulation; stops at the first failure and shrinks it."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    wanted = settings(
        max_examples=lives,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=True,
        phases=[Phase.reuse, Phase.explicit, *phases],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    machine: type[Machine] = type("Machine", (Machine,), {})
    if replay:
        machine = hypothesis.reproduce_failure(hypothesis.__version__, replay.encode())(machine)
    elif seed is not None:
        machine = hypothesis.seed(seed)(machine)
    Life.lives = Life.steps = Life.struck = 0
    Life.story_of_failure = []
    failure: BaseException | None = None
    try:
        with _every_life_anew():
            run_state_machine_as_test(machine, settings=wanted)
    except DidNotReproduce:
        pass  # what an earlier failure printed does not fail any more
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the campaign found
        failure = error
    notes = " ".join(getattr(failure, "__notes__", ()))
    blob = re.search(r"reproduce_failure\('[^']*', b'([^']*)'\)", notes)
    return Result(
        Life.lives,
        Life.steps,
        Life.struck,
        _cause(failure) if failure else "",
        "".join(traceback.format_exception(failure))
        if failure and not isinstance(failure, Violation)
        else "",
        tuple(Life.story_of_failure) if failure else (),
        blob[1] if blob else replay,
    )


def _cause(failure: BaseException) -> str:
    cause = failure.__cause__ or failure
    return f"{type(cause).__name__}: {cause}"


LIVES_A_SHARE = 20
"""How many lives a process lives through at a time; each share has a seed of its own."""


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.campaign",
        description="Lives through many simulated worlds, and tells the shortest story of the "
        "first that fails. Ctrl-C ends it early: what was lived until then is reported.",
    )
    parser.add_argument("--lives", type=int, default=100, help="how many worlds are lived through")
    parser.add_argument("--steps", type=int, default=40, help="how many steps each has at most")
    parser.add_argument("--seed", type=int, help="the same seed, the same lives (default: any)")
    parser.add_argument("--replay", default="", help="what an earlier failure printed")
    parser.add_argument("--long", action="store_true", help="leave a story as long as it is found")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time")
    asked = parser.parse_args(words)
    began = time.monotonic()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    lives = 0 if asked.replay else asked.lives
    if asked.replay:
        total = campaign(1, asked.steps, replay=asked.replay, shrink=not asked.long)
    else:
        shares = [
            (min(LIVES_A_SHARE, lives - first), asked.steps, f"{seed}/{first}", not asked.long)
            for first in range(0, lives, LIVES_A_SHARE)
        ]
        total = _live_all(shares, asked.processes)
    if total.failure:
        print(total.told())
    took = timedelta(seconds=round(time.monotonic() - began))
    lived = f"{total.steps:,} steps in {total.lives:,} lives with {total.struck:,} faults"
    of_seed = "" if asked.replay else f" of seed {seed}"
    print(f"{lived}{of_seed} in {took}, {1 if total.failure else 0} violations")
    return 1 if total.failure or total.lives < lives else 0


Share = tuple[int, int, str, bool]
"""Lives that one process lives through, their steps and seed, and whether a story is shrunk."""


def _live(share: Share) -> Result:
    lives, steps, seed, shrink = share
    return campaign(lives, steps, seed, shrink=shrink)


def _live_all(shares: list[Share], processes: int) -> Result:
    """All shares, or those up to the first that fails."""
    console = Console(stderr=True)
    total = Result(0, 0, 0)
    with progress_bar(console) as bar, suppress(KeyboardInterrupt):
        task = bar.add_task("lives", total=sum(lives for lives, *_ in shares))
        for found in in_processes(_live, shares, processes):
            for count in ("lives", "steps", "struck"):
                setattr(found, count, getattr(found, count) + getattr(total, count))
            total = found
            bar.update(task, completed=total.lives)
            if total.failure:
                break
    return total


if __name__ == "__main__":
    sys.exit(main())
