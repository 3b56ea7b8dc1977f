"""Every place where something from outside is read. A test compares this list with the code."""

from tests.fuzz.engine import Target
from tests.fuzz.handlers import HANDLERS, staged
from tests.fuzz.readers import READERS

TARGETS: dict[str, Target] = {target.name: target for target in (*READERS, *HANDLERS)}


def shares(executions: int, targets: list[Target]) -> dict[str, int]:
    """How many of so many executions each target gets; together they are exactly so many."""
    whole = sum(target.share for target in targets)
    given: dict[str, int] = {}
    before = done = 0
    for target in targets:
        done += target.share
        end = executions * done // whole
        given[target.name], before = end - before, end
    return given


__all__ = ["TARGETS", "shares", "staged"]
