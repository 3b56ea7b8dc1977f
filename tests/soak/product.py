"""The product in a process of its own, so that its memory can be measured.

AWS in memory, which keeps five years of everything, is in the other one: each call to it goes there
through a pipe, from below botocore.
"""

import gc
import multiprocessing
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError


from tests.crashes.world import CrashingWorld
from tests.simulation import aws
from tests.simulation.aws import Call, Json, Refused
from tests.simulation.faults import Killed
from tests.simulation.world import Context, simulated

USERS_A_PAGE = 200
SHARDS = 1


class Broken(Exception):
    """An invocation raised what no handler of ours should raise."""


class Product:
    """The process, as seen from the other one."""

    def __init__(self, zones: Sequence[str], services: aws.Services) -> None:
        self.aws = services
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, tuple(zones)), daemon=True)
        self._process.start()
        other.close()

    def invoke(self, attribute: str, event: Json, milliseconds: int, clock: datetime) -> Any:
        """What a function of ``app.py`` answers. Raises what it raised, and `Killed`."""
        return self._ask("invoke", attribute, event, milliseconds, clock)

    def memory(self) -> int:
        """Its resident bytes."""
        size: int = self._ask("memory")
        return size

    def stop(self) -> None:
        """Ends the process."""
        self._pipe.send(None)
        self._process.join()
        self._pipe.close()

    def _ask(self, *question: object) -> Any:
        self._pipe.send(question)
        while True:
            kind, value = self._pipe.recv()
            if kind == "answer":
                return value
            if kind == "raised":
                raise value
            self._pipe.send(self._answer(value))

    def _answer(self, call: Call) -> tuple[str, object]:
        try:
            return "answer", self.aws.answer(call)
        except (Refused, BotoCoreError, Killed) as error:
            return "raised", error


@dataclass
class _Far(aws.Services):
    """AWS at the other end of a pipe."""

    pipe: Connection | None = None

    def answer(self, call: Call) -> Json:
        """What AWS answers there."""
        assert self.pipe is not None
        self.pipe.send(("call", call))
        kind, value = self.pipe.recv()
        if kind == "raised":
            raise value
        answer: Json = value
        return answer


def _serve(pipe: Connection, zones: tuple[str, ...]) -> None:
    import app

    world = CrashingWorld()
    world.aws = _Far(pipe=pipe)
    with (
        simulated(zones, USERS_A_PAGE, SHARDS),
        # Nobody reads the metrics: they would be on standard output.
        patch("chalicelib.metrics._write", lambda _: None),
        # What failed in passing comes back at once: an instant is lived through as one.
        patch("chalicelib.jobs.records.FIRST_DELAY", 0),
        # The same of what failed because an item could not be read for a while.
        patch("chalicelib.jobs.records._delay", lambda *_: 0),
        # Each new process would have the one client announce Powertools once more, for good.
        patch("aws_lambda_powertools.shared.user_agent.register_feature_to_client"),
        world.running(),
    ):
        while question := pipe.recv():
            if question[0] == "memory":
                gc.collect()
                pipe.send(("answer", resident()))
                continue
            _, attribute, event, milliseconds, world.now = question
            aws.refill_retries()
            try:
                answer = getattr(app, attribute)(event, Context(milliseconds))
            except Killed as error:
                world.restart()
                pipe.send(("raised", error))
            except Exception as error:  # noqa: BLE001 - the other process decides
                pipe.send(("raised", Broken(f"{attribute}: {type(error).__name__}: {error}")))
            else:
                pipe.send(("answer", answer))


def resident() -> int:
    """The bytes this process has in memory; where nobody says so, the most it ever had."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
