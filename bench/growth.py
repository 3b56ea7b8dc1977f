"""Measures whether an operation costs the same after ledgers and zones have grown.

One user's ledger of 10, 1,000 and 100,000 entries: balance, a page of history, a use. A zone of
1,000 and of 100,000 users: each page of its sweep. Requests, units and CPU, in this process,
against `bench.database`, interleaved.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.database import Database, serving
from bench.workload import ENVIRONMENT, MIDNIGHT, Context, set_clock, sqs_event, subscription

SIZES = (10, 100_000)
ZONES = {"Europe/Paris": 1_000, "Europe/Berlin": 100_000}
TIMES = 20
"""Calls in a row. Turns are short, so that a slow moment affects both sizes."""

TURNS_A_ROUND = 20


def _ledger(database: Database, user_id: str, size: int) -> None:
    from datetime import UTC, datetime, timedelta

    from chalicelib.domain import ledger
    from chalicelib.domain.entries import entry_hash
    from chalicelib.domain.ledger import Account, Request

    account = Account(user_id)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    grant = ledger.grant(account, 10**9, Request("opening", "bench", "-"), moment, "UTC", None)
    entry, posted = grant, []
    for number in range(size):
        if number:
            request = Request(f"usage#bench#{number}", "bench", "Report")
            entry = ledger.use(account, 1, request, moment + timedelta(seconds=number))
        account = Account(user_id, entry, entry_hash(account.last_hash, user_id, entry.body()))
        item = {
            "user_id": {"S": user_id},
            "entry": {"S": f"entry#{entry.number:012}"},
            "body": {"S": entry.body()},
            "hash": {"S": account.last_hash},
        }
        posted.append({"PutRequest": {"Item": item}})
    for start in range(0, size, 1000):
        database.control("write", RequestItems={"ledger": posted[start : start + 1000]})


def _cost(database: Database, act: Callable[[], object], times: int) -> dict[str, float]:
    database.control("counts")
    before = time.process_time()
    for _ in range(times):
        act()
    cpu = time.process_time() - before
    counts = database.control("counts")
    return {
        "cpu": cpu / times,
        "requests": sum(counts["requests"].values()) / times,
        "units": (counts["read"] + counts["write"]) / times,
    }


def _sweep(database: Database, zone: str) -> None:
    """A zone and its ranges, one after the other."""
    import app

    body = {"kind": "allocation", "timezone": zone}
    body |= dict.fromkeys(("first_midnight", "midnight", "as_of"), MIDNIGHT)
    waiting = [json.dumps(body)]
    while waiting:
        app.sweep_zone(sqs_event([waiting.pop()], "sweeps"), Context())
        waiting += (sent for sent in database.control("messages") if '"kind"' in sent)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """For each operation the greatest ratio of large to small, over requests, units and CPU."""
    with serving() as database:
        set_clock(MIDNIGHT)
        os.environ.update(ENVIRONMENT | {"AWS_ENDPOINT_URL": database.endpoint})
        from chalicelib.operations import on_request
        from chalicelib.services import services

        for size in SIZES:
            _ledger(database, f"of-{size}", size)
        for zone, users in ZONES.items():
            item = subscription("pro") | {
                "timezone": {"S": zone},
                "allocation_timezone": {"S": zone},
                "anniversary": {"S": f"{zone}#01"},
            }
            database.control("seed", prefix=zone.replace("/", "-"), users=users, subscription=item)
        keys = iter(range(10**9))

        def use(size: int) -> object:
            return on_request.use_credits(
                services(), f"of-{size}", 1, "Report", caller="b", key=f"growth-{next(keys)}"
            )

        acts: dict[str, Callable[[int], object]] = {
            "balance as a ledger grows": lambda size: services().ledger.account(f"of-{size}"),
            "history page as a ledger grows": lambda size: services().ledger.page(f"of-{size}", 8),
            "use as a ledger grows": use,
        }
        found: dict[str, dict[int, list[dict[str, float]]]] = {
            name: {size: [] for size in SIZES} for name in acts
        }
        for turn in range(TURNS_A_ROUND * rounds):
            for name, act in acts.items():
                for size in SIZES if turn % 2 else reversed(SIZES):
                    found[name][size].append(
                        _cost(database, lambda act=act, size=size: act(size), TIMES)  # type: ignore[misc]
                    )
        zones: dict[int, list[dict[str, float]]] = {users: [] for users in ZONES.values()}
        for _ in range(rounds):
            for zone, users in ZONES.items():
                times = 100_000 // users
                cost = _cost(database, lambda zone=zone: _sweep(database, zone), times)  # type: ignore[misc]
                zones[users].append({name: value / users for name, value in cost.items()})
        found["sweep as a zone grows"] = zones
    return {name: _compared(sizes) for name, sizes in found.items()}


def _compared(sizes: dict[int, list[dict[str, float]]]) -> dict[str, float]:
    small, large = (
        {
            name: statistics.median(cost[name] for cost in sizes[size])
            for name in ("cpu", "requests", "units")
        }
        for size in (min(sizes), max(sizes))
    )
    ratios: dict[str, Any] = {
        name: round(large[name] / small[name], 3) for name in small if small[name]
    }
    return {"ratio": max(ratios.values()), **ratios, "cpu_us": round(large["cpu"] * 1e6, 2)}
