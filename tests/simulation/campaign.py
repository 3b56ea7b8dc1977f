"""Runs the simulation: many lives, and of the first that fails the shortest story.

python -m tests.simulation.campaign [--lives 100] [--steps 40] [--seed 1] [--replay BLOB]
"""

import argparse
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import patch

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.errors import DidNotReproduce
from hypothesis.internal.conjecture.engine import ConjectureRunner
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.life import Life
from tests.simulation.machine import Machine
from tests.simulation.reference import Violation


@dataclass
class Result:
    """What came of a campaign."""

    lives: int
    steps: int
    struck: int
    seconds: float
    failure: BaseException | None = None
    story: tuple[str, ...] = ()
    replay: str = ""

    def told(self) -> str:
        """The story of the failure, for people."""
        lines = [f"  {place}. {line}" for place, line in enumerate(self.story, 1)]
        command = f"python -m tests.simulation.campaign --replay {self.replay}"
        return "\n".join(["The shortest story that fails:", *lines, f"Replay it: {command}"])


def _every_life_anew() -> AbstractContextManager[object]:
    """Hypothesis follows each example by five that resemble it; lives had rather be all different.

    Half of a campaign went to them, and they found nothing that the first had not.
    """
    return patch.object(ConjectureRunner, "generate_mutations_from", lambda _self, _data: None)


def campaign(
    lives: int,
    steps: int = 40,
    seed: int | None = None,
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
    began = time.perf_counter()
    failure: BaseException | None = None
    try:
        with _every_life_anew():
            run_state_machine_as_test(machine, settings=wanted)
    except DidNotReproduce:
        pass  # what an earlier failure printed does not fail any more
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the campaign found
        failure = error
    seconds = time.perf_counter() - began
    notes = " ".join(getattr(failure, "__notes__", ()))
    blob = re.search(r"reproduce_failure\('[^']*', b'([^']*)'\)", notes)
    return Result(
        Life.lives,
        Life.steps,
        Life.struck,
        seconds,
        failure,
        tuple(Life.story_of_failure) if failure else (),
        blob[1] if blob else replay,
    )


def main() -> int:
    """Reads the command line; the exit status: 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=100, help="how many worlds are lived through")
    parser.add_argument("--steps", type=int, default=40, help="how many steps each has at most")
    parser.add_argument("--seed", type=int, default=None, help="the same seed, the same lives")
    parser.add_argument("--replay", default="", help="what an earlier failure printed")
    parser.add_argument("--long", action="store_true", help="leave a story as long as it is found")
    asked = parser.parse_args()
    with _progress(asked.lives):
        result = campaign(asked.lives, asked.steps, asked.seed, asked.replay, shrink=not asked.long)
    if result.failure is not None:
        print(result.told())
        if not isinstance(result.failure, Violation):
            traceback.print_exception(result.failure)
    took = timedelta(seconds=round(result.seconds))
    lived = f"{result.steps:,} steps in {result.lives:,} lives with {result.struck:,} faults"
    print(f"{lived} in {took}, {0 if result.failure is None else 1} violations")
    return 0 if result.failure is None else 1


@contextmanager
def _progress(lives: int) -> Iterator[None]:
    """Within the block, a bar on a terminal shows how many lives there have been."""
    if not sys.stdout.isatty():
        yield
        return
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("lives", total=lives)
        with patch.object(Life, "born", staticmethod(lambda: bar.advance(task))):
            yield


if __name__ == "__main__":
    sys.exit(main())
