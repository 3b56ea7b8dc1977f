"""Sends the events of a user again, from the ledger: from an entry or an instant on.

    python -m infra events --user-id 42 --from 17     (make events USER_ID=42 FROM=17)

An event that is sent again has the same content and id, so a consumer that knows it does nothing.
The functions of the stage publish them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from chalicelib.domain.errors import InvalidInput, Unreadable
from chalicelib.domain.fields import ENTRY_NUMBER, parse_user_id, shown
from chalicelib.domain.instants import parse_instant
from chalicelib.jobs.events import messages_of
from chalicelib.queues import Queues
from chalicelib.settings import Settings
from chalicelib.store.database import Item
from chalicelib.store.ledger_items import number_of, read_entry
from infra.deployment import shadows
from infra.repair.command import Repair, RepairError, Summary, parsed

READER = "queue-notifications"
"""The function that sends the events the first time; we use its settings."""


def parse_start(field: str, value: object) -> int | datetime:
    """The number of an entry, or an instant."""
    if isinstance(value, str) and ENTRY_NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, str) and re.match(r"[0-9]{4}-", value):
        return parse_instant(field, value)
    raise InvalidInput.of(
        field,
        "must be the number of an entry, such as 17, or an instant, such as 2026-12-01T00:00:00Z; "
        f"is {shown(value)}",
    )


def send_again(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    user_id = parsed("--user-id", parse_user_id, arguments.user_id)
    start = parsed("--from", parse_start, arguments.first)
    settings = _settings(repair)
    wanted = list(_numbers(repair, user_id, start))
    facts: dict[str, Any] = {"user_id": user_id, "entries": len(wanted), "sent": 0}
    if not wanted:
        return Summary(f"User {user_id} has no entry from {arguments.first} on.", facts)
    entries = f"entry {wanted[0]}" if len(wanted) == 1 else f"entries {wanted[0]} to {wanted[-1]}"
    if not repair.is_agreed(f"send the events of {entries} of user {user_id} again"):
        return Summary(f"User {user_id} has {len(wanted):,} of these entries.", facts)
    unreadable: list[int] = []
    queues = Queues(settings, client=repair.reach.client("sqs"))
    of_user = repair.services.ledger.items(user_id)
    # The stream reports what was posted meanwhile.
    items = (item for item in of_user if wanted[0] <= number_of(item) <= wanted[-1])
    facts["sent"] = queues.send_events(
        body
        for item in repair.follow("Sending events", items, len(wanted))
        for body in _bodies(item, settings.low_balance, unreadable)
    )
    lost = f" Entries {unreadable} cannot be read: make verify." if unreadable else ""
    text = f"Sent {facts['sent']:,} events of {entries}; they are published now.{lost}"
    return Summary(text, {**facts, "unreadable": unreadable}, is_complete=not unreadable)


def _settings(repair: Repair) -> Settings:
    """The queue of the stage's events, and its low balance."""
    function = repair.reach.client("lambda").get_function_configuration(
        FunctionName=repair.reach.functions[READER]
    )
    variables = function["Environment"]["Variables"]
    if variables.get("SHADOW_UNTIL") == shadows.ON:
        raise RepairError(f"Stage {repair.reach.stage} is a shadow: {shadows.IS_ONE}")
    url = variables.get("EVENTS_QUEUE_URL")
    if not url:
        raise RepairError(
            f'Stage {repair.reach.stage} sends no events. Set Events = "on" under it in '
            "infra/parameters.toml and deploy: docs/events.md"
        )
    low_balance = int(variables.get("LOW_BALANCE") or 0)
    return repair.services.settings._replace(events_queue_url=url, low_balance=low_balance)


def _numbers(repair: Repair, user_id: str, start: int | datetime) -> Iterator[int]:
    """The numbers of the entries from the start on."""
    is_after = False
    for item in repair.services.ledger.items(user_id):
        number = number_of(item)
        # Time never runs backwards in a ledger, so all others follow the first of them.
        is_after = is_after or (
            number >= start if isinstance(start, int) else read_entry(item).posted_at >= start
        )
        if is_after:
            yield number


def _bodies(item: Item, low_balance: int, unreadable: list[int]) -> list[str]:
    try:
        return messages_of(item, low_balance)
    except Unreadable:
        unreadable.append(number_of(item))
        return []
