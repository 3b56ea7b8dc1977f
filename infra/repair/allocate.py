"""Allocates everything due to some users through a period, and says why others get nothing.

    python -m infra allocate --period 2026-07 --user-id 42      (make allocate ...)

The rules are those of the workers. The allocated period only moves forward, so missed periods are
granted first, oldest first. Nothing is granted that is not due, and nothing twice.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import FieldError, InvalidInput
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.ledger import Account
from chalicelib.domain.subscriptions import Subscription, not_due_because
from chalicelib.operations.allocations import next_due_allocation
from chalicelib.services import Services
from infra import session
from infra.repair import command
from infra.repair.command import Repair, RepairError, Summary, parsed

USERS_A_PAGE = 1_000
MOST_SHOWN = 50


class Reason(NamedTuple):
    """Why a user received nothing: a code for programs, a text for people."""

    code: str
    words: str


NO_SUCH_USER = Reason("no_such_user", "There is no user of this id.")


class Outcome(NamedTuple):
    """What a user received, oldest period first; if nothing, ``because`` says why."""

    granted: list[LedgerEntry]
    because: Reason | None = None


class Allocating:
    """Allocates everything due through one period."""

    def __init__(self, services: Services, period: Period) -> None:
        self._services = services
        self._period = period

    def preview(self, user_id: str) -> Outcome:
        """What a user would receive; writes nothing."""
        subscription = self._services.subscriptions.find(user_id)
        if subscription is None:
            return Outcome([], NO_SUCH_USER)
        account = self._services.ledger.account(user_id)
        if because := self._because(account, subscription):
            return Outcome([], because)
        granted: list[LedgerEntry] = []
        while entry := self._next(account, subscription):
            granted.append(entry)
            account = Account(user_id, entry)
        return Outcome(granted)

    def post(self, user_id: str) -> Outcome:
        """Grants what is due to a user."""
        subscription = self._services.subscriptions.find(user_id)
        if subscription is None:
            return Outcome([], NO_SUCH_USER)
        because: Reason | None = None

        def decide(account: Account) -> LedgerEntry | None:
            nonlocal because
            because = self._because(account, subscription)
            return None if because else self._next(account, subscription)

        granted = self._services.ledger.post(user_id, decide)
        return Outcome(granted, None if granted else because)

    def _because(self, account: Account, subscription: Subscription) -> Reason | None:
        reason = not_due_because(
            subscription,
            self._services.catalogue,
            account.allocated_through,
            self._period,
            self._services.now(),
        )
        return Reason(reason.value, reason.words) if reason else None

    def _next(self, account: Account, subscription: Subscription) -> LedgerEntry | None:
        now = self._services.now()
        entry = next_due_allocation(self._services, account, subscription, now, now)
        if entry is None or entry.allocated_through is None:
            return None
        return entry if entry.allocated_through <= self._period else None


def users_of(services: Services, arguments: argparse.Namespace) -> list[str]:
    """The users of the command, each once. Raises `InvalidInput` and `RepairError`."""
    if arguments.user_id:
        return [parsed("--user-id", parse_user_id, arguments.user_id)]
    if arguments.file:
        return _users_in(arguments.file)
    timezone = parsed("--zone", calendar.parse_timezone, arguments.zone)
    pages = services.subscriptions.pages_of(timezone, USERS_A_PAGE)
    return [user_id for page in pages for user_id in page.user_ids]


def _users_in(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RepairError(f"{file} cannot be read: {error}") from error
    users: dict[str, None] = {}
    wrong: list[FieldError] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                users[parse_user_id(f"{file}, line {number}", line.strip())] = None
            except InvalidInput as error:
                wrong += error.errors
    if wrong:
        raise InvalidInput(wrong[:MOST_SHOWN])
    if not users:
        raise RepairError(f"{file} names nobody: it must have a user id on each line")
    return list(users)


def allocate(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    period = parsed("--period", lambda field, value: Period.parse(value, field), arguments.period)
    users = users_of(repair.services, arguments)
    allocating = Allocating(repair.services, period)
    previewed = repair.each("Looking at users", users, allocating.preview)
    due = [
        user
        for user, outcome in previewed.items()
        if isinstance(outcome, Exception) or outcome.granted
    ]
    credits_due = sum(
        entry.amount
        for outcome in previewed.values()
        if not isinstance(outcome, Exception)
        for entry in outcome.granted
    )
    what = f"grant {credits_due:,} credits to {len(due):,} of {len(users):,} users"
    if not due or not repair.is_agreed(f"{what}, all that is due to them through {period}"):
        return _summary(repair, period, previewed, "Due")
    posted = repair.each("Allocating", due, allocating.post)
    return _summary(repair, period, previewed | posted, "Granted")


def _summary(
    repair: Repair, period: Period, outcomes: dict[str, Outcome | Exception], verb: str
) -> Summary:
    users = [_fact(user, outcome) for user, outcome in outcomes.items()]
    # Users who receive something, and failures, come first: a zone has many users who are not due.
    shown = sorted(users, key=lambda user: "granted" not in user and "failure" not in user)
    repair.show(
        f"Allocation through {period}", ("user", verb.lower()), map(_row, shown[:MOST_SHOWN])
    )
    if len(shown) > MOST_SHOWN:
        repair.say(f"... and {len(shown) - MOST_SHOWN:,} more; --json has all of them")
    granted = [allocation for user in users for allocation in user.get("granted", ())]
    failures = [user for user in users if "failure" in user]
    reasons = Counter(user["because"]["code"] for user in users if "because" in user)
    amount = sum(allocation["amount"] for allocation in granted)
    text = (
        f"{verb}: {amount:,} credits in {len(granted):,} allocations, to "
        f"{sum('granted' in user for user in users):,} of {len(users):,} users."
    )
    if reasons:
        counted = ", ".join(f"{count:,} {code}" for code, count in sorted(reasons.items()))
        text += f" Nothing: {counted}."
    if failures:
        text += f" {len(failures):,} failed: run it again."
    is_anybody = not users or reasons[NO_SUCH_USER.code] < len(users)
    is_complete = not failures and is_anybody
    return Summary(text, {"period": str(period), "users": users}, is_complete=is_complete)


def _fact(user_id: str, outcome: Outcome | Exception) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"user_id": user_id, "failure": session.words(outcome)}
    if outcome.because:
        return {"user_id": user_id, "because": outcome.because._asdict()}
    return {
        "user_id": user_id,
        "granted": [
            {"period": str(entry.allocated_through), "amount": entry.amount}
            | {"transaction_id": entry.transaction_id}
            | ({"left_out": entry.left_out} if entry.left_out else {})
            for entry in outcome.granted
        ],
    }


def _row(user: dict[str, Any]) -> tuple[str, str]:
    if "failure" in user:
        return user["user_id"], f"FAILED: {user['failure']}"
    if "because" in user:
        return user["user_id"], f"nothing: {user['because']['words']}"
    return user["user_id"], ", ".join(map(_words, user["granted"]))


def _words(granted: dict[str, Any]) -> str:
    left_out = f" ({granted['left_out']:,} left out)" if "left_out" in granted else ""
    return f"{granted['amount']:,} for {granted['period']}{left_out}"


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = command.parser_of("allocate", "Allocates what is due to users through a period.")
    parser.add_argument("--period", required=True, help="the month, such as 2026-07")
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument("--user-id", help="allocate to one user")
    whom.add_argument("--file", type=Path, help="allocate to the users of a file, one id a line")
    whom.add_argument("--zone", help="allocate to everybody in a timezone, such as Europe/Paris")
    return command.run(parser, allocate, words)


if __name__ == "__main__":
    sys.exit(main())
