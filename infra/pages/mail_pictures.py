"""Takes pictures of every kind of email, for docs/images/mails/.

Chromium renders an example of each kind, in a wide and a narrow window, in light and dark mode.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chalicelib.domain import calendar, ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.subscriptions import Subscription
from chalicelib.domain.terms import read_terms, successor
from chalicelib.mails import facts
from chalicelib.mails.rendering import Mail, render
from chalicelib.plans_file import parse_catalogue
from chalicelib.services import PLANS_FILE
from infra.deployment import packaging

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


# --- Pictures -----------------------------------------------------------------------------------


def examples() -> Iterator[Mail]:
    """One email of every kind, for a user in New York."""
    catalogue = parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)
    start = datetime(2026, 5, 1, 4, 0, tzinfo=UTC)
    terms = read_terms(
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
    subscription = successor(None, terms, catalogue, start)
    zone, day = subscription.timezone, timedelta(days=1)

    def after(entry: LedgerEntry) -> Account:
        return Account("42", entry)

    def mail(kind: MailKind, told: facts.Facts) -> Mail:
        return render(kind, told, _UNSUBSCRIBE, _UNSUBSCRIBE)

    allocated = ledger.allocate(Account("42"), Period(2026, 5), 100, zone, Days(30), start)
    yield mail(MailKind.ALLOCATION, facts.of_allocation(allocated))
    reason = Request("manual", "ada", "Sorry for the long outage on 6 May: these are on us.")
    granted = ledger.grant(after(allocated), 50, reason, start + 7 * day, zone, Days(60))
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
    yield from _payments(after(used), start + 20 * day, zone)
    yield _low_balance(subscription, used, usage, start + 21 * day)


def _payments(account: Account, now: datetime, zone: str) -> Iterator[Mail]:
    paid = Request("purchase#pi_3MtwBwLkdIwHu7ix", "till", "Pack of 500 credits")
    bought = ledger.purchase(account, 500, None, paid, now, zone)
    yield render(MailKind.PURCHASE, facts.of_purchase(bought), _UNSUBSCRIBE, _UNSUBSCRIBE)
    why = Request("refund#pi_3MtwBwLkdIwHu7ix", "till", "You asked for half of it back.")
    batch, after = bought.batches[-1], Account("42", bought)
    if refunded := ledger.refund(after, batch, None, 250, None, why, now):
        told = facts.of_refund(refunded.entry)
        yield render(MailKind.REFUND, told, _UNSUBSCRIBE, _UNSUBSCRIBE)


def _low_balance(
    subscription: Subscription, before: LedgerEntry, usage: Request, now: datetime
) -> Mail:
    catalogue = parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)
    low = ledger.use(Account("42", before), 75, usage, now)
    told = facts.of_low_balance(low, subscription, catalogue, now)
    return render(MailKind.LOW_BALANCE, told, _UNSUBSCRIBE, _UNSUBSCRIBE)


def take_pictures(browser: str, directory: Path) -> list[Path]:
    """Renders every example in every window; returns the pictures."""
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
