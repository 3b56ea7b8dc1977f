"""The console's own small server, for the local stack only.

It serves the page of a stack's console with two more tabs, and everything that the public API does
not offer: tokens of the local issuer, the local clock, the queues, the outbox, the events. For
credits the page calls the API, as any page does.

It listens on loopback. A page of another origin can neither read its answers nor change anything:
`infra/local/guard.py` guards it, and every write must be JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from chalicelib.api import console as pages
from chalicelib.api.principal import Scope
from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.events import CROSSINGS
from chalicelib.domain.fields import FieldReader, parse_user_id
from chalicelib.domain.instants import format_instant
from infra.local import stacks, tokens
from infra.local.clock import STOPPED_BY, LocalClock, parse_moment
from infra.local.console import reference
from infra.local.console.world import World
from infra.local.events import Heard, hearing
from infra.local.guard import GuardedHandler
from infra.local.month import latest_period

FILES = {
    path.name: path
    for folder in (pages.FILES, Path(__file__).parent)
    for path in sorted(folder.iterdir())
    if path.suffix in pages.MEDIA_TYPES and path.name != pages.PAGE
}
"""The page's modules and styles: those of a stack's console, and ours.

Ours replace those with the same name: `main.js` adds two tabs, and `session.js` needs no sign-in.
"""

_NOTHING_ALLOWED = "default-src 'none'"
_LARGEST_REQUEST = 16 * 1024
_TIMEOUT_SECONDS = 30

# Nothing is loaded from other hosts; `{api}` is the address of the public API.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' {api}; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# An email contains its styles, and runs and loads nothing. `sandbox` gives it an origin of its own.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"

Json = dict[str, Any]


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    media_type: str
    body: bytes
    policy: str = _NOTHING_ALLOWED


def _json(document: Json, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(document).encode())


def _refused(status: int, detail: str) -> Answer:
    return _json({"detail": detail}, status)


class Mover:
    """Moves the clock in a thread of its own, and reports its progress."""

    def __init__(self, clock: LocalClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._way: tuple[datetime, datetime] | None = None
        self._failure: str | None = None

    def state(self) -> Json:
        """The clock, its target, and the error that stopped it the last time."""
        way, now = self._way, self._clock.now()
        moving = None
        if way is not None:
            done = (now - way[0]) / (way[1] - way[0])
            moving = {"to": format_instant(way[1]), "done": round(min(max(done, 0.0), 1.0), 4)}
        return {"now": format_instant(now), "moving": moving, "failure": self._failure}

    def start(self, to: datetime) -> bool:
        """Starts moving; False if it is moving already."""
        with self._lock:
            if self._way is not None:
                return False
            self._way, self._failure = (self._clock.now(), to), None
        threading.Thread(target=self._arrive, args=(to,), daemon=True, name="clock").start()
        return True

    def heading_for(self) -> datetime:
        """The clock's target while it moves, or else its time."""
        way = self._way
        return self._clock.now() if way is None else way[1]

    def keep_up(self) -> None:
        """Runs the ticks of every quarter of an hour, as the schedule would."""
        if self._way is None and self._clock.is_tick_due():
            self._move(self._clock.now())

    def _arrive(self, to: datetime) -> None:
        try:
            self._move(to)
        finally:
            self._way = None

    def _move(self, to: datetime) -> None:
        try:
            self._clock.move(to)
        except STOPPED_BY as error:
            self._failure = f"the clock stopped on its way: {error}"


class _Stage:
    """The stack that the page shows, with its clock and readers."""

    def __init__(self, stack: stacks.LocalStack, heard: Heard) -> None:
        self.stack = stack
        self.heard = heard
        self.clock = LocalClock(stack)
        self.mover = Mover(self.clock)
        self.world = World(stack, self.clock)
        parts = urlsplit(stack.api_url)
        self.page_policy = _PAGE_POLICY.format(api=f"{parts.scheme}://{parts.netloc}")


class Console(ThreadingHTTPServer):
    """The server. It has an address before the stack starts: the API must know its origin."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # A browser treats the two names as different origins.
        self.origins = (self.url, f"http://localhost:{self.server_port}")
        self.stage: _Stage | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores browsers that left in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @contextmanager
    def showing(self, stack: stacks.LocalStack) -> Iterator[LocalClock]:
        """Shows a stack during the block, and runs its ticks; yields the stack's clock."""
        with hearing(stack) as heard:
            stage = self.stage = _Stage(stack, heard)
            ended = threading.Event()

            def keep_time() -> None:
                while not ended.wait(1):
                    stage.mover.keep_up()

            keeper = threading.Thread(target=keep_time, daemon=True, name="keeper")
            keeper.start()
            try:
                yield stage.clock
            finally:
                self.stage = None
                ended.set()
                keeper.join()


@contextmanager
def console() -> Iterator[Console]:
    """Runs a console. It is empty until it gets a stack."""
    with Console() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# --- Routes ---------------------------------------------------------------------------------------

Query = dict[str, str]


def _stack(stage: _Stage, _: Query) -> Answer:
    return _json(
        {
            "api_url": stage.stack.api_url,
            "stage": stage.stack.stage,
            "zones": calendar.zone_names(),
            "users": stage.world.users(),
            "opens_on": stage.world.opens_on(),
        }
    )


def _clock(stage: _Stage, _: Query) -> Answer:
    return _json(stage.mover.state())


def _turn(stage: _Stage, query: Query) -> Answer:
    asked = query.get("period")
    # While the clock moves, the month that it turns.
    period = Period.parse(asked) if asked else latest_period(stage.mover.heading_for())
    return _json(stage.world.turn(period))


def _queues(stage: _Stage, _: Query) -> Answer:
    return _json(stage.world.queues())


def _mails(stage: _Stage, query: Query) -> Answer:
    return _json(stage.world.mails(query.get("user_id")))


def _events(stage: _Stage, query: Query) -> Answer:
    user_id = query.get("user_id")
    heard = stage.heard.latest() if user_id is None else stage.heard.of(user_id)
    return _json(
        {
            "events": [
                {
                    "name": event["detail-type"],
                    "is_crossing": event["detail-type"] in CROSSINGS,
                    **event["detail"],
                }
                for event in heard
            ]
        }
    )


def _mail(stage: _Stage, query: Query) -> Answer:
    html = stage.world.mail(query.get("id", ""))
    if html is None:
        return _refused(404, "there is no such email")
    return Answer(200, pages.MEDIA_TYPES[".html"], html.encode(), _MAIL_POLICY)


def _move_clock(stage: _Stage, body: object) -> Answer:
    fields = FieldReader(body)
    timezone = fields.optional("timezone", calendar.parse_timezone) or "UTC"
    to = fields.required("to", lambda _, value: parse_moment(value, stage.clock.now(), timezone))
    fields.finish()
    if not stage.mover.start(to):
        return _refused(409, "the clock is moving already; wait until it has arrived")
    return _json(stage.mover.state(), 202)


def _make_token(stage: _Stage, body: object) -> Answer:
    fields = FieldReader(body)
    user_id = fields.required("user_id", parse_user_id)
    scope = fields.optional("scope", _parse_scopes) or tokens.DEFAULT_SCOPES
    seconds = fields.optional("seconds", _parse_seconds)
    fields.finish()
    lifetime = tokens.DEFAULT_SECONDS if seconds is None else seconds
    try:
        token = tokens.issue(stage.stack.issuer, user_id, scope, lifetime)
    except tokens.TokenError as error:
        return _refused(503, str(error))
    return _json({"access_token": token, "expires_in": lifetime})


def _parse_scopes(field: str, value: object) -> str:
    if isinstance(value, str) and value and set(value.split()) <= set(Scope):
        return value
    raise InvalidInput.of(field, f"must be of {', '.join(Scope)}, with spaces between")


def _parse_seconds(field: str, value: object) -> int:
    # A negative number makes an expired token, to see how a page handles it.
    if type(value) is int and abs(value) <= 86_400:
        return value
    raise InvalidInput.of(field, "must be a whole number of at most 86400")


_GET: dict[str, Callable[[_Stage, Query], Answer]] = {
    "/local/stack": _stack,
    "/local/clock": _clock,
    "/local/turn": _turn,
    "/local/queues": _queues,
    "/local/events": _events,
    "/local/mails": _mails,
    "/local/mail": _mail,
}
_POST: dict[str, Callable[[_Stage, object], Answer]] = {
    "/local/clock": _move_clock,
    "/local/token": _make_token,
}


def _page(stage: _Stage | None, policy: str) -> Answer:
    if stage is None:
        words = (
            "The stack is not up yet. What started it says when it is: then load this page again."
        )
        return Answer(503, "text/plain; charset=utf-8", words.encode())
    told = {"product": "Credits", "stage": stage.stack.stage, "api": stage.stack.api_url}
    return Answer(200, pages.MEDIA_TYPES[".html"], pages.page_with(told).encode(), policy)


class _Handler(GuardedHandler, BaseHTTPRequestHandler):
    server: Console
    timeout = _TIMEOUT_SECONDS
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get())

    def do_POST(self) -> None:
        self._answer(self._post())

    def _get(self) -> Answer:
        parts = urlsplit(self.path)
        stage = self.server.stage
        if parts.path.startswith("/local/"):
            return self._routed(_GET.get(parts.path), dict(parse_qsl(parts.query)))
        policy = stage.page_policy if stage else _NOTHING_ALLOWED
        if parts.path == "/":
            return _page(stage, policy)
        if parts.path.rstrip("/") == "/docs":
            return Answer(200, pages.MEDIA_TYPES[".html"], reference.page(), policy)
        folder, _, name = parts.path.rpartition("/")
        file = FILES.get(name) if folder == "/console" else None
        if file is None:
            return _refused(404, "there is no such file")
        return Answer(200, pages.MEDIA_TYPES[file.suffix], file.read_bytes(), policy)

    def _post(self) -> Answer:
        length = self.headers.get("Content-Length", "")
        # To send this type across origins a page must ask first, and we allow no page.
        is_json = self.headers.get("Content-Type") == "application/json"
        if not is_json or not length.isdecimal() or int(length) > _LARGEST_REQUEST:
            self.close_connection = True
            return _refused(400, "the body must be JSON, sent with Content-Type: application/json")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            return _refused(400, f"the body must be JSON ({error})")
        return self._routed(_POST.get(urlsplit(self.path).path), body)

    def _routed(self, route: Callable[[_Stage, Any], Answer] | None, asked: object) -> Answer:
        if route is None:
            return _refused(404, "there is no such route")
        if self.server.stage is None:
            return _refused(503, "the stack is not up yet")
        try:
            return route(self.server.stage, asked)
        except InvalidInput as error:
            return _refused(400, str(error))

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.media_type),
            ("Content-Length", str(len(answer.body))),
            ("Content-Security-Policy", answer.policy),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: the stack's own output is for its user."""
