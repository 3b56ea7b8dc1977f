"""Every entry is told of on the bus, at least once, and no event costs another one."""

import json
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.domain.events import CreditEvent, EventName
from chalicelib.event_bus import EventBus
from chalicelib.observability import SERVICE, correlated
from chalicelib.operations import on_request
from chalicelib.settings import STILL_A_SHADOW
from infra.commands import events
from infra.repair.command import Repair
from tests.aws.bus import Published
from tests.aws.damage import damage_entry, having
from tests.aws.outbox import ses_error
from tests.aws.repair import Terminal
from tests.aws.world import World, at, client
from tests.consumer import consumer
from tests.schemas import delivered, problems_of

THROTTLED = "ThrottlingException"


@pytest.fixture
def world() -> World:
    """A stage that sends events, on which a balance below 20 is low."""
    world = World(low_balance=20)
    world.subscribe()
    return world


def use(world: World, amount: int, key: str) -> None:
    on_request.use_credits(world.services, "1", amount, "Export", caller="shop", key=key)


def used(world: World, times: int) -> list[str]:
    """So many uses of a credit, queued; their messages."""
    for key in range(times):
        use(world, 1, str(key))
    world.queue_mails(world.stream()[-times:])
    return world.take("events")


def identities(world: World) -> Counter[str]:
    return Counter(event.id for event in world.bus.published)


# --- All the way ------------------------------------------------------------------------------


def test_every_entry_is_told_of_on_the_stages_bus_with_its_crossings(world: World) -> None:
    world.grant("1", 50, "a")
    use(world, 35, "b")
    use(world, 15, "c")
    world.grant("1", 20, "d")
    world.queue_mails()
    assert world.publish() == []
    assert world.bus.names() == [
        "credits.adjusted",
        "credits.balance_recovered",
        "credits.used",
        "credits.balance_low",
        "credits.used",
        "credits.exhausted",
        "credits.adjusted",
        "credits.balance_recovered",
    ]
    assert {event.bus for event in world.bus.published} == {"credits-dev"}
    hashes = [item["hash"]["S"] for item in world.lines() if "hash" in item]
    for event in world.bus.published:
        entry = world.history()[event.detail["number"] - 1]
        assert event.detail["hash"] == hashes[entry.number - 1][:12]
        assert event.detail["balance"] == entry.available_balance()
        assert event.time == entry.posted_at
        told = CreditEvent(EventName(event.name), event.time, event.detail)
        assert problems_of(delivered(told)) == []


def test_an_event_and_an_email_can_be_followed_to_the_request_that_made_their_entry(
    world: World,
) -> None:
    with correlated("of-the-request"):
        world.grant("1", 50, "a")
    with correlated("of-the-stream"):
        world.queue_mails()
    bodies = [*world.take("events"), *world.take("notifications")]
    assert [json.loads(body)["correlation_id"] for body in bodies] == ["of-the-request"] * 3


def test_a_stage_that_sends_no_events_queues_none() -> None:
    world = World()
    world.subscribe()
    world.grant("1", 50, "a")
    world.queue_mails()
    assert world.take("events") == []
    assert len(world.take("notifications")) == 1


def test_a_month_is_told_of_entry_by_entry(world: World) -> None:
    world.subscribe(plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.expire_at("2026-03-02T23:00:00Z")
    world.queue_mails()
    world.publish()
    assert [(event.name, event.detail["number"]) for event in world.bus.published] == [
        ("credits.allocated", 1),
        ("credits.balance_recovered", 1),
        ("credits.expired", 2),
        ("credits.balance_low", 2),
        ("credits.exhausted", 2),
    ]


def test_what_the_stream_delivers_again_has_the_same_ids_and_says_the_same(world: World) -> None:
    world.grant("1", 50, "a")
    use(world, 35, "b")
    for _ in range(2):
        world.queue_mails()
        world.subscribe(plan="business", timezone="Asia/Tokyo")
        world.now = at("2026-01-20T00:00:00Z")
        world.services = world.restarted()
        world.publish()
    told: dict[str, list[Published]] = {}
    for event in world.bus.published:
        told.setdefault(event.id, []).append(event)
    assert set(identities(world).values()) == {2}
    assert all(first == second for first, second in told.values())


def test_publishing_needs_no_request_but_those_to_eventbridge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grant("1", 50, "a")
    bodies = used(world, 25)

    def no_table(*_: object, **__: object) -> None:
        raise AssertionError("an event costs no unit")

    monkeypatch.setattr(type(world.services.ledger), "account", no_table)
    monkeypatch.setattr(type(world.services.ledger), "entries", no_table)
    assert world.publish(bodies) == []
    assert world.bus.calls == 3


def test_eventbridge_takes_what_is_sent(world: World) -> None:
    client("events").create_event_bus(Name="credits-dev")
    world.services.event_bus = EventBus(world.settings)
    world.grant("1", 50, "a", metadata={"order": "17"})
    world.queue_mails()
    assert world.publish() == []


# --- Failures ---------------------------------------------------------------------------------


def test_only_the_events_that_eventbridge_refused_come_again(world: World) -> None:
    world.grant("1", 50, "a")
    bodies = used(world, 10)
    world.bus.refuse = lambda event: THROTTLED if event.detail["number"] in (3, 7) else None
    failed = world.deliver_events([(body, 1) for body in bodies])
    assert sorted(json.loads(body)["detail"]["number"] for body, _ in failed) == [3, 7]
    world.bus.refuse = lambda _: None
    assert world.deliver_events(failed) == []
    assert set(identities(world).values()) == {1}
    assert len(world.bus.published) == 10


def test_after_a_lost_answer_all_come_again_under_the_same_ids(world: World) -> None:
    world.grant("1", 50, "a")
    bodies = used(world, 3)

    def lose() -> None:
        world.bus.after = lambda: None
        raise ReadTimeoutError(endpoint_url="https://events")

    world.bus.after = lose
    assert world.publish(bodies) == []
    assert set(identities(world).values()) == {2}
    assert len(identities(world)) == 3


def test_a_request_that_fails_costs_no_other_request_its_events(world: World) -> None:
    world.grant("1", 50, "a")
    bodies = used(world, 20)

    def fail() -> None:
        world.bus.before = lambda: None
        raise ses_error(THROTTLED, 400)

    world.bus.before = fail
    failed = world.deliver_events([(body, 1) for body in bodies])
    assert [body for body, _ in failed] == bodies[:10]
    assert len(world.bus.published) == 10


def test_an_event_that_eventbridge_never_takes_becomes_a_dead_letter_and_stops_no_other(
    world: World,
) -> None:
    world.grant("1", 50, "a")
    bodies = used(world, 5)
    world.bus.refuse = lambda event: THROTTLED if event.detail["number"] == 4 else None
    dead = world.publish(bodies)
    assert [json.loads(body)["detail"]["number"] for body in dead] == [4]
    assert len(identities(world)) == 4
    world.bus.refuse = lambda _: None
    assert world.publish(dead) == []  # what a redrive delivers
    assert len(identities(world)) == 5


def test_what_was_refused_waits_longer_each_time(world: World) -> None:
    world.grant("1", 50, "a")
    (body,) = used(world, 1)
    world.bus.refuse = lambda _: THROTTLED
    waited: list[int] = []
    for receives in (1, 4, 20):
        world.delays.clear()
        world.deliver_events([(body, receives)])
        waited += world.delays.values()
    bounds = [(3, 5), (20, 40), (150, 300)]
    assert all(least <= wait <= most for wait, (least, most) in zip(waited, bounds, strict=True))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        '{"name": "credits.given", "at": "2026-01-01T00:00:00Z", "detail": {}}',
        '{"name": "credits.used", "at": "yesterday", "detail": {}}',
        '{"name": "credits.used", "at": "2026-01-01T00:00:00Z", "detail": []}',
        '{"name": "credits.used", "at": "2026-01-01T00:00:00Z", "detail": {}, "more": 1}',
    ],
)
def test_a_message_that_is_none_of_ours_becomes_a_dead_letter_and_the_others_are_published(
    body: str, world: World
) -> None:
    world.grant("1", 50, "a")
    (mine,) = used(world, 1)
    assert world.publish([body, mine]) == [body]
    assert len(world.bus.published) == 1


def damaged(record: dict[str, Any], **image: Any) -> dict[str, Any]:
    dynamodb = record["dynamodb"]
    return {**record, "dynamodb": {**dynamodb, "NewImage": {**dynamodb["NewImage"], **image}}}


@pytest.mark.parametrize(
    "damage", [{"body": {"S": "{}"}}, {"body": {"N": "1"}}, {"hash": {"BOOL": True}}]
)
def test_a_record_that_cannot_be_read_becomes_a_dead_letter_that_names_it(
    damage: dict[str, Any], world: World
) -> None:
    world.grant("1", 50, "a")
    use(world, 1, "b")
    first, second = world.stream()
    world.queue_mails([{"eventID": "e-0"}, damaged(first, **damage), second])
    of_nothing, dead = world.publish()
    assert json.loads(of_nothing)["event_id"] == "e-0"
    assert json.loads(dead)["keys"] == {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}}
    assert world.bus.names() == ["credits.used"]


def test_what_the_log_says_names_no_metadata(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with correlated("grant"):
        world.grant("1", 50, "a", metadata={"customer": "Ada Lovelace"})
    with correlated("use"):
        use(world, 1, "b")
    world.queue_mails()
    world.bus.refuse = lambda _: THROTTLED
    caplog.set_level("INFO")
    caplog.clear()
    failed = world.deliver_events([(body, 3) for body in (*world.take("events"), "{}")])
    assert len(failed) == 4
    delays = [*world.delays.values()]
    world.bus.refuse = lambda _: None
    world.deliver_events(failed)
    lines = [vars(record) for record in caplog.records if record.name == SERVICE]
    told = [line for line in lines if line["msg"] == "event not published"]
    names = ("message_id", "correlation_id", "receives")
    refused = [("m0", "grant", 3), ("m1", "grant", 3), ("m2", "use", 3)]
    torn = ("m3", "m3", 3)
    assert [tuple(line[name] for name in names) for line in told] == [torn, *refused, torn]
    assert [line["again_in_seconds"] for line in told[:4]] == delays
    assert {line["error"] for line in told[1:4]} == {
        "Contention: EventBridge did not take it: ThrottlingException"
    }
    published = [line for line in lines if line["msg"] == "events published"]
    assert [(line["correlation_id"], line["events"]) for line in published] == [
        ("grant", 2),
        ("use", 1),
    ]
    assert "Lovelace" not in str(lines)
    assert world.bus.published[0].detail["metadata"] == {"customer": "Ada Lovelace"}


# --- Sent again -------------------------------------------------------------------------------


@pytest.fixture
def of_three(world: World) -> World:
    """A user with three entries, whose events have been heard."""
    world.grant("1", 50, "a")
    use(world, 35, "b")
    world.now = at("2026-01-16T12:00:00Z")
    use(world, 5, "c")
    world.queue_mails()
    world.publish()
    return world


def details(world: World) -> dict[str, dict[str, Any]]:
    return {event.id: event.detail for event in world.bus.published}


@pytest.mark.parametrize(
    ("start", "numbers"),
    [
        ("1", [1, 1, 2, 2, 3]),
        ("3", [3]),
        ("4", []),
        ("2026-01-15T12:00:00.250Z", [1, 1, 2, 2, 3]),
        ("2026-01-15T12:00:01Z", [3]),
        ("2026-01-16T12:00:00Z", [3]),
    ],
)
def test_events_are_sent_again_from_an_entry_or_an_instant_on_as_they_were(
    start: str, numbers: list[int], of_three: World, terminal: Terminal
) -> None:
    before = details(of_three)
    of_three.bus.published.clear()
    ran = terminal.run(events.main, "--user-id", "1", "--from", start, "--yes", "--json")
    assert ran.status == 0
    assert (ran.facts["entries"], ran.facts["sent"]) == (len(set(numbers)), len(numbers))
    assert ("User 1 has no entry from 4 on." in ran.said) is not bool(numbers)
    assert of_three.publish() == []
    assert [event.detail["number"] for event in of_three.bus.published] == numbers
    assert details(of_three).items() <= before.items()


def test_what_would_be_sent_is_said_first_and_a_dry_run_sends_nothing(
    of_three: World, terminal: Terminal
) -> None:
    ran = terminal.run(events.main, "--user-id", "1", "--from", "2", "--dry-run")
    assert "Would send the events of entries 2 to 3 of user 1 again" in ran.said
    terminal.answer = "no"
    assert "User 1 has 2 of these entries" in ran.said
    ran = terminal.run(events.main, "--user-id", "1", "--from", "3")
    assert "About to send the events of entry 3 of user 1 again." in ran.said
    assert ran.status == 1
    assert of_three.take("events") == []


def test_what_is_posted_while_somebody_thinks_is_not_sent_again(
    of_three: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream tells of it."""

    def takes_a_while(_: Repair, what: str) -> bool:
        assert what == "send the events of entries 2 to 3 of user 1 again"
        use(of_three, 1, "meanwhile")
        return True

    monkeypatch.setattr(Repair, "is_agreed", takes_a_while)
    ran = terminal.run(events.main, "--user-id", "1", "--from", "2", "--json")
    assert (ran.status, ran.facts["sent"]) == (0, 3)
    assert "Sent 3 events of entries 2 to 3; they are published now." in ran.said
    of_three.bus.published.clear()
    of_three.publish()
    assert [event.detail["number"] for event in of_three.bus.published] == [2, 2, 3]


def test_from_an_instant_on_is_by_when_it_was_posted_not_since_when_it_counts(
    of_three: World, terminal: Terminal
) -> None:
    of_three.now = at("2026-02-10T12:00:00Z")
    of_three.allocate_at("2026-01-31T23:00:00Z")
    entry = of_three.history()[-1]
    assert (entry.effective_at, entry.posted_at) == (at("2026-01-31T23:00:00Z"), of_three.now)
    ran = terminal.run(
        events.main, "--user-id", "1", "--from", "2026-02-10T12:00:00Z", "--yes", "--json"
    )
    assert (ran.status, ran.facts["entries"]) == (0, 1)


def test_an_erased_entry_is_told_of_without_metadata_and_with_its_first_hash(
    of_three: World, terminal: Terminal
) -> None:
    of_three.grant("1", 10, "d", metadata={"customer": "Ada Lovelace"})
    of_three.queue_mails(of_three.stream()[-1:])
    of_three.publish()
    heard = of_three.bus.published[-1].detail
    list(of_three.services.ledger.erase("1"))
    terminal.run(events.main, "--user-id", "1", "--from", "4", "--yes")
    of_three.publish()
    again = of_three.bus.published[-1].detail
    assert heard["metadata"] == {"customer": "Ada Lovelace"}
    assert again == {name: value for name, value in heard.items() if name != "metadata"}


@pytest.mark.parametrize("start", ["1", "2026-01-15T12:00:00.250Z"])
def test_an_entry_that_cannot_be_read_is_named_and_the_others_are_sent(
    start: str, of_three: World, terminal: Terminal
) -> None:
    use(of_three, 1, "d")
    for number in (2, 3):
        damage_entry(having("body", {"S": "{}"}), number=number)
    ran = terminal.run(events.main, "--user-id", "1", "--from", start, "--yes", "--json")
    assert ran.status == 1
    assert ran.facts["unreadable"] == [2, 3]
    assert ran.facts["sent"] == 3
    assert "Entries [2, 3] cannot be read" in ran.said


def test_a_stage_of_an_earlier_release_is_no_shadow_and_knows_no_low_balance(
    of_three: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"EVENTS_QUEUE_URL": of_three.settings.events_queue_url}
    answer = {"Environment": {"Variables": variables}}
    monkeypatch.setattr(terminal.functions, "get_function_configuration", lambda **_: answer)
    # A person's machine has not the settings of a function.
    here = of_three.services
    monkeypatch.setattr(here, "settings", here.settings._replace(events_queue_url=""))
    ran = terminal.run(events.main, "--user-id", "1", "--from", "1", "--yes", "--json")
    assert (ran.status, ran.facts["sent"]) == (0, 3)


@pytest.mark.parametrize("start", ["0", "-1", "yesterday", "2026-01-15", "1.5", "x2026-01-15"])
def test_a_start_that_is_neither_a_number_nor_an_instant_is_refused(
    start: str, of_three: World, terminal: Terminal
) -> None:
    ran = terminal.run(events.main, "--user-id", "1", f"--from={start}", "--yes")
    assert ran.status == 1
    assert "--from: must be" in ran.said
    assert ("a date and time" if start[:4] == "2026" else f"; is {start!r}\n") in ran.said
    assert of_three.take("events") == []


def test_a_stage_that_sends_no_events_sends_none_again(terminal: Terminal, world: World) -> None:
    world.settings = world.settings._replace(events_queue_url="")
    ran = terminal.run(events.main, "--user-id", "1", "--from", "1", "--yes")
    assert ran.status == 1
    assert 'sends no events. Set Events = "on"' in ran.said


@pytest.mark.parametrize("variables", [{}, {"LOW_BALANCE": ""}])
def test_on_a_stage_of_an_earlier_release_no_balance_is_low(
    variables: dict[str, str], of_three: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"EVENTS_QUEUE_URL": of_three.settings.events_queue_url, **variables}
    answer = {"Environment": {"Variables": known}}
    monkeypatch.setattr(terminal.functions, "get_function_configuration", lambda **_: answer)
    terminal.run(events.main, "--user-id", "1", "--from", "2", "--yes")
    of_three.bus.published.clear()
    of_three.publish()
    assert of_three.bus.names() == ["credits.used", "credits.used"]


def test_a_shadow_sends_no_events_again(of_three: World, terminal: Terminal) -> None:
    of_three.settings = of_three.settings._replace(shadow_until=STILL_A_SHADOW)
    words = ("--user-id", "1", "--from", "1", "--yes", "--stage", "prod")
    ran = terminal.run(events.main, *words)
    assert (ran.status, "Stage prod is a shadow" in ran.said) == (1, True), ran.said
    assert of_three.take("events") == []


@pytest.mark.parametrize("words", [("--user-id", "1"), ("--from", "1")])
def test_of_whom_and_from_where_on_go_together(words: tuple[str, str], terminal: Terminal) -> None:
    assert "--user-id and --from go together" in terminal.refused(events.main, *words)


def test_only_the_local_stack_can_be_followed(terminal: Terminal) -> None:
    ran = terminal.run(events.main, "--stage", "prod")
    assert ran.status == 1
    assert "lead a rule to a queue of yours: docs/events.md#a-consumer" in ran.said


# --- The consumer of the docs -------------------------------------------------------------------


def test_the_consumer_of_the_docs_restores_the_order_and_sees_what_is_missing(
    of_three: World,
) -> None:
    told: list[tuple[str, int]] = []
    listener = consumer(lambda name, detail: told.append((name, detail["number"])))
    heard = [
        {"detail-type": event.name, "detail": event.detail} for event in of_three.bus.published
    ]
    first, *others = sorted(heard, key=lambda event: event["detail-type"] != "credits.adjusted")
    for event in others[::-1] * 2:
        listener.receive(event)
    assert listener.missing() == {"1": 1}
    assert [name for name, _ in told] == ["credits.balance_low", "credits.balance_recovered"]
    listener.receive(first)
    assert listener.missing() == {}
    assert told[2:] == [("credits.adjusted", 1), ("credits.used", 2), ("credits.used", 3)]
