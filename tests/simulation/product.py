"""The product in a process of its own, so that its memory can be measured.

AWS in memory, which keeps everything, is in the other one: each call to it goes there through a
pipe, from below botocore.
"""

import gc
import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError

from chalicelib.domain.errors import Contention, CreditsError
from infra.faults import FAULTS
from tests.crashes.world import functions
from tests.simulation import aws
from tests.simulation.aws import Call, Json, Refused
from tests.simulation.drawn import PLANS
from tests.simulation.faults import Killed
from tests.simulation.world import Context, World, simulated


class Broken(Exception):
    """An invocation raised what no handler of ours should raise."""


class Product:
    """The process, as seen from the other one."""

    def __init__(self, world: World, zones: Sequence[str], users_a_page: int) -> None:
        self.world = world
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        arguments = (other, tuple(zones), users_a_page)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        other.close()

    @contextmanager
    def running(self) -> Iterator["Product"]:
        """Within the block every function of ``app.py`` is invoked there."""
        import app

        def invoker(attribute: str) -> Any:
            def invoke(event: Json, context: Context) -> Any:
                milliseconds = context.get_remaining_time_in_millis()
                return self._ask("invoke", attribute, event, milliseconds, self.world.clock)

            return invoke

        with ExitStack() as stack:
            stack.callback(self._stop)
            for attribute in functions():
                stack.enter_context(patch.object(app, attribute, invoker(attribute)))
            yield self

    def memory(self) -> int:
        size: int = self._ask("memory")
        return size

    def _stop(self) -> None:
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
            return "answer", self.world.aws.answer(call)
        except (Refused, BotoCoreError, Killed) as error:
            return "raised", error


@dataclass
class _Far(aws.Services):
    """AWS at the other end of a pipe."""

    pipe: Connection | None = None

    def answer(self, call: Call) -> Json:
        assert self.pipe is not None
        self.pipe.send(("call", call))
        kind, value = self.pipe.recv()
        if kind == "raised":
            raise value
        answer: Json = value
        return answer


def _serve(pipe: Connection, zones: tuple[str, ...], users_a_page: int) -> None:
    import app

    world = World(plans=PLANS)
    world.aws = _Far(pipe=pipe)
    with (
        simulated(zones, users_a_page),
        # What failed comes back at once, so that one seed is one story.
        patch("chalicelib.jobs.records.FIRST_DELAY", 0),
        patch("chalicelib.jobs.records.delay_of", lambda *_: 0),
        patch("chalicelib.jobs.events.delay_of", lambda *_: 0),
        world.running(),
    ):
        while question := pipe.recv():
            if question[0] == "memory":
                gc.collect()
                pipe.send(("answer", resident()))
                continue
            _, attribute, event, milliseconds, now = question
            aws.refill_retries()
            world.now = now
            invoke = partial(getattr(app, attribute), event, Context(milliseconds))
            pipe.send(_outcome(world, attribute, invoke))


def _outcome(world: World, attribute: str, invoke: Callable[[], Any]) -> tuple[str, object]:
    try:
        return "answer", invoke()
    except Killed as error:
        world.restart()
        return "raised", error
    except (CreditsError, *FAULTS) as error:
        return "raised", Contention(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - the other process tells of it
        return "raised", Broken(f"{attribute}: {type(error).__name__}: {error}")


def resident() -> int:
    """The bytes this process has in memory; where nobody says so, the most it ever had."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
