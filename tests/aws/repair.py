"""The hands of the repair commands' tests: a command line that reaches the world of a test."""

import io
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from chalicelib.messages.work import SweepKind
from chalicelib.settings import STILL_A_SHADOW
from infra import reach
from infra.reach import Reach
from tests.aws.world import World, client

QUEUES = ("sweeps", "allocations", "expiries", "notifications")

TICKS = {"allocation-tick": SweepKind.ALLOCATION, "expiry-tick": SweepKind.EXPIRY}

SENDER = "queue-notifications"

Main = Callable[[list[str] | None], int]


class Ran(NamedTuple):
    """What a person at a terminal saw of a command."""

    status: int
    said: str
    printed: str

    @property
    def facts(self) -> dict[str, Any]:
        """What `--json` printed."""
        facts: dict[str, Any] = json.loads(self.printed)
        return facts


class CtrlC:
    """The first piece of work of a pool is Ctrl-C; the next waits until the pool knows of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        self.begun: list[object] = []
        self._is_known = is_known = Event()

        class Pool(ThreadPoolExecutor):
            def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
                super().shutdown(wait=False, cancel_futures=cancel_futures)
                is_known.set()
                super().shutdown(wait=wait)

        monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)

    def work(self, element: object) -> Any:
        """In place of what the pool does for an element."""
        self.begun.append(element)
        if len(self.begun) == 1:
            self._is_known.clear()
            raise KeyboardInterrupt
        assert self._is_known.wait(10)


class Functions:
    """In place of a client of Lambda: the ticks of a world, by their short names."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[dict[str, Any]] = []

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        event = json.loads(Payload)
        self.events.append(event)
        now = self.world.now
        answer = self.world.tick(TICKS[FunctionName], **event)
        self.world.now = now
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}

    def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        """Of the function that sends events: what the stage's template tells it."""
        assert FunctionName == SENDER
        settings = self.world.settings
        variables = {
            "EVENTS_QUEUE_URL": settings.events_queue_url,
            "LOW_BALANCE": str(settings.low_balance),
            "SHADOW_UNTIL": "on" if settings.shadow_until == STILL_A_SHADOW else "off",
        }
        return {"Environment": {"Variables": variables}}


class Terminal:
    """Runs commands against a world; ``answer`` is what the person types, None: nobody is there.

    ``account`` and ``caller`` are what AWS says of them. ``shadow``: the parameter of the stack;
    None for a stack of an earlier release.
    """

    def __init__(
        self, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.world = world
        self.functions = Functions(world)
        self.answer: str | None = None
        self.account: str | None = None
        self.caller = ""
        self.shadow: str | None = "off"
        self._stage = ""
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        names = (*QUEUES, *(f"{name}-dlq" for name in QUEUES), "ledger-stream-dlq")
        self._queues = {name: world.queue_url(name) for name in names}
        monkeypatch.setattr(reach, "reach", self._reach)
        monkeypatch.setenv("COLUMNS", "200")

    def run(self, main: Main, *words: str) -> Ran:
        """Runs a command."""
        keyboard = io.StringIO("" if self.answer is None else f"{self.answer}\n")
        setattr(keyboard, "isatty", lambda: self.answer is not None)  # noqa: B010
        self._monkeypatch.setattr(sys, "stdin", keyboard)
        self._capsys.readouterr()  # what the world's own functions have logged
        status = main(list(words))
        shown = self._capsys.readouterr()
        return Ran(status, shown.err, shown.out)

    def refused(self, main: Main, *words: str) -> str:
        """What argparse says to a command line that it cannot read."""
        with pytest.raises(SystemExit):
            main(list(words))
        return self._capsys.readouterr().err

    def _reach(self, stage: str, _region: str | None) -> Reach:
        self._stage = stage
        functions = {name: name for name in (*TICKS, SENDER)}
        return Reach(
            *(stage, self.world.services, functions, self._queues, self._client),
            *(self.account, self.caller),
        )

    def _client(self, service: str, **_: object) -> Any:
        if service == "cloudformation":  # moto's needs a package that we have no other use for
            return SimpleNamespace(describe_stacks=self._describe_stacks)
        return self.functions if service == "lambda" else client(service)

    def _describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        assert StackName == f"credits-{self._stage}"
        parameters = {} if self.shadow is None else {"Shadow": self.shadow}
        described = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ]
        stack = {"StackName": StackName, "StackStatus": "UPDATE_COMPLETE", "Parameters": described}
        return {"Stacks": [stack]}
