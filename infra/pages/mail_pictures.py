"""Takes pictures of all emails and of the pages behind their links, for docs/images/mails/.

Chromium renders an example of each in every language, in a wide and a narrow window, in light and
dark mode.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chalicelib.domain import calendar, ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.forecasts import Spending
from chalicelib.domain.languages import Language
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.terms import read_terms, successor
from chalicelib.mails import facts
from chalicelib.mails.rendering import Button, Frame, Mail, page_words, render, render_page
from chalicelib.plans_file import parse_catalogue
from chalicelib.product import Product
from chalicelib.services import PLANS_FILE
from infra.deployment import packaging

PICTURES = packaging.ROOT / "docs" / "images" / "mails"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Width, height and mode of each picture. The heights are large enough that nothing is cut off.
WINDOWS = {
    "wide-light": (720, 680, False),
    "wide-dark": (720, 680, True),
    "narrow-light": (320, 820, False),
    "narrow-dark": (320, 820, True),
}

IN_SHORT = ("wide-light", "narrow-dark")
"""The windows for languages other than English."""

_LINK = "https://api.example.com/v1/api/unsubscribe?token=..."

LIGHTHOUSE = Product(
    name="Lighthouse",
    url="https://app.example.com/credits",
    logo_url="https://static.example.com/logo.png",
    address="Harbour Street 1, 20457 Hamburg, Germany",
    support="help@example.com",
)
"""The product of the pictures in the docs."""

_LOGO = Path(__file__).parent / "lighthouse.png"


# --- Pictures -----------------------------------------------------------------------------------


def examples(
    product: Product = LIGHTHOUSE, language: Language = Language.ENGLISH
) -> Iterator[Mail]:
    """One email of every kind, for a user in New York."""
    frame = Frame(product, language, _LINK, _LINK)
    for kind, told in _facts():
        yield render(kind, told, frame)


def pages(
    product: Product = LIGHTHOUSE, language: Language = Language.ENGLISH
) -> Iterator[tuple[str, str]]:
    """The pages behind the links in emails, by name."""
    kind = MailKind.ALLOCATION
    buttons = [
        Button(page_words("stop", language, kind), "..."),
        Button(page_words("stop_all", language), "..."),
    ]
    question, done = (page_words(name, language) for name in ("question", "done"))
    yield "stop", render_page(product, language, question, "", buttons)
    words = page_words("fewer", language, kind)
    yield "stopped", render_page(product, language, done, words)


def _facts() -> Iterator[tuple[MailKind, facts.Facts]]:
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

    allocated = ledger.allocate(Account("42"), Period(2026, 5), 100, zone, Days(30), start)
    yield MailKind.ALLOCATION, facts.of_allocation(allocated)
    reason = Request("manual", "ada", "Sorry for the long outage on 6 May: these are on us.")
    granted = ledger.grant(after(allocated), 50, reason, start + 7 * day, zone, Days(60))
    yield MailKind.MANUAL, facts.of_manual_change(granted)
    usage = Request("usage", "shop", "Export")
    used = ledger.use(after(granted), 60, usage, start + 20 * day)
    expires_at = calendar.expires_at(zone, start, 30)
    soon = expires_at - 3 * day
    reminder = facts.of_credits_expiring_soon(40, allocated, after(used), soon)
    yield MailKind.EXPIRING_SOON, reminder
    if expired := ledger.expire(after(used), expires_at):
        yield MailKind.EXPIRATION, facts.of_expiration(expired, {1: allocated})
    yield from _payments(after(used), start + 20 * day, zone)
    low = ledger.use(after(used), 75, usage, start + 21 * day)
    month = Spending(30, 30, 150, None)
    told = facts.of_low_balance(low, subscription, catalogue, start + 21 * day, month)
    yield MailKind.LOW_BALANCE, told


def _payments(account: Account, now: datetime, zone: str) -> Iterator[tuple[MailKind, facts.Facts]]:
    paid = Request("purchase#pi_3MtwBwLkdIwHu7ix", "till", "Pack of 500 credits")
    bought = ledger.purchase(account, 500, None, paid, now, zone)
    yield MailKind.PURCHASE, facts.of_purchase(bought)
    why = Request("refund#pi_3MtwBwLkdIwHu7ix", "till", "You asked for half of it back.")
    batch, after = bought.batches[-1], Account("42", bought)
    if refunded := ledger.refund(after, batch, None, 250, None, why, now):
        yield MailKind.REFUND, facts.of_refund(refunded.entry)


def files(product: Product, languages: Iterable[Language]) -> Iterator[tuple[str, str]]:
    """Every example as HTML, by the name of its file; English is in no name."""
    for language in languages:
        ending = "" if language is Language.ENGLISH else f"-{language.value}"
        for mail in examples(product, language):
            yield f"{mail.kind.value}{ending}", mail.html
        for name, html in pages(product, language):
            yield f"{name}{ending}", html


def take_pictures(
    browser: str,
    directory: Path,
    product: Product = LIGHTHOUSE,
    languages: Iterable[Language] = tuple(Language),
) -> Iterator[Path]:
    """Renders every example in every window; reports each picture when it is ready."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, html in files(product, languages):
            page = Path(temporary) / f"{name}.html"
            # The example's logo does not exist on the web.
            shown = html.replace(LIGHTHOUSE.logo_url, _LOGO.as_uri())
            page.write_text(shown, encoding="utf-8")
            for window in IN_SHORT if "-" in name else WINDOWS:
                picture = directory / f"{name}-{window}.png"
                _take(browser, page, picture, window)
                yield picture


def _take(browser: str, page: Path, picture: Path, window: str) -> None:
    width, height, is_dark = WINDOWS[window]
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-quic", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            f"--user-data-dir={page.parent}/profile-{picture.stem}",
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if is_dark else 1}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
