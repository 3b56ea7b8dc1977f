"""The Django project that the example `clients/python/examples/leads` is tested in.

To import this sets Django up, which takes a while: import it where its tests run.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import django
import httpx
import pytest
from credits_client import Credits, CreditsError
from django.conf import settings

T = TypeVar("T")

settings.configure(
    SECRET_KEY="none",  # noqa: S106 - nothing is signed
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "leads"],
    # Their tables are made from the models: their migrations take a second.
    MIGRATION_MODULES={"auth": None, "contenttypes": None},
    # A file, because a database in memory does not survive that its connection is closed.
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "set by make_database",
            # No test cuts the power: nothing has to reach the disk.
            "OPTIONS": {"init_command": "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import RequestFactory
from leads import views
from leads.models import Lead, Unlock
from leads.unlocking import finish, unlock

PRICE = 10
GRANTED = 25
QUIET = {"stdout": io.StringIO(), "stderr": io.StringIO()}


class Killed(BaseException):
    """The process ends here; nothing of it catches this."""


@dataclass(frozen=True)
class Moment:
    """Just ``before`` or ``after`` a step of a worker, which is the ``place``-th."""

    place: int
    when: str


@dataclass(frozen=True)
class Failure:
    """What happens at a moment.

    ``how``: the process is ``killed``; or it lives and is told of a failure, because the connection
    to Credits or to the database is ``lost``.
    """

    moment: Moment
    how: str

    def __call__(self, moment: Moment, name: str) -> None:
        if moment != self.moment:
            return
        if name == "commit" or self.how == "killed":
            connection.close()  # what is not committed is rolled back
        if self.how == "killed":
            raise Killed
        raise OperationalError("lost") if name == "commit" else httpx.ReadError("lost")


def nothing(_moment: Moment, _name: str) -> None:
    """What happens at most moments."""


@dataclass
class Steps:
    """What a worker does to the outside, in order: its calls of Credits, and its commits."""

    happens: Callable[[Moment, str], None] = nothing
    taken: list[str] = field(default_factory=list)

    def take(self, name: str, do: Callable[[], T]) -> T:
        """Takes a step, with what happens before and after it."""
        place = len(self.taken)
        self.taken.append(name)
        self.happens(Moment(place, "before"), name)
        answer = do()
        self.happens(Moment(place, "after"), name)
        return answer


class Watched(httpx.BaseTransport):
    """A transport whose requests are steps."""

    def __init__(self, inner: httpx.BaseTransport, shop: "Shop") -> None:
        self._inner = inner
        self._shop = shop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = "hold" if request.url.path.endswith("/holds") else request.url.path.split("/")[-1]
        return self._shop.steps.take(name, lambda: self._inner.handle_request(request))


@dataclass
class Shop:
    """A product that sells leads, and the eyes and hands of its tests.

    ``seen`` asks Credits without being a step. ``grant`` gives a user credits, ``pass_time`` moves
    the clock of Credits, which ``clock`` tells.
    """

    seen: Credits
    grant: Callable[[str, int], None]
    clock: Callable[[], datetime]
    pass_time: Callable[[timedelta], None]
    steps: Steps = field(default_factory=Steps)

    def arrival(self, granted: int = GRANTED) -> "Visit":
        """A user who has credits, on the page of a lead."""
        user = User.objects.create(username=f"user {User.objects.count()}")
        self.grant(str(user.pk), granted)
        lead = Lead.objects.create(title="Roof, 120 m²", contact="+49 30 5550 100", price=PRICE)
        return Visit(self, user, lead)

    def work(self, what: Callable[[], Any], failure: Failure | None = None) -> list[str]:
        """Lets a worker do something, which a failure may end; the steps it has taken."""
        self.steps = Steps(failure or nothing)
        if failure is None:
            what()
        else:
            with contextlib.suppress(Killed, OperationalError, CommandError, CreditsError):
                what()
        return self.steps.taken

    def reconcile(
        self, failure: Failure | None = None, after: timedelta = timedelta(minutes=5)
    ) -> list[str]:
        """Runs the command after some time; the steps it has taken."""
        self.pass_time(after)
        return self.work(lambda: call_command("finish_unlocks", **QUIET), failure)


@dataclass
class Visit:
    """A user and a lead that they may unlock."""

    shop: Shop
    user: Any
    lead: Any

    def press(self, failure: Failure | None = None) -> list[str]:
        """Presses the button; the steps that were taken."""
        return self.shop.work(lambda: unlock(self.user, self.lead), failure)

    def press_while(self, other: Callable[[], Any], moment: Moment) -> None:
        """Presses the button; at a moment, another worker does something."""

        def happens(now: Moment, _name: str) -> None:
            if now == moment:
                mine = self.shop.steps
                self.shop.work(other)
                self.shop.steps = mine

        self.shop.steps = Steps(happens)
        unlock(self.user, self.lead)

    def finish(self) -> None:
        """What another worker does to the row, if there is one by now."""
        for row in self.rows():
            finish(row)

    def ask(self) -> tuple[int, Any]:
        """Presses the button of the page: the status, and what the answer says."""
        request = RequestFactory().post("/")
        request.user = self.user
        answer = views.unlock_lead(request, self.lead.pk)
        return answer.status_code, json.loads(answer.content)

    def rows(self) -> list[Any]:
        return list(Unlock.objects.filter(user=self.user, lead=self.lead))

    @property
    def state(self) -> str | None:
        """Of the row; None if there is none."""
        for row in self.rows():
            return str(row.state)
        return None

    @property
    def paid(self) -> list[int]:
        """The amount of each charge."""
        return [-line.amount for line in self.shop.seen.history(self.user.pk, type="usage")]

    @property
    def held(self) -> int:
        """How many credits are set aside."""
        return self.shop.seen.balance(self.user.pk).held_balance

    def outcome(self) -> tuple[str | None, list[int], int]:
        """The state, the charges, and what is still held."""
        return self.state, self.paid, self.held


def make_database(file: Path) -> None:
    """Makes the tables, in an empty file."""
    connection.close()
    connection.settings_dict["NAME"] = str(file)
    call_command("migrate", run_syncdb=True, verbosity=0)


@contextlib.contextmanager
def opened(
    file: Path,
    transport: httpx.BaseTransport,
    grant: Callable[[str, int], None],
    clock: Callable[[], datetime],
    pass_time: Callable[[timedelta], None],
) -> Iterator[Shop]:
    """A shop whose Credits is behind a transport; a request is sent once."""
    make_database(file)
    address = "http://app"
    with pytest.MonkeyPatch.context() as patch, httpx.Client(transport=transport) as http:
        shop = Shop(Credits(address, "backend", http=http), grant, clock, pass_time)
        commit = connection.commit
        patch.setattr(connection, "commit", lambda: shop.steps.take("commit", commit))
        patch.setattr("django.utils.timezone.now", clock)
        with httpx.Client(transport=Watched(transport, shop)) as watched:
            client = Credits(address, "backend", http=watched, attempts=1)
            patch.setattr("leads.unlocking.client", lambda: client)
            yield shop
    connection.close()
