"""The email about a low balance says how long what is left will last, as its entry has it."""

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.messages.notifications import EntryPosted
from chalicelib.operations import emails, on_request
from tests.aws.api import ADMIN, Api
from tests.aws.damage import damage_entry, newer
from tests.aws.outbox import THROTTLED, ses_error
from tests.aws.world import CORRELATION_ID, World
from tests.wire import silence

DAY = timedelta(days=1)
PACE = "At the pace of the"
SAID = "At the pace of the 7 days before that, they run out on 30 January, before the next ones"
LAST = 10
"""The number of the usage that takes the balance below 50."""


def spend(world: World, days: int, user_id: str = "1") -> None:
    for _ in range(days):
        world.now += DAY
        on_request.use_credits(
            world.services, user_id, 6, "Export", caller="shop", key=f"{user_id} {world.now}"
        )


@pytest.fixture
def low(world: World) -> World:
    """100 credits on 15 January, and 6 of them used on each of the nine days after it.

    At noon on the 24th 46 are left, and in seven days 48 were used. The plan's 500 come on the 1st.
    """
    world.subscribe(notifications=["low_balance"])
    world.grant("1", 100, "a")
    spend(world, 9)
    world.queue_mails()
    return world


def text_of(world: World) -> str:
    (mail,) = world.outbox.sent
    assert mail.subject == "46 credits left"
    return mail.text


def test_it_says_when_they_run_out_and_that_the_next_ones_come_later(low: World) -> None:
    assert low.send_mails() == []
    assert SAID in text_of(low)
    assert "Next credits, as things stand: 500 credits on 1 February" in text_of(low)


def test_a_redelivery_says_the_same_whatever_was_used_and_granted_meanwhile(low: World) -> None:
    failing = [ses_error(*THROTTLED)]

    def throttle(_: str) -> None:
        if failing:
            raise failing.pop()

    low.outbox.before = throttle
    body = EntryPosted("1", LAST, CORRELATION_ID).body()
    assert low.deliver_mails([(body, 1)]) == [(body, 1)]
    spend(low, 3)
    low.grant("1", 1_000, "b")
    for _ in range(2):
        assert low.deliver_mails([(body, 2)]) == []
    assert SAID in text_of(low)


def test_a_young_ledger_has_no_pace_and_an_older_one_that_of_a_month(world: World) -> None:
    for user_id, days in (("1", 5), ("2", 40)):
        world.subscribe(user_id, notifications=["low_balance"])
        # What the plan brings would be due meanwhile.
        world.subscribe(user_id, status="paused")
        world.grant(user_id, 45 + 6 * days, f"a{user_id}")
        spend(world, days, user_id)
        world.queue_mails()
        assert world.send_mails() == []
        spoken = world.outbox.sent[-1].text
        assert ("30 days before that" in spoken) is (days == 40)
        assert (PACE in spoken) is (days == 40)


def test_what_is_shown_to_support_is_what_was_sent_and_a_list_of_emails_reads_no_history(
    low: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert low.send_mails() == []
    spend(low, 2)
    seen = api.get(f"/api/credits/transactions/1-{LAST}/email", ADMIN).json
    assert SAID in seen["text"]
    assert SAID.replace("30 J", "30\N{NO-BREAK SPACE}J") in seen["html"]
    queries = counted(low, monkeypatch)
    listed = api.get("/api/subscriptions/1/emails", ADMIN).json["items"]
    assert listed[0]["subject"] == "46 credits left"
    assert len(queries) == 1


def counted(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lines each query of the ledger from now on may answer."""
    limits: list[int] = []
    dynamodb = world.services.dynamodb
    answered = dynamodb.call

    def call(operation: str, arguments: Any) -> Any:
        if operation == "Query" and arguments["TableName"] == world.settings.ledger_table:
            limits.append(arguments["Limit"])
        return answered(operation, arguments)

    monkeypatch.setattr(dynamodb, "call", call)
    return limits


def test_its_history_is_read_page_by_page_no_further_than_needed(
    low: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = counted(low, monkeypatch)
    assert low.send_mails() == []
    assert limits == [50]


def test_of_very_many_lines_the_latest_make_the_pace(
    low: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails, "LINES_OF_A_PACE", 5)
    monkeypatch.setattr(emails, "LINES_A_READ", 2)
    limits = counted(low, monkeypatch)
    assert low.send_mails() == []
    # The fifth line is of four days before; with the usage itself 30 were used in these.
    assert "At the pace of the 4 days before that, they run out on 30 January" in text_of(low)
    assert limits == [2, 2, 2]


def test_a_usage_of_another_kind_of_email_or_of_none_reads_no_history(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe(notifications=["manual"])
    world.grant("1", 100, "a")
    spend(world, 9)
    world.queue_mails()
    limits = counted(world, monkeypatch)
    assert world.send_mails() == []
    assert len(world.outbox.sent) == 1
    assert limits == []


def test_a_line_that_cannot_be_read_takes_the_sentence_away_and_no_email(low: World) -> None:
    damage_entry(newer, number=4)
    assert low.send_mails() == []
    assert PACE not in text_of(low)
    assert "Next credits, as things stand: 500 credits on 1 February" in text_of(low)


def test_a_history_of_which_dynamodb_says_nothing_has_the_email_come_back_and_stops_no_other(
    low: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    low.subscribe("2")
    low.grant("2", 5, "b")
    low.queue_mails()
    bodies = [
        EntryPosted("1", LAST, CORRELATION_ID).body(),
        EntryPosted("2", 1, CORRELATION_ID).body(),
    ]
    low.take("notifications")
    dynamodb = low.services.dynamodb
    answered = dynamodb.call

    def call(operation: str, arguments: Any) -> Any:
        if operation == "Query":
            raise silence()
        return answered(operation, arguments)

    with monkeypatch.context() as outage:
        outage.setattr(dynamodb, "call", call)
        assert low.deliver_mails([(body, 1) for body in bodies]) == [(bodies[0], 1)]
    assert low.outbox.recipients() == ["user2@example.com"]
    low.outbox.sent.clear()
    assert low.deliver_mails([(bodies[0], 2)]) == []
    assert SAID in text_of(low)
