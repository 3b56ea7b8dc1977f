"""What the local console's own server answers, and what it reads of a stack to do so."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from chalicelib.api import console as pages
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Contention, Unreadable
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.plans import AllocateOn, Plan, PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, SubscriptionStatus
from infra.deployment import packaging
from infra.local import tokens
from infra.local.console import reference, server
from infra.local.console import world as worlds
from infra.local.console.world import MOST_MAILS, World
from infra.local.events import Heard
from infra.local.stacks import LocalStack
from tests.registered import register

Json = dict[str, Any]
NOW = datetime(2026, 6, 30, 22, tzinfo=UTC)
API = "http://127.0.0.1:4000/_aws/execute-api/abc/v1"
STACK = SimpleNamespace(api_url=API, stage="local", issuer="http://issuer")
JSON = {"Content_Type": "application/json"}


class Clock:
    """A clock that stands, and notes where it was sent."""

    def __init__(self) -> None:
        self.moved: list[datetime] = []

    def now(self) -> datetime:
        return NOW

    def move(self, to: datetime) -> None:
        self.moved.append(to)


class Shown:
    """In place of what the server reads of a stack: it says what it was asked."""

    def users(self) -> list[str]:
        return ["a user"]

    def opens_on(self) -> str:
        return "zoë"

    def turn(self, period: Period) -> Json:
        return {"turned": str(period)}

    def queues(self) -> Json:
        return {"queues": []}

    def mails(self, user_id: str | None) -> Json:
        return {"of": user_id}

    def mail(self, message_id: str) -> str | None:
        return "<p>Grüße" if message_id == "m 1" else None


class Served:
    def __init__(self, url: str, stage: Any) -> None:
        self.url = url
        self.stage = stage

    def ask(
        self, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET" if body is None else "POST", path, body, named)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def json(self, path: str, document: object = None) -> tuple[int, Any]:
        body = None if document is None else json.dumps(document).encode()
        status, _, text = self.ask(path, body, **({} if body is None else JSON))
        return status, json.loads(text)


@pytest.fixture
def served() -> Iterator[Served]:
    clock: Any = Clock()
    stage = SimpleNamespace(
        stack=STACK,
        heard=Heard(),
        clock=clock,
        mover=server.Mover(clock),
        world=Shown(),
        page_policy="the policy",
    )
    with server.console() as running:
        running.stage = cast("server._Stage", stage)
        yield Served(running.url, stage)


def test_the_page_is_told_its_stack_and_where_to_call(served: Served) -> None:
    status, headers, text = served.ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    told = {"product": "Credits", "stage": "local", "api": API}
    assert text.decode() == pages.page_with(told)
    status, stack = served.json("/local/stack")
    assert (status, stack["api_url"], stack["stage"]) == (200, API, "local")
    assert (stack["users"], stack["opens_on"]) == (["a user"], "zoë")
    assert {"Europe/Paris", "Pacific/Kiritimati"} <= set(stack["zones"])
    assert served.json("/local/queues") == (200, {"queues": []})


def test_every_answer_says_what_it_may_load_and_that_nobody_keeps_it(served: Served) -> None:
    nothing = "default-src 'none'"
    for path, policy in (
        ("/", "the policy"),
        ("/docs/", "the policy"),
        ("/docs", "the policy"),
        ("/console/main.js", "the policy"),
        ("/local/clock", nothing),
        ("/nothing", nothing),
        (
            "/local/mail?id=m+1",
            "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'",
        ),
    ):
        status, headers, body = served.ask(path)
        assert status == (404 if path == "/nothing" else 200), path
        assert {
            "content-security-policy": policy,
            "content-length": str(len(body)),
            "cross-origin-resource-policy": "same-origin",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        }.items() <= headers.items(), path


def test_files_are_served_from_one_folder_and_ours_before_the_deployed_consoles(
    served: Served,
) -> None:
    for name, kind in (
        ("main.js", "text/javascript; charset=utf-8"),
        ("session.js", "text/javascript; charset=utf-8"),
        ("local.css", "text/css; charset=utf-8"),
    ):
        status, headers, body = served.ask(f"/console/{name}")
        ours = packaging.ROOT / "infra" / "local" / "console" / name
        assert (status, headers["content-type"], body) == (200, kind, ours.read_bytes())
    assert served.ask("/console/api.js")[2] == (pages.FILES / "api.js").read_bytes()
    for path in (
        "/main.js",
        "/console/server.py",
        "/console/index.html",
        "/console/%2e%2e/main.js",
    ):
        assert served.json(path) == (404, {"detail": "there is no such file"})
    assert served.json("/local/nothing") == (404, {"detail": "there is no such route"})


def test_before_the_stack_is_up_it_says_so_and_how_one_learns_of_it() -> None:
    with server.console() as running:
        early = Served(running.url, None)
        assert running.origins == (running.url, running.url.replace("127.0.0.1", "localhost"))
        status, headers, text = early.ask("/")
        assert (status, headers["content-type"]) == (503, "text/plain; charset=utf-8")
        assert b"The stack is not up yet." in text
        assert early.json("/local/stack") == (503, {"detail": "the stack is not up yet"})


def test_a_month_an_email_and_a_users_emails_are_those_that_were_asked_for(served: Served) -> None:
    assert served.json("/local/turn?period=2026-02") == (200, {"turned": "2026-02"})
    assert served.json("/local/turn") == (200, {"turned": "2026-07"}), "it began in Kiritimati"
    served.stage.mover._way = (NOW, NOW + timedelta(days=40))
    assert served.json("/local/turn") == (200, {"turned": "2026-08"}), (
        "where the clock is bound for"
    )
    status, wrong = served.json("/local/turn?period=2026-13")
    assert (status, "period" in wrong["detail"]) == (400, True)
    assert served.json("/local/mails?user_id=a%20b") == (200, {"of": "a b"})
    assert served.json("/local/mails") == (200, {"of": None})
    assert served.ask("/local/mail?id=m+1")[2].decode() == "<p>Grüße"
    assert served.json("/local/mail?id=m2") == (404, {"detail": "there is no such email"})
    assert served.json("/local/mail")[0] == 404


def test_events_are_those_of_a_user_or_of_all(served: Served) -> None:
    for user_id, name in (("1", "credits.used"), ("2", "credits.exhausted")):
        detail = {"id": user_id, "user_id": user_id, "number": 1, "posted_at": user_id}
        served.stage.heard.take({"detail-type": name, "detail": detail})
    status, of_one = served.json("/local/events?user_id=1")
    assert status == 200
    assert of_one["events"] == [
        {
            "name": "credits.used",
            "is_crossing": False,
            "id": "1",
            "user_id": "1",
            "number": 1,
            "posted_at": "1",
        }
    ]
    of_all = served.json("/local/events")[1]["events"]
    assert [(each["id"], each["is_crossing"]) for each in of_all] == [("2", True), ("1", False)]


def test_the_clock_is_moved_where_it_is_sent_and_once_at_a_time(served: Served) -> None:
    at = "2026-07-01T00:00:00Z"
    for more in ({}, {"timezone": "America/New_York"}):
        status, moving = served.json("/local/clock", {"to": "next 1st", **more})
        assert (status, moving["now"]) == (202, "2026-06-30T22:00:00Z")
        for thread in threading.enumerate():
            if thread.name == "clock":
                thread.join(10)
    assert served.stage.clock.moved == [datetime(2026, 7, 1, hour, tzinfo=UTC) for hour in (0, 4)]
    stands = {"now": "2026-06-30T22:00:00Z", "moving": None, "failure": None}
    assert served.json("/local/clock") == (200, stands)
    for body, field in (
        ({"to": at, "timezone": "Mars/Base"}, "timezone"),
        ({"to": at, "more": 1}, "more"),
        ({"to": "2026-01-01T00:00:00Z"}, "to"),
        ({}, "to"),
        ([], "body"),
    ):
        status, said = served.json("/local/clock", body)
        assert (status, field in said["detail"]) == (400, True), body
    served.stage.mover._way = (NOW, NOW + timedelta(days=1))
    status, said = served.json("/local/clock", {"to": "next midnight", "timezone": "Asia/Tokyo"})
    assert (status, said["detail"][:30]) == (409, "the clock is moving already; w")
    assert len(served.stage.clock.moved) == 2


def test_the_way_of_the_clock_is_never_shown_as_less_than_nothing_or_more_than_all() -> None:
    mover = server.Mover(cast("Any", Clock()))
    hour = timedelta(hours=1)
    for began, to, done in (
        (NOW + hour, NOW + 2 * hour, 0.0),
        (NOW - 2 * hour, NOW - hour, 1.0),
        (NOW - hour, NOW + 2 * hour, 0.3333),
    ):
        mover._way = (began, to)
        assert mover.state()["moving"]["done"] == done
        assert mover.heading_for() == to


def test_a_token_is_made_for_the_user_the_scopes_and_the_time_that_were_asked_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def issue(*asked: object) -> str:
        return json.dumps(asked)

    monkeypatch.setattr(tokens, "issue", issue)
    for body, scope, seconds in (
        ({"user_id": "ada"}, "credits:read credits:use", 3600),
        ({"user_id": "ada", "scope": "credits:admin"}, "credits:admin", 3600),
        ({"user_id": "ada", "seconds": 0}, "credits:read credits:use", 0),
        ({"user_id": "ada", "seconds": -86_400}, "credits:read credits:use", -86_400),
        ({"user_id": "ada", "seconds": 86_400}, "credits:read credits:use", 86_400),
    ):
        asked = json.dumps(["http://issuer", "ada", scope, seconds])
        found = served.json("/local/token", body)
        assert found == (200, {"access_token": asked, "expires_in": seconds})
    for field, value in (
        ("seconds", 86_401),
        ("seconds", -86_401),
        ("seconds", True),
        ("seconds", 1.5),
        ("scope", "credits:read root"),
        ("scope", 5),
        ("user_id", ""),
        ("more", 1),
    ):
        status, said = served.json("/local/token", {"user_id": "ada", field: value})
        assert (status, field in said["detail"]) == (400, True), (field, value)

    def no_issuer(*_: object) -> str:
        raise tokens.TokenError("no issuer")

    monkeypatch.setattr(tokens, "issue", no_issuer)
    assert served.json("/local/token", {"user_id": "ada"}) == (503, {"detail": "no issuer"})


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"user_id": "ada"}', {"Content_Type": "text/plain"}),
        (b'{"user_id": "ada"}', {}),
        (b'{"to": "' + b"x" * 16_384 + b'"}', {"Content_Type": "application/json"}),
        (b"{}", {"Content_Type": "application/json", "Content_Length": "x"}),
    ],
)
def test_what_a_page_could_send_unasked_or_nobody_should_is_not_read(
    served: Served, body: bytes, headers: dict[str, str]
) -> None:
    status, answered, text = served.ask("/local/token", body, **headers)
    assert (status, b"the body must be JSON, sent with" in text) == (400, True)
    with pytest.raises(KeyError):
        answered["connection"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 16_000])
def test_what_is_no_json_is_refused_in_words(served: Served, body: bytes) -> None:
    status, _, text = served.ask("/local/token", body, Content_Type="application/json")
    assert (status, b"the body must be JSON (" in text) == (400, True)


def test_a_body_that_is_not_read_ends_the_connection(served: Served) -> None:
    """Or its bytes would be taken for the next request."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    connection.request("POST", "/local/token", b"GET /local/clock HTTP/1.1\r\n\r\n")
    assert connection.sock is not None
    with connection.sock.makefile("rb") as answers:
        assert answers.read().count(b"HTTP/1.1 ") == 1
    connection.close()


def test_the_largest_body_is_taken(served: Served) -> None:
    body = b'{"to": "' + b"x" * (16 * 1024 - 10) + b'"}'
    assert len(body) == 16 * 1024
    status, _, text = served.ask("/local/clock", body, Content_Type="application/json")
    assert (status, b"next midnight" in text) == (400, True)


def test_a_stack_is_shown_while_it_is_there_and_its_ticks_run_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[str] = []
    ticked = threading.Event()

    class Soon(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(timeout and timeout / 1000)

    @contextmanager
    def hearing(stack: object) -> Iterator[Heard]:
        assert stack is STACK
        yield Heard()
        kept.append("not heard any more")

    class Due(Clock):
        def is_tick_due(self) -> bool:
            ticked.set()
            return False

    clock = Due()
    quick = SimpleNamespace(Event=Soon, Thread=threading.Thread, Lock=threading.Lock)
    monkeypatch.setattr(server, "threading", quick)
    monkeypatch.setattr(server, "hearing", hearing)
    monkeypatch.setattr(server, "LocalClock", lambda _: clock)
    monkeypatch.setattr(server, "World", lambda *given: given)
    running = server.Console()
    with running, running.showing(cast("LocalStack", STACK)) as shown:
        assert shown is cast("Any", clock)
        stage = cast("Any", running.stage)
        assert (stage.stack, stage.world) == (STACK, (STACK, clock))
        assert "connect-src 'self' http://127.0.0.1:4000;" in stage.page_policy
        assert ticked.wait(10)
    assert running.stage is None
    assert kept == ["not heard any more"]
    assert "keeper" not in {thread.name for thread in threading.enumerate()}


def test_a_browser_that_went_away_is_no_news_and_another_error_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with server.Console() as running:
        for error in (
            ConnectionResetError("reset"),
            BrokenPipeError("broken"),
            ValueError("told"),
            OSError("disk"),
        ):
            try:
                raise error
            except (OSError, ValueError):
                running.handle_error(None, ("127.0.0.1", 1))
    said = capfd.readouterr()
    assert [word in said.err for word in ("reset", "broken", "told", "disk")] == [
        False,
        False,
        True,
        True,
    ]


# --- What is read of a stack ----------------------------------------------------------------------

CATALOGUE = PlanCatalogue(
    (
        Plan("first", "First", 100, Days(30), lowest=True),
        Plan("own", "Own", 70, Days(30), lowest=False, allocate_on=AllocateOn.ANNIVERSARY),
    )
)
JULY = Period(2026, 7)


def user(user_id: str, timezone: str = "Europe/Paris", **changes: object) -> Subscription:
    values = {
        "user_id": user_id,
        "email": f"{user_id}@example.com",
        "timezone": timezone,
        "plan": "first",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-05-15T12:00:00Z",
    }
    made = register(values, CATALOGUE, datetime(2026, 5, 15, 12, tzinfo=UTC))
    return replace(made, **changes)  # type: ignore[arg-type]


class Ledgers:
    """Ledgers with balances and grants; some cannot be read."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.grants: dict[str, list[tuple[Period, int]]] = {}
        self.broken: set[str] = set()
        self.read: list[str] = []

    def account(self, user_id: str) -> Any:
        self._check(user_id)
        balance = self.balances.get(user_id, 0)
        return SimpleNamespace(available_balance=lambda now: balance if now == NOW else -1)

    def history(self, user_id: str, limit: int) -> list[Any]:
        assert limit == 100
        self.read.append(user_id)
        self._check(user_id)
        return [
            SimpleNamespace(begins_period=begins, allocated_through=period, amount=granted)
            for period, amount in self.grants.get(user_id, [])
            for begins, granted in ((True, amount), (False, 1))
        ]

    def _check(self, user_id: str) -> None:
        if user_id in self.broken:
            raise Unreadable("ledger", user_id, "tampered")


class Reading:
    """A world over users, ledgers, queues and an outbox of a test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *users: Subscription) -> None:
        self.users = {each.user_id: each for each in users}
        self.ledgers = Ledgers()
        self.counts = {"sweeps": (2, 1), "sweeps-dlq": (3, 0), "stream-dlq": (0, 4)}
        self.counts |= {"expiries": (0, 0), "expiries-dlq": (0, 0)}
        self.queues = {name: f"http://{name}" for name in self.counts}
        self.sent: list[Json] = []
        self.times: dict[str, str] = {}
        self.moment = 0.0
        self.asked = 0
        subscriptions = SimpleNamespace(
            get_many=lambda ids: {name: self.users[name] for name in ids}, find=self.users.get
        )
        services = SimpleNamespace(
            catalogue=CATALOGUE, subscriptions=subscriptions, ledger=self.ledgers
        )
        monkeypatch.setattr(worlds, "services_of_local", lambda _: services)
        monkeypatch.setattr(worlds, "readable", lambda found: found)
        monkeypatch.setattr(worlds, "time", SimpleNamespace(monotonic=lambda: self.moment))
        monkeypatch.setattr(worlds.outbox, "sent_mails", self._mails)  # type: ignore[attr-defined]
        monkeypatch.setattr(worlds.outbox, "sent_at", lambda _: dict(self.times))  # type: ignore[attr-defined]
        clock: Any = SimpleNamespace(now=lambda: NOW, user_ids=lambda: [*self.users])
        self.world = World(cast("LocalStack", self), clock)

    def client(self, _service: str) -> Any:
        return self

    def _mails(self, _: object) -> list[Json]:
        self.asked += 1
        return list(self.sent)

    def get_send_quota(self) -> Json:
        return {"SentLast24Hours": float(len(self.sent))}

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Json:  # noqa: N803
        counts = self.counts[urlsplit(QueueUrl).netloc]
        return {"Attributes": dict(zip(AttributeNames, map(str, counts), strict=True))}

    def send(self, message_id: str, *to: str) -> None:
        self.sent.append(
            {
                "MessageId": message_id,
                "To": list(to),
                "Subject": f"Über {message_id}",
                "BodyHtml": f"<p>{message_id}",
                "BodyText": "text",
            }
        )


Make = Any


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda *users: Reading(monkeypatch, *users)


def test_users_who_can_receive_come_first_and_then_the_shorter_ids(reading: Make) -> None:
    paused = {"status": SubscriptionStatus.PAUSED}
    read = reading(user("10"), user("b"), user("9"), user("1", **paused), user("a"))
    assert [each["user_id"] for each in read.world.users()] == ["9", "a", "b", "10", "1"]
    assert read.world.users()[-1] == {"user_id": "1", "timezone": "Europe/Paris", "plan": "first"}
    read.users["2"] = user("2")
    read.moment = 2.0
    assert len(read.world.users()) == 5
    read.moment = 2.1
    assert read.world.users()[0]["user_id"] == "2"


def test_the_console_opens_on_the_first_user_with_credits_or_else_on_the_first(
    reading: Make,
) -> None:
    assert reading().world.opens_on() is None
    read = reading(*(user(str(number)) for number in range(200)))
    read.ledgers.balances = {"199": 1}
    assert read.world.opens_on() == "199"
    read.ledgers.balances = {}
    assert read.world.opens_on() == "0"
    read.ledgers.balances = {"15": 1, "17": 5, "3": 5}
    read.ledgers.broken = {"3"}
    assert read.world.opens_on() == "15"


def test_the_turn_of_a_month_shows_each_instant_who_is_due_and_what_has_landed(
    reading: Make,
) -> None:
    read = reading(
        user("1"),
        user("2", "Europe/Berlin"),
        user("3", "Pacific/Kiritimati"),
        user("4", plan="gone"),
        user("5", "America/New_York"),
        user("6", plan="own"),
    )
    read.ledgers.grants = {
        "2": [(JULY.previous(), 7)],
        "3": [(JULY.previous(), 7), (JULY, 400)],
    }
    read.ledgers.broken = {"1"}
    turn = read.world.turn(JULY)
    assert [turn[name] for name in ("period", "previous", "next", "now")] == [
        "2026-07",
        "2026-06",
        "2026-08",
        "2026-06-30T22:00:00Z",
    ]
    instants = [each["at"] for each in turn["instants"]]
    assert instants == sorted(instants)
    assert instants[0] == "2026-06-30T10:00:00Z"
    by_instant = {each["at"]: each for each in turn["instants"]}
    kiritimati = by_instant["2026-06-30T10:00:00Z"]
    assert (kiritimati["places"], kiritimati["more_places"]) == (["Pacific/Kiritimati"], 0)
    assert [kiritimati[f"{what}_due"] for what in ("users", "credits")] == [1, 100]
    assert [kiritimati[f"{what}_landed"] for what in ("users", "credits")] == [1, 400]
    paris = by_instant["2026-06-30T22:00:00Z"]
    assert (paris["has_passed"], paris["users_due"], paris["users_landed"]) == (True, 2, 0)
    assert paris["credits_due"] == 200
    assert (len(paris["places"]), paris["more_places"] > 20) == (4, True)
    of_its_own = by_instant["2026-07-14T22:00:00Z"]
    assert (of_its_own["users_due"], of_its_own["credits_due"]) == (1, 70)
    assert of_its_own["places"] == ["Europe/Paris"]
    assert set(paris["places"][:2]) == {"Europe/Paris", "Europe/Berlin"}
    new_york = by_instant["2026-07-01T04:00:00Z"]
    assert (new_york["has_passed"], new_york["users_due"]) == (False, 1)
    assert "5" not in read.ledgers.read, "nothing has landed there yet"
    read.ledgers.grants["2"].append((JULY, 500))
    read.ledgers.read.clear()
    again = {each["at"]: each for each in read.world.turn(JULY)["instants"]}
    assert again["2026-06-30T22:00:00Z"]["credits_landed"] == 500
    assert "3" not in read.ledgers.read, "what has landed is not read again"

    def throttled(_user_id: str, limit: int) -> Any:
        raise Contention(f"try again: {limit}")

    read.ledgers.history = throttled
    with pytest.raises(Contention):
        read.world.turn(JULY)


def test_queues_are_shown_with_what_waits_is_hidden_and_is_dead(reading: Make) -> None:
    assert reading().world.queues() == {
        "queues": [
            {"name": "sweeps", "waiting": 3, "dead": 3},
            {"name": "stream", "waiting": None, "dead": 4},
            {"name": "expiries", "waiting": 0, "dead": 0},
        ]
    }


def test_emails_are_shown_newest_first_of_one_user_or_of_all(reading: Make) -> None:
    read = reading(user("1", email="Zoe@Example.com"), user("2"))
    read.send("m1", "zoe@example.com")
    read.send("m2", "2@example.com", "zoe@EXAMPLE.com")
    read.send("m3", "2@example.com")
    read.times = {"m1": "2026-06-01T00:00:00Z"}
    assert read.world.mails("1") == {
        "total": 2,
        "mails": [
            {
                "id": "m2",
                "to": ["2@example.com", "zoe@EXAMPLE.com"],
                "subject": "Über m2",
                "sent_at": None,
            },
            {
                "id": "m1",
                "to": ["zoe@example.com"],
                "subject": "Über m1",
                "sent_at": "2026-06-01T00:00:00Z",
            },
        ],
    }
    assert [mail["id"] for mail in read.world.mails(None)["mails"]] == ["m3", "m2", "m1"]
    assert read.world.mails("nobody") == {"total": 0, "mails": []}
    assert (read.world.mail("m2"), read.world.mail("m9")) == ("<p>m2", None)
    assert read.asked == 1, "the outbox is read again only when more was sent"
    read.times["m2"] = "2026-06-02T00:00:00Z"
    read.send("m4", "2@example.com")
    shown = read.world.mails(None)["mails"]
    assert [mail["id"] for mail in shown] == ["m4", "m3", "m2", "m1"]
    assert shown[2]["sent_at"] == "2026-06-02T00:00:00Z"
    for number in range(MOST_MAILS):
        read.send(f"n{number}", "2@example.com")
    every = read.world.mails(None)
    assert every["total"] == MOST_MAILS + 4
    assert [mail["id"] for mail in every["mails"]] == [f"n{n}" for n in range(MOST_MAILS)][::-1]


# --- The page of the API --------------------------------------------------------------------------


def test_the_page_of_the_api_has_an_index_and_leads_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "api.md"
    file.write_text(
        "# The API & more\n\n## GET /a/{id}\n\n### Not <in> it\n\n"
        "[own](#get-aid), [out](mails.md) and [own too](#the-api--more)\n\n"
        "## Last: Ü & x\n\n| a |\n|---|\n| b |\n\n```\ncode\n```\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(reference, "PAGE", file)
    text = reference.page.__wrapped__().decode()
    index, _, main = text.partition("</nav>")
    assert index.partition('Contents">\n')[2] == (
        '<a href="#get-aid">GET /a/{id}</a>\n<a href="#last-ü--x">Last: Ü &amp; x</a>\n'
    )
    assert '<h1 id="the-api--more">The API &amp; more</h1>' in main
    assert '<h3 id="not-in-it">' in main
    assert '<p><a href="#get-aid">own</a>, out and <a href="#the-api--more">own too</a></p>' in main
    assert '<table tabindex="0">' in main
    assert '<pre tabindex="0"><code>code' in main
