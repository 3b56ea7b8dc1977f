"""Addresses that bounce or complain are not written to again, and nobody reads them in a log."""

import json
from typing import Any

import pytest

from chalicelib.jobs.errors import SomeEventsFailed
from chalicelib.jobs.mail_events import FIRST_MESSAGE, suppress_addresses
from chalicelib.store.wire.errors import NoAnswer
from tests.aws.world import World


def event(*messages: object) -> dict[str, Any]:
    return {
        "Records": [
            {"Sns": {"Message": text if isinstance(text, str) else json.dumps(text)}}
            for text in messages
        ]
    }


def bounce(
    user_id: str = "1", address: str = "user1@example.com", kind: str = "Permanent"
) -> dict[str, Any]:
    """As SES publishes it (the parts we read)."""
    return {
        "eventType": "Bounce",
        "bounce": {"bounceType": kind, "bouncedRecipients": [{"emailAddress": address}]},
        "mail": {"tags": {"user": [user_id.encode().hex()], "kind": ["allocation"]}},
    }


def complaint(feedback: str = "abuse") -> dict[str, Any]:
    return {
        "eventType": "Complaint",
        "complaint": {
            "complaintFeedbackType": feedback,
            "complainedRecipients": [{"emailAddress": "User1@Example.com"}],
        },
        "mail": {"tags": {"user": [b"1".hex()]}},
    }


def suppressed(world: World, user_id: str = "1") -> str | None:
    reason = world.services.subscriptions.get(user_id).suppressed
    return reason.value if reason else None


def test_a_bounce_for_good_marks_the_subscription_whatever_its_user_wishes(world: World) -> None:
    before = world.subscribe(notifications=["manual"])
    suppress_addresses(world.services, event(bounce()), world.context)
    after = world.services.subscriptions.get("1")
    assert suppressed(world) == "bounce"
    assert after.notifications == before.notifications
    suppress_addresses(world.services, event(bounce()), world.context)
    assert world.services.subscriptions.get("1") == after


def test_the_text_that_ses_publishes_first_is_passed_over_and_no_other_text(world: World) -> None:
    """It comes when the event destination is made, and used to end as a dead letter."""
    world.subscribe()
    suppress_addresses(world.services, event(FIRST_MESSAGE), world.context)
    suppress_addresses(world.services, event(FIRST_MESSAGE, bounce()), world.context)
    assert suppressed(world) == "bounce"
    for text in (FIRST_MESSAGE.lower(), f"{FIRST_MESSAGE} ", "Successfully validated"):
        with pytest.raises(SomeEventsFailed):
            suppress_addresses(world.services, event(text), world.context)


@pytest.mark.parametrize("kind", ["Transient", "Undetermined"])
def test_a_bounce_that_may_pass_marks_nothing_whether_or_not_ses_knows_why(
    world: World, kind: str
) -> None:
    """SES's types of bounces: these two, and Permanent (SES Developer Guide, bounce object)."""
    world.subscribe()
    suppress_addresses(world.services, event(bounce(kind=kind)), world.context)
    assert suppressed(world) is None


@pytest.mark.parametrize(
    "kind",
    [
        "Click",
        "Delivery",
        "DeliveryDelay",
        "Open",
        "Reject",
        "Rendering Failure",
        "Send",
        "Subscription",
    ],
)
def test_an_event_of_ses_that_is_no_bounce_and_no_complaint_marks_nothing(
    world: World, kind: str
) -> None:
    world.subscribe()
    others = {**complaint(), **bounce(), "eventType": kind}
    suppress_addresses(world.services, event(others), world.context)
    assert suppressed(world) is None


def test_a_complaint_marks_the_subscription_unless_it_says_that_it_is_no_spam(
    world: World,
) -> None:
    world.subscribe()
    suppress_addresses(world.services, event(complaint("not-spam")), world.context)
    assert suppressed(world) is None
    suppress_addresses(world.services, event(complaint()), world.context)
    assert suppressed(world) == "complaint"


def test_the_bounce_of_an_old_address_does_not_mark_the_new_one(world: World) -> None:
    world.subscribe(email="new@example.com")
    suppress_addresses(world.services, event(bounce()), world.context)
    assert suppressed(world) is None


def test_an_event_of_a_user_who_is_gone_or_of_another_kind_is_passed_over(world: World) -> None:
    suppress_addresses(
        world.services, event(bounce("nobody"), {"eventType": "Delivery"}), world.context
    )


def test_an_event_that_cannot_be_read_fails_after_the_others_and_is_not_quoted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.subscribe()
    for broken in ("{ user1@example.com", {"eventType": "Bounce"}, "[]"):
        with pytest.raises(SomeEventsFailed, match="1 of 2"):
            suppress_addresses(world.services, event(broken, bounce()), world.context)
    assert suppressed(world) == "bounce"
    lines = [vars(record) for record in caplog.records]
    unreadable = [line["error"] for line in lines if line["msg"] == "mail event unreadable"]
    assert unreadable == ["JSONDecodeError", "KeyError", "TypeError"]
    assert "@" not in json.dumps(lines, default=str)


@pytest.mark.parametrize("feedback", ["abuse", "fraud", "virus", "other", "auth-failure", None])
def test_any_complaint_but_that_it_is_no_spam_counts_also_one_that_does_not_say_why(
    world: World, feedback: str | None
) -> None:
    world.subscribe()
    said = complaint("abuse")
    del said["complaint"]["complaintFeedbackType"]
    if feedback is not None:
        said = complaint(feedback)
    suppress_addresses(world.services, event(said), world.context)
    assert suppressed(world) == "complaint"


def test_every_recipient_of_an_event_is_looked_at(world: World) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id)
    bounced = bounce("2", "somebody.else@example.com")
    bounced["bounce"]["bouncedRecipients"].append({"emailAddress": "user2@example.com"})
    suppress_addresses(world.services, event(bounced), world.context)
    assert (suppressed(world, "1"), suppressed(world, "2")) == (None, "bounce")


def test_an_event_belongs_to_the_operation_of_its_email(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.subscribe("1")
    world.subscribe("2")
    world.subscribe("3")
    spam = complaint()
    spam["mail"]["tags"]["user"] = [b"3".hex()]
    events = [bounce("1"), bounce("2", "user2@example.com", kind="Transient"), spam]
    for number, each in enumerate(events):
        each["mail"]["tags"]["correlation"] = [f"operation-{number}"]
    suppress_addresses(world.services, event(*events), world.context)
    lines = [vars(record) for record in caplog.records if record.msg == "mail came back"]
    names = ("correlation_id", "user_id", "because", "is_final")
    assert [tuple(line[name] for name in names) for line in lines] == [
        ("operation-0", "1", "bounce", True),
        ("operation-1", "2", "bounce", False),
        ("operation-2", "3", "complaint", True),
    ]
    assert (suppressed(world, "1"), suppressed(world, "2")) == ("bounce", None)
    assert "@" not in json.dumps([vars(record) for record in caplog.records], default=str)


def test_events_that_fail_are_counted_and_told_of_without_an_address_and_the_others_are_done(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    find = world.services.subscriptions.find
    faults = {"1": NoAnswer("DynamoDB is away"), "2": ZeroDivisionError("user2@example.com")}

    def failing(user_id: str) -> Any:
        if error := faults.get(user_id):
            raise error
        return find(user_id)

    monkeypatch.setattr(world.services.subscriptions, "find", failing)
    events = event(*(bounce(each, f"user{each}@example.com") for each in ("1", "2", "3")))
    with pytest.raises(SomeEventsFailed, match=r"^2 of 3 events failed$"):
        suppress_addresses(world.services, events, world.context)
    assert suppressed(world, "3") == "bounce"
    lines = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert [(line["msg"], line.get("error"), line.get("kind")) for line in lines] == [
        ("mail event failed", "NoAnswer: DynamoDB is away", None),
        ("unexpected failure", None, "ZeroDivisionError"),
    ]
    assert "@" not in json.dumps(lines, default=str)
