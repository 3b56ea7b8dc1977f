"""Mails on this machine: what the local stack sent, and what each kind looks like.

    python -m infra mails        (make mails)

renders an example of every kind with Chromium, in a wide and in a narrow window, in light and in
dark mode, into docs/images/mails/. It needs a Chromium or Chrome on the PATH and nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chalicelib.domain import calendar, ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.ledger import Account, LedgerEntry, Request
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.plans import parse_catalogue
from chalicelib.domain.subscriptions import Subscription, register
from chalicelib.mails import facts
from chalicelib.mails.rendering import Mail, render
from chalicelib.services import PLANS_FILE
from chalicelib.store.mails import MailStatus, read_mail
from infra.deployment import packaging
from infra.local import stacks

PICTURES = packaging.ROOT / "docs" / "images" / "mails"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Width, height and mode of each picture. Nothing is cut off: the heights leave room.
WINDOWS = {
    "wide-light": (720, 620, False),
    "wide-dark": (720, 620, True),
    "narrow-light": (360, 700, False),
    "narrow-dark": (360, 700, True),
}

_UNSUBSCRIBE = "https://api.example.com/v1/api/unsubscribe?token=..."

SETTLE_SECONDS = 5.0
"""For how long nothing more must be sent before all is said to be sent."""

SETTLE_DEADLINE_SECONDS = 180.0


def sent_mails(stack: stacks.LocalStack) -> list[dict[str, Any]]:
    """What is in the emulator's outbox, oldest first."""
    with urllib.request.urlopen(stack.mail_url, timeout=60) as answer:  # noqa: S310 - ours
        messages: dict[str, list[dict[str, Any]]] = json.load(answer)["messages"]
    return [mail for of_account in messages.values() for mail in of_account]


def count_by_kind(stack: stacks.LocalStack) -> Counter[str]:
    """How many mails of each kind were sent, by the table that remembers it."""
    counts: Counter[str] = Counter()
    pages = stack.client("dynamodb").get_paginator("scan")
    for page in pages.paginate(TableName=stack.tables["mails"]):
        for item in page["Items"]:
            try:
                record = read_mail("", item)
            except Unreadable:
                counts["unreadable"] += 1
                continue
            is_sent = record.status is MailStatus.COMPLETED
            counts[str(record.said.get("kind")) if is_sent else "in doubt"] += 1
    return counts


def dead_letters(stack: stacks.LocalStack) -> int:
    """How many messages of mails were given up."""
    name = "ApproximateNumberOfMessages"
    attributes = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.queues["notifications-dlq"], AttributeNames=[name]
    )["Attributes"]
    return int(attributes[name])


def wait_until_sent(stack: stacks.LocalStack) -> None:
    """Returns when no mail waits and none has been sent for a while."""
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


def show_sent(stack: stacks.LocalStack, console: Console) -> None:
    """Prints how many mails of each kind were sent, and where to read them."""
    wait_until_sent(stack)
    counts = count_by_kind(stack)
    table = Table("mails", "sent", title="Users were told", show_footer=True)
    table.columns[1].justify = "right"
    for kind in MailKind:
        table.add_row(f"about {kind.words}", f"{counts.pop(kind.value, 0):,}")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    if dead := dead_letters(stack):
        table.add_row("[red]in the dead-letter queue[/]", f"{dead:,}")
    table.columns[0].footer = "in the outbox"
    table.columns[1].footer = f"{len(sent_mails(stack)):,}"
    console.print(table)
    console.print(f"Read them at {stack.mail_url}\n", highlight=False, soft_wrap=True)


# --- Pictures -----------------------------------------------------------------------------------


def examples() -> Iterator[Mail]:
    """One mail of every kind, about a user in New York."""
    catalogue = parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)
    start = datetime(2026, 5, 1, 4, 0, tzinfo=UTC)
    subscription = register(
        {
            "user_id": "42",
            "email": "ada@example.com",
            "timezone": "America/New_York",
            "plan": "starter",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2026-01-01T00:00:00Z",
        },
        catalogue,
        start,
    )
    zone, day = subscription.timezone, timedelta(days=1)

    def after(entry: LedgerEntry) -> Account:
        return Account("42", entry)

    def mail(kind: MailKind, told: facts.Facts) -> Mail:
        return render(kind, told, _UNSUBSCRIBE, _UNSUBSCRIBE)

    allocated = ledger.allocate(Account("42"), Period(2026, 5), 100, zone, 30, start)
    yield mail(MailKind.ALLOCATION, facts.of_allocation(allocated))
    reason = Request("manual", "ada", "Sorry for the long outage on 6 May: these are on us.")
    granted = ledger.grant(after(allocated), 50, reason, start + 7 * day, zone, 60)
    yield mail(MailKind.MANUAL, facts.of_manual_change(granted))
    usage = Request("usage", "shop", "Export")
    used = ledger.use(after(granted), 60, usage, start + 20 * day)
    expires_at = calendar.expires_at(zone, start, 30)
    soon = expires_at - 3 * day
    yield mail(
        MailKind.EXPIRING_SOON,
        facts.of_credits_expiring_soon(40, allocated, after(used), soon),
    )
    if expired := ledger.expire(after(used), expires_at):
        yield mail(MailKind.EXPIRATION, facts.of_expiration(expired, {1: allocated}))
    yield _low_balance(subscription, used, usage, start + 21 * day)


def _low_balance(
    subscription: Subscription, before: LedgerEntry, usage: Request, now: datetime
) -> Mail:
    catalogue = parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)
    low = ledger.use(Account("42", before), 75, usage, now)
    told = facts.of_low_balance(low, subscription, catalogue, now)
    return render(MailKind.LOW_BALANCE, told, _UNSUBSCRIBE, _UNSUBSCRIBE)


def take_pictures(browser: str, directory: Path) -> list[Path]:
    """Renders every example in every window; answers the pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = []
    with tempfile.TemporaryDirectory() as temporary:
        for mail in examples():
            page = Path(temporary) / f"{mail.kind.value}.html"
            page.write_text(mail.html, encoding="utf-8")
            for name, (width, height, is_dark) in WINDOWS.items():
                picture = directory / f"{mail.kind.value}-{name}.png"
                subprocess.run(
                    [
                        *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
                        *("--disable-quic", "--no-first-run", "--disable-background-networking"),
                        *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
                        f"--user-data-dir={temporary}/profile-{mail.kind.value}-{name}",
                        f"--window-size={width},{height}",
                        f"--blink-settings=preferredColorScheme={0 if is_dark else 1}",
                        f"--screenshot={picture}",
                        page.as_uri(),
                    ],
                    check=True,
                    capture_output=True,
                    timeout=120,
                )
                pictures.append(picture)
    return pictures


def main(words: list[str] | None = None) -> int:
    """Reads the command line and takes the pictures; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra mails", description="Shows what every kind of mail looks like."
    )
    parser.add_argument("--to", type=Path, default=PICTURES, help=f"default: {PICTURES}")
    arguments = parser.parse_args(words)
    try:
        arguments.to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: --to: {error.filename} cannot be made: {error.strerror}", file=sys.stderr)
        return 1
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(
            "error: there is no Chromium or Chrome here. "
            "On Debian and Ubuntu: apt install chromium",
            file=sys.stderr,
        )
        return 1
    for picture in take_pictures(browser, arguments.to):
        print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
