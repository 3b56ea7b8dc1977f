"""Emails on the deployed stack: a real stream, real queues, and the roles' own rights."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.domain.notifications import ALL_KINDS, MailKind
from infra import reach
from infra.local.outbox import sent_mails
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack, local_stack
from tests.stack.conftest import Invoke, Packaged, invoker_of, wait_for

Subscribe = Callable[[str], None]


@pytest.fixture(scope="module")
def stack(packaged: Packaged) -> Iterator[LocalStack]:
    """A stack for these tests alone: no other test's entries stand in the stream before theirs."""
    with local_stack(schedules=False, make_package=packaged) as deployed:
        yield deployed


@pytest.fixture(scope="module")
def invoke(stack: LocalStack) -> Invoke:
    return invoker_of(stack)


@pytest.fixture(scope="module")
def subscribe(stack: LocalStack) -> Subscribe:
    services = services_of_local(stack)

    def subscribe(user_id: str) -> None:
        values = {
            "user_id": user_id,
            "email": f"{user_id}@example.com",
            "timezone": "Europe/Paris",
            "plan": "pro",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2025-01-01T00:00:00Z",
        }
        reach.enter(services, values, services.now())

    return subscribe


def grant(invoke: Invoke, user_id: str, amount: int, key: str) -> None:
    event = {
        "user_id": user_id,
        "amount": amount,
        "description": "Goodwill",
        "actor": "ada",
        "idempotency_key": f"{user_id} {key}".replace(" ", "-"),
    }
    assert invoke("manual-allocate", event).payload["success"]


def mails_to(stack: LocalStack, user_id: str) -> list[dict[str, Any]]:
    return [mail for mail in sent_mails(stack) if mail["To"] == [f"{user_id}@example.com"]]


def test_a_grant_is_mailed_and_its_link_ends_such_emails(
    stack: LocalStack, invoke: Invoke, subscribe: Subscribe
) -> None:
    subscribe("mail-1")
    grant(invoke, "mail-1", 50, "a")
    (mail,) = wait_for(lambda: mails_to(stack, "mail-1"), "the mail")
    assert mail["Subject"] == "50 credits added to your account"
    assert "Goodwill" in mail["BodyHtml"]

    link = re.findall(r"https?://\S+/unsubscribe\S+", mail["BodyText"])[0]
    with urllib.request.urlopen(link, timeout=30) as page:
        assert "Stop emails about" in page.read().decode()
    one_click = urllib.request.Request(
        link,
        b"List-Unsubscribe=One-Click",
        {"Content-Type": "application/x-www-form-urlencoded"},
        method="POST",
    )
    with urllib.request.urlopen(one_click, timeout=30) as page:
        assert page.status == 200
    wishes = services_of_local(stack).subscriptions.get("mail-1").notifications
    assert wishes == ALL_KINDS - {MailKind.MANUAL}


def test_what_is_enqueued_again_and_again_is_mailed_once(
    stack: LocalStack, invoke: Invoke, subscribe: Subscribe
) -> None:
    subscribe("mail-2")
    grant(invoke, "mail-2", 50, "a")
    sqs, url = stack.client("sqs"), stack.queues["notifications"]
    for _ in range(5):
        sqs.send_message(QueueUrl=url, MessageBody='{"user_id":"mail-2","number":1}')
    grant(invoke, "mail-2", 51, "b")  # behind all of them
    wait_for(lambda: len(mails_to(stack, "mail-2")) >= 2, "both mails")
    wait_for(lambda: is_empty(stack, "notifications"), "the queue to be empty")
    assert sorted(mail["Subject"][:10] for mail in mails_to(stack, "mail-2")) == [
        "50 credits",
        "51 credits",
    ]


def is_empty(stack: LocalStack, queue: str) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.queues[queue], AttributeNames=names
    )["Attributes"]
    return all(int(attributes[name]) == 0 for name in names)


def test_a_bounce_that_ses_reports_marks_the_subscription(
    stack: LocalStack, subscribe: Subscribe
) -> None:
    subscribe("mail-3")
    event = {
        "eventType": "Bounce",
        "bounce": {
            "bounceType": "Permanent",
            "bouncedRecipients": [{"emailAddress": "mail-3@example.com"}],
        },
        "mail": {"tags": {"user": [b"mail-3".hex()]}},
    }
    topic = f"arn:aws:sns:us-east-1:000000000000:{stack.stack}-mail-events"
    stack.client("sns").publish(
        TopicArn=topic,
        Subject="Amazon SES Email Event Notification",
        Message=json.dumps(event),
        # SNS always names them, the emulator only when there are some; Chalice wants them named.
        MessageAttributes={"origin": {"DataType": "String", "StringValue": "test"}},
    )
    subscriptions = services_of_local(stack).subscriptions
    wait_for(lambda: subscriptions.get("mail-3").suppressed, "the mark")
