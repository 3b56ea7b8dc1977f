"""The users to whom a file gives credit batches: whether they exist, and have room for them."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from chalicelib.domain.errors import Unreadable
from chalicelib.domain.ledger import MOST_OPEN_BATCHES, Account
from chalicelib.domain.subscriptions import Subscription
from chalicelib.services import Services
from infra.imports.csv_file import Finding, Row
from infra.imports.importing import Watch, read_many, unreadable, user_id_of


class Receiver(NamedTuple):
    """A registered user, and their account."""

    subscription: Subscription
    account: Account


class Receivers(NamedTuple):
    """The users who can get their batches, by user id, and the rows of the others."""

    found: dict[str, Receiver]
    findings: list[Finding]


class Registered(NamedTuple):
    """The rows of registered users, by user id, and the problems of the other rows."""

    found: dict[str, list[Row]]
    strangers: list[Finding]


def registered_of(services: Services, rows: list[Row], watch: Watch) -> Registered:
    """Looks for the users of rows."""
    by_user: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_user[user_id_of(row)].append(row)
    known = read_many(
        list(by_user),
        lambda user_ids: services.subscriptions.get_many(user_ids, consistent=True),
        watch("Looking for the users", len(by_user)),
    )
    registered = Registered({}, [])
    for user_id, of_user in by_user.items():
        if user_id in known:
            registered.found[user_id] = of_user
        else:
            reason = f"there is no user {user_id}; import their subscription first"
            registered.strangers.extend(
                Finding(row.problem("user_id", reason), [row]) for row in of_user
            )
    return registered


def receivers_of(services: Services, rows: list[Row], watch: Watch) -> Receivers:
    """Reads the users of rows that give a batch each.

    Rows are wrong if their user is not registered or cannot be read, or would have too many open
    batches.
    """
    registered = registered_of(services, rows, watch)
    found = registered.found
    read = read_many(
        list(found),
        lambda user_ids: {user_id: _receiver(services, user_id) for user_id in user_ids},
        watch("Reading their balances", len(found)),
        at_once=1,
    )
    receivers = Receivers({}, registered.strangers)
    for user_id, of_user in found.items():
        receiver = read[user_id]
        if isinstance(receiver, Unreadable):
            receivers.findings.append(cannot_read("user_id", receiver, of_user))
        elif (is_open := len(receiver.account.batches)) + len(of_user) > MOST_OPEN_BATCHES:
            reason = (
                f"user {user_id} has {is_open:,} open credit batches, and the file has "
                f"{len(of_user):,} more; {MOST_OPEN_BATCHES:,} are the most allowed: make one row "
                "of several"
            )
            receivers.findings.append(Finding(of_user[0].problem("user_id", reason), of_user))
        else:
            receivers.found[user_id] = receiver
    return receivers


def _receiver(services: Services, user_id: str) -> Receiver | Unreadable:
    """A registered user, or why the subscription or the account cannot be read."""
    try:
        return Receiver(services.subscriptions.get(user_id), services.ledger.account(user_id))
    except Unreadable as error:
        return error


def cannot_read(column: str, error: Unreadable, rows: list[Row]) -> Finding:
    """The rows that cannot be compared with the stored data."""
    return Finding(rows[0].problem(column, unreadable(error)), rows)
