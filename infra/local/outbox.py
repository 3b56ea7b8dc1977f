"""The emails of the local stack: sent ones, in the emulator's outbox, and waiting ones."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from chalicelib.domain.errors import Unreadable
from chalicelib.domain.notifications import MailKind
from chalicelib.mails.rendering import about_in_words
from chalicelib.store.mails import MailRecord, MailStatus, read_mail
from infra.local import stacks

PAGE = "#/lab/outbox"
"""Where the local console shows the outbox."""

SETTLE_SECONDS = 5.0
"""How long the outbox must stay unchanged before all emails count as sent."""

SETTLE_DEADLINE_SECONDS = 180.0


def sent_mails(stack: stacks.LocalStack) -> list[dict[str, Any]]:
    """The emails in the emulator's outbox, oldest first."""
    with urllib.request.urlopen(stack.mail_url, timeout=60) as answer:  # noqa: S310 - ours
        messages: dict[str, list[dict[str, Any]]] = json.load(answer)["messages"]
    return [mail for of_account in messages.values() for mail in of_account]


def _records(stack: stacks.LocalStack) -> Iterator[MailRecord | None]:
    """The records of emails that were or may have been sent; None for an unreadable one."""
    pages = stack.client("dynamodb").get_paginator("scan")
    for page in pages.paginate(TableName=stack.tables["mails"]):
        for item in page["Items"]:
            try:
                yield read_mail("", item)
            except Unreadable:
                yield None


def sent_at(stack: stacks.LocalStack) -> dict[str, str]:
    """When emails were sent, by the stack's clock: by their SES ids."""
    return {
        str(record.said["message_id"]): str(record.said["sent_at"])
        for record in _records(stack)
        if record and record.status is MailStatus.COMPLETED
    }


def count_by_kind(stack: stacks.LocalStack) -> Counter[str]:
    """How many emails of each kind were sent, by the table that records them."""
    counts: Counter[str] = Counter()
    for record in _records(stack):
        if record is None:
            counts["unreadable"] += 1
        else:
            is_sent = record.status is MailStatus.COMPLETED
            counts[str(record.said.get("kind")) if is_sent else "in doubt"] += 1
    return counts


def dead_letters(stack: stacks.LocalStack) -> int:
    """How many emails failed for good."""
    name = "ApproximateNumberOfMessages"
    attributes = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.queues["notifications-dlq"], AttributeNames=[name]
    )["Attributes"]
    return int(attributes[name])


def wait_until_sent(stack: stacks.LocalStack) -> None:
    """Returns when no email waits and none has been sent for a while."""
    sqs, url = stack.client("sqs"), stack.queues["notifications"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    deadline = time.monotonic() + SETTLE_DEADLINE_SECONDS
    last, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        waiting = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        sent = len(sent_mails(stack))
        if any(int(waiting[name]) for name in names) or sent != last:
            last, since = sent, time.monotonic()
        elif time.monotonic() - since >= SETTLE_SECONDS:
            return
        time.sleep(0.5)


def show_sent(stack: stacks.LocalStack, page_url: str, console: Console) -> None:
    """Prints how many emails of each kind were sent, and where the console shows them."""
    wait_until_sent(stack)
    counts = count_by_kind(stack)
    table = Table("mails", "sent", title="Users were told", show_footer=True)
    table.columns[1].justify = "right"
    for kind in MailKind:
        table.add_row(f"about {about_in_words(kind)}", f"{counts.pop(kind.value, 0):,}")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    if dead := dead_letters(stack):
        table.add_row("[red]in the dead-letter queue[/]", f"{dead:,}")
    table.columns[0].footer = "in the outbox"
    table.columns[1].footer = f"{len(sent_mails(stack)):,}"
    console.print(table)
    console.print(f"Read them at {page_url}/{PAGE}\n", highlight=False, soft_wrap=True)
