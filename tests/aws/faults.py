"""Faults below botocore: no production code knows of them.

A call to AWS can be observed, killed before it happens, or killed after it happened so that its
answer is lost. A kill is a `BaseException`: like a process that dies, it is caught by nobody, and
whatever the process would have done after it is not done either.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSPreparedRequest
from moto.core.models import botocore_stubber

from chalicelib.services import Services


class Killed(BaseException):
    """The process died here."""


@dataclass
class Faults:
    """Watches the AWS calls of some services, and kills at one of them if told to.

    ``kill_at`` counts calls from 0; ``after`` lets that call happen first and loses its answer.
    """

    kill_at: int | None = None
    after: bool = False
    calls: list[str] = field(default_factory=list)
    dead: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def on(self, services: Services) -> Iterator[None]:
        """Watches the clients of these services within the block."""
        clients = (services._connection.client, services.queues._client)
        for client in clients:
            client.meta.events.register_first("before-send.*.*", self._before_send)
        try:
            yield
        finally:
            for client in clients:
                client.meta.events.unregister("before-send.*.*", self._before_send)

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> Any:
        with self._lock:
            if self.dead:
                raise Killed
            place = len(self.calls)
            self.calls.append(event_name.removeprefix("before-send."))
            if place != self.kill_at:
                return None
            self.dead = True
            if self.after:
                botocore_stubber(event_name, request)
            raise Killed
