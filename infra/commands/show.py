"""Shows everything needed to answer a user: who they are, what they have, and why.

    python -m infra show 42 [--stage prod]             (make show USER_ID=42)
    python -m infra show --email ada@example.com       (make show EMAIL=ada@example.com)

It only reads. If a part cannot be read, the reason takes its place, and the rest is shown. With
``--json`` the parts are in the API's format.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from chalicelib.api.answers import balance_at, email_line, line, why_not
from chalicelib.domain import calendar
from chalicelib.domain.addresses import parse_email
from chalicelib.domain.edits import shown_fields
from chalicelib.domain.errors import (
    CreditsError,
    InvalidInput,
    LedgerCorrupt,
    NotFound,
    Unreadable,
)
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.subscriptions import Subscription, next_allocation, no_allocation_because
from chalicelib.operations.emails import emails_about
from chalicelib.services import Services
from infra import reach, session
from infra.arguments import add_stage
from infra.faults import FAULTS
from infra.local import stacks

WIDTH = 80
"""The columns of a terminal by default."""

LINES = 10
"""How many of the last lines of a ledger are shown, and the emails about them."""

MOST_SHOWN = 20
"""How many batches or holds are shown; ``--json`` has all."""

MOST_NAMED = 20
"""How many users of one address are named."""

Json = dict[str, Any]


def main(words: list[str] | None = None) -> int:
    """Reads the command line and shows the user; the exit status is 1 for an unknown user."""
    parser = argparse.ArgumentParser(
        prog="python -m infra show",
        description="Shows a user: subscription, next credits, balance, last lines, emails.",
    )
    parser.add_argument("user_id", nargs="?", metavar="USER_ID", help="the user")
    parser.add_argument("--email", help="the user whose emails go to this address")
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    arguments = parser.parse_args(words)
    try:
        wanted = _wanted(arguments)
        services = reach.services_of(arguments.stage, arguments.region)
        user_id = wanted if arguments.email is None else _user_with(services, wanted)
        found = facts_about(services, user_id)
    except (CreditsError, stacks.NotRunningError, session.AwsError, *FAULTS) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    print(json.dumps(found) if arguments.json else "\n".join(page(found)))
    return 0


def _wanted(arguments: argparse.Namespace) -> str:
    """The user id or the address. Raises `InvalidInput`."""
    if (arguments.user_id is None) == (arguments.email is None):
        raise InvalidInput.of("make show", "needs one of USER_ID=42, EMAIL=ada@example.com")
    if arguments.email is not None:
        return parse_email("EMAIL", arguments.email)
    return parse_user_id("USER_ID", arguments.user_id)


def _user_with(services: Services, address: str) -> str:
    """The only user with an address. Raises `NotFound` and `InvalidInput`."""
    user_ids, _ = services.subscriptions.users_with(address, None, MOST_NAMED)
    if not user_ids:
        raise NotFound(
            "nobody has this address. Ask for the one of their account, or for their id: "
            "make show USER_ID=..."
        )
    if len(user_ids) > 1:
        named = ", ".join(user_ids)
        raise InvalidInput.of("EMAIL", f"belongs to several users; choose one: USER_ID= {named}")
    return user_ids[0]


def facts_about(services: Services, user_id: str) -> Json:
    """Everything shown of a user, in the API's format. Raises `NotFound` for an unknown user.

    A part that cannot be read is ``{"error": ...}``.
    """
    wrong: dict[str, Json] = {}
    subscription: Subscription | None = None
    account: Account | None = None
    try:
        subscription = services.subscriptions.find(user_id)
    except Unreadable as error:
        wrong["subscription"] = {"error": str(error)}
    try:
        account = services.ledger.account(user_id)
        page = services.ledger.page(user_id, LINES)
    except (LedgerCorrupt, Unreadable) as error:
        said = f"{error}. Next: make verify USER_ID={user_id}"
        wrong |= {part: {"error": said} for part in ("balance", "history", "emails")}
        entries = []
    else:
        entries = page.entries
    if subscription is None and not wrong and not entries:
        raise NotFound(
            f"there is no user {user_id}, and never was one with credits. Look for them by their "
            "address: make show EMAIL=..."
        )
    now = account.time(services.now()) if account else services.now()
    found: Json = {
        "user_id": user_id,
        "as_of": format_instant(now),
        "subscription": subscription and shown_fields(subscription),
        **_next(services, subscription, account, now),
        "balance": account and balance_at(account, now),
        "history": [line(entry) for entry in entries],
        "emails": [email_line(each) for each in emails_about(services, entries, subscription)],
    }
    return found | wrong


def _next(
    services: Services, subscription: Subscription | None, account: Account | None, now: datetime
) -> Json:
    """The next credits, or why none will come."""
    if subscription is None or account is None:
        return {"next_allocation": None, "not_allocated_because": None}
    asked = (subscription, services.catalogue, account.allocated_through, now)
    upcoming, reason = next_allocation(*asked), no_allocation_because(*asked)
    coming = upcoming and {"at": format_instant(upcoming.at), "amount": upcoming.amount}
    return {"next_allocation": coming, "not_allocated_because": why_not(reason)}


# --- For people ---------------------------------------------------------------------------------


def page(found: Json) -> list[str]:
    """What is shown of a user, as lines for a terminal; instants are UTC."""
    return [
        f"User {found['user_id']}, as of {_time(found['as_of'])} (all times are UTC)",
        "",
        *_subscription(found),
        *_balance(found["balance"]),
        *_history(found["history"]),
        *_emails(found["emails"]),
    ]


def _subscription(found: Json) -> list[str]:
    subscription = found["subscription"]
    if subscription is None:
        return ["Subscription  none: erased, or never registered; the ledger stays", ""]
    if "error" in subscription:
        return _wrong("Subscription", subscription)
    email = subscription["email"] or "none: they get no emails"
    if because := subscription["mail_suppressed_because"]:
        email += f" (no emails: {because})"
    facts = {
        "plan": f"{subscription['plan']}, {subscription['billing_interval']}, "
        f"{subscription['status']}",
        "email": email,
        "timezone": _timezone(subscription["timezone"], found["as_of"]),
        "started": _time(subscription["started_at"]),
        "eligible from": _moment(subscription["eligible_from"]),
        "ends": subscription["ends_at"] and _time(subscription["ends_at"]),
        "own amount": subscription["allocation_amount"],
        "next credits": _next_words(found),
    }
    shown = [f"  {name:<14}{value}" for name, value in facts.items() if value is not None]
    return ["Subscription", *shown, ""]


def _next_words(found: Json) -> str:
    coming, reason = found["next_allocation"], found["not_allocated_because"]
    if coming:
        return f"{coming['amount']:,} at {_time(coming['at'])}"
    return f"none: {reason['words']}" if reason else "unknown"


def _balance(balance: Json | None) -> list[str]:
    if balance is None:
        return []
    if "error" in balance:
        return _wrong("Balance", balance)
    together = (
        f"Balance  {balance['available_balance']:,} available, {balance['held_balance']:,} held, "
        f"{balance['ledger_balance']:,} in the ledger"
    )
    batches = [
        (
            batch["batch_id"].rpartition("-")[2],
            f"{batch['remaining_amount']:,}",
            f"{batch['granted_amount']:,}",
            f"{batch['held_amount']:,}",
            _time(batch["granted_at"]),
            _time(batch["expires_at"]) if batch["expires_at"] else "never",
            batch["source"] or "",
        )
        for batch in balance["batches"]
    ]
    heads = ("batch", ">left", ">of", ">held", "granted", "expires", "source")
    shown = [together, "", *_table("Batches, in the order of the grants", heads, batches)]
    holds = [
        (hold["hold_id"].rpartition("-")[2], f"{hold['amount']:,}", _time(hold["expires_at"]))
        for hold in balance["holds"]
    ]
    return shown + _table("Holds", ("hold", ">amount", "ends"), holds)


def _history(history: Any) -> list[str]:
    if isinstance(history, dict):
        return _wrong("Last lines", history)
    rows = [
        (
            entry["transaction_id"].rpartition("-")[2],
            _time(entry["posted_at"]),
            entry["type"],
            f"{entry['amount']:+,}",
            f"{entry['balance_after']:,}",
            entry["description"],
        )
        for entry in history
    ]
    heads = (">#", "posted", "type", ">amount", ">balance", "description")
    return _table("Last lines, newest first", heads, rows)


def _emails(emails: Any) -> list[str]:
    if isinstance(emails, dict):
        return []  # the history shows it
    rows = [
        (
            each["transaction_id"].rpartition("-")[2],
            each["state"],
            _time(each["sent_at"]) if each["sent_at"] else "",
            each["subject"] or each["type"],
        )
        for each in emails
    ]
    return _table("Emails about these lines", (">#", "state", "sent", "subject"), rows)


def _wrong(what: str, part: Json) -> list[str]:
    return [f"{what}  CANNOT BE READ: {part['error']}", ""]


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table under its title: a head beginning with > is right-aligned; the last column is cut."""
    if not rows:
        return [f"{title}: none", ""]
    more = [f"  ... and {len(rows) - MOST_SHOWN:,} more; JSON=1 has all"][: len(rows) > MOST_SHOWN]
    rows = rows[:MOST_SHOWN]
    names = [head.removeprefix(">") for head in heads]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]

    def shown(cells: Iterable[str]) -> str:
        words = [
            cell.rjust(width) if head.startswith(">") else cell.ljust(width)
            for cell, width, head in zip(cells, widths, heads, strict=True)
        ]
        text = "  " + "  ".join(words).rstrip()
        return text if len(text) <= WIDTH else f"{text[: WIDTH - 3].rstrip()}..."

    return [title, shown(names), *map(shown, rows), *more, ""]


def _time(text: str) -> str:
    """An instant to the minute."""
    return f"{parse_instant('', text):%Y-%m-%d %H:%M}"


def _moment(text: str) -> str:
    """An instant, or a local date as it is."""
    return _time(text) if "T" in text else text


def _timezone(timezone: str, as_of: str) -> str:
    if not calendar.is_known(timezone):
        return f"{timezone}, which is UNKNOWN: give the user another"
    local = parse_instant("", as_of).astimezone(calendar.zone(timezone))
    return f"{timezone}, where it is {local:%A %H:%M}"


if __name__ == "__main__":
    sys.exit(main())
