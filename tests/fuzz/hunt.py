"""Tries a target: its seeds, what is one change away from them, and what Hypothesis makes of it."""

import traceback
from dataclasses import dataclass
from itertools import chain

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings

from tests.fuzz.handlers import HANDLERS, staged
from tests.fuzz.hostile import hostile, neighbours
from tests.fuzz.readers import READERS
from tests.fuzz.stripe import STRIPE
from tests.fuzz.target import Amiss, Input, Target, attempt

TARGETS = {target.name: target for target in (*READERS, *STRIPE, *HANDLERS)}
"""Every place where something from outside is read. A test compares this list with the code."""


@dataclass
class Found:
    """What became of the inputs of a target; ``given``: the one that failed, made small."""

    target: str
    executions: int = 0
    accepted: int = 0
    failure: str = ""
    given: Input = None


def hunt(target: Target, every: int, examples: int, seed: int = 1) -> Found:
    """Tries every so many inputs that are one change away, and so many examples of Hypothesis.

    It ends at the first that fails: Hypothesis makes it small, the others are small.
    """
    found = Found(target.name)

    def check(hostile_input: Input) -> None:
        found.executions += 1
        found.given = hostile_input
        found.accepted += attempt(target, hostile_input)

    try:
        for each in chain(target.seeds, neighbours(target, seed % every, every)):
            check(each)
        wanted = settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
        )
        hypothesis.seed(seed)(wanted(given(hostile(target))(check)))()
    except Amiss as error:
        found.failure = "".join(traceback.format_exception(error.__cause__))
    return found


def hunt_for(asked: tuple[str, int, int, int]) -> Found:
    """The same by a target's name, for a process of its own."""
    name, *more = asked
    with staged():
        return hunt(TARGETS[name], *more)
