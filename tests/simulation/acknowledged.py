"""What is acknowledged was done: nobody will ask for it again.

A tick that succeeded has started its sweeps; a sweep that is off its queue has handed on every
user, or the rest of the sweep; a worker's message has left nothing due; the stream's records have
their emails asked for. It holds whatever went wrong on the way, for what went wrong is reported.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.store import ledger_items
from tests.simulation import reference
from tests.simulation.aws import Message
from tests.simulation.reference import DAY, require, show

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

Json = dict[str, Any]

REMINDED_DAYS = 3
"""How many days before credits expire their user is told (``EXPIRING_SOON_DAYS``)."""


def tick_is_done(oracle: "Oracle", kind: str, time: datetime, zones: Iterable[str]) -> None:
    wanted = set()
    plans = reference.plans_at().values()
    own = [plan.get("allocate_on") == "anniversary" for plan in plans]
    days = [*([None] if not all(own) else []), *(range(1, 32) if any(own) else [])]
    for sweep in (kind, "reminder") if kind == "expiry" else (kind,):
        for timezone in zones:
            for day in days if sweep == "allocation" else [None]:
                midnights = reference.midnights_swept(timezone, time, sweep, day)
                if midnights:
                    ends = show(min(midnights)), show(max(midnights))
                    wanted.add((sweep, timezone, day, *ends))
    found = {
        (body["kind"], body["timezone"], body.get("day"), body["first_midnight"], body["midnight"])
        for body in oracle.sent_to("sweeps")
        if body["as_of"] == show(time) and body["range"] is None
    }
    require(wanted <= found, "sweeps were not started:", wanted - found)
    require(found <= wanted, "sweeps were started that are not due:", found - wanted)


def run_is_started(oracle: "Oracle", timezone: str, start: datetime) -> None:
    """``start``: the last instant at which the month begins for anybody there."""
    found = [(body["kind"], body["timezone"], body["as_of"]) for body in oracle.sent_to("sweeps")]
    require(("allocation", timezone, show(start)) in found, "the run was not started:", found)


# --- Messages -------------------------------------------------------------------------------------


def message_is_done(oracle: "Oracle", queue: str, message: Message) -> None:
    """A message will not be delivered again."""
    body = json.loads(message.body)
    if queue == "sweeps":
        _sweep_is_done(oracle, body)
    elif queue in ("allocations", "expiries"):
        users_are_done(oracle, queue, message, spared=())
        if queue == "allocations":
            _nobody_is_stranded(oracle, body["user_ids"])


def _nobody_is_stranded(oracle: "Oracle", user_ids: Iterable[str]) -> None:
    """Of a plan that has left the catalogue nobody knows what it owes: that is not nothing."""
    for user_id in user_ids:
        if user_id in oracle.subscriptions and not oracle.may_be_unseen(user_id):
            known = oracle.candidates(user_id)
            is_stranded = all(version.is_stranded for version in known)
            require(not is_stranded, "what is owed to a stranded user is forgotten:", known[-1])


def users_are_done(oracle: "Oracle", queue: str, message: Message, spared: Iterable[str]) -> None:
    """Nothing is left due to the users of a message, but for those who are ``spared``."""
    body = json.loads(message.body)
    now = oracle.world.clock
    as_of = datetime.fromisoformat(body["as_of"])
    for user_id in body["user_ids"]:
        if user_id in spared or user_id not in oracle.subscriptions:
            continue
        ledger = oracle.ledger(user_id)
        if queue == "expiries":
            require(ledger.expire(now) is None, "not expired for user", user_id)
        elif not oracle.may_be_unseen(user_id):
            # Whatever was read: if all of it says the same, then that must be done.
            known = oracle.candidates(user_id)
            due = [version.due(ledger.through, as_of, now) for version in known]
            require(not all(due), "not allocated to user", user_id, due)


def _sweep_is_done(oracle: "Oracle", sweep: Json) -> None:
    kind = sweep["kind"]
    asked = _asked_of_sweep(oracle, sweep)
    if kind == "reminder":
        reminded = {
            (body["user_id"], body["expires_at"])
            for body in oracle.sent_to("notifications")
            if "expires_at" in body
        }
        missing = [(u, key) for u, key in asked if (u, key.partition("#")[0]) not in reminded]
    else:
        handed_on = {
            user_id
            for body in oracle.sent_to("allocations" if kind == "allocation" else "expiries")
            if body["as_of"] == sweep["as_of"]
            for user_id in body["user_ids"]
        }
        missing = [(u, key) for u, key in asked if u not in handed_on]
    own = {"cursor": 0, "range": 0, "correlation_id": 0}
    rest = [
        body
        for body in oracle.sent_to("sweeps")
        if {**body, **own} == {**sweep, **own}
        # A sweep that is divided into itself would go on for ever.
        and len(body["range"] or "") > len(sweep["range"] or "")
    ]
    missing = [lost for lost in missing if not any(_covers(part, *lost) for part in rest)]
    require(not missing, "a sweep is over and has left out", missing, "of", sweep)


def _asked_of_sweep(oracle: "Oracle", sweep: Json) -> Iterator[tuple[str, str]]:
    """Whom a sweep must hand on, each with the key by which an expiry is found."""
    timezone = sweep["timezone"]
    after, until = _ends_of_sweep(sweep) if sweep["kind"] != "allocation" else (None, None)
    for user_id in oracle.subscriptions:
        if after is None or until is None:
            known = oracle.candidates(user_id)
            day = sweep.get("day")
            is_found = all(
                version.is_swept
                and version.timezone == timezone
                and day in (None, reference.local_day(timezone, version.started_at).day)
                for version in known
            )
            is_sure = is_found and not oracle.may_be_unseen(user_id)
            found = [(user_id, user_id)] if is_sure else []
        else:
            found = [
                (user_id, f"{show(line.sweep[1])}#{user_id}#{number}")
                for number, line in enumerate(oracle.ledger_seen(user_id).lines, 1)
                if line.sweep and line.sweep[0] == timezone and after < line.sweep[1] <= until
                # Nobody is reminded of the end of a hold.
                if line.grant or sweep["kind"] == "expiry"
            ]
        for user, key in found:
            if _covers(sweep, user, key):
                yield user, key


def _ends_of_sweep(sweep: Json) -> tuple[datetime, datetime]:
    """After which end of credits a sweep begins, and which is its last."""
    timezone = sweep["timezone"]
    first, last = (datetime.fromisoformat(sweep[name]) for name in ("first_midnight", "midnight"))
    if sweep["kind"] == "expiry":
        day_before = reference.running_day(timezone, first - timedelta(seconds=1))
        after, until = reference.midnight(timezone, day_before), last
    else:
        days = REMINDED_DAYS * DAY
        first_day = reference.local_day(timezone, first) + days
        after = reference.midnight(timezone, first_day - DAY)
        until = reference.midnight(timezone, reference.local_day(timezone, last) + days)
    return after, until


def _covers(sweep: Json, user_id: str, key: str) -> bool:
    """Whether a sweep comes to a user, or to a batch of theirs: in its range, behind its cursor."""
    place, bits = _place(user_id), sweep["range"] or ""
    position: tuple[object, ...] = (place, user_id)
    if sweep["kind"] != "allocation":
        shard_bits = ledger_items.EXPIRY_SHARDS.bit_length() - 1
        shard = zlib.crc32(user_id.encode()) % ledger_items.EXPIRY_SHARDS
        place, position = f"{shard:0{shard_bits}b}{place}", (shard, key)
    if sweep["cursor"] is None:
        return place.startswith(bits)
    after = sweep["cursor"].removeprefix(f"{sweep['timezone']} ")
    if sweep["kind"] == "allocation":
        return place.startswith(bits) and position > (_place(after), after)
    number, _, last_key = after.partition(" ")
    return place.startswith(bits) and position > (int(number), last_key)


def _place(user_id: str) -> str:
    """Where a user is in a zone, in bits."""
    return "".join(f"{byte:08b}" for byte in hashlib.sha256(user_id.encode()).digest()[:4])


# --- The stream -----------------------------------------------------------------------------------


def stream_is_done(oracle: "Oracle", records: Sequence[Json]) -> None:
    """Records of the stream will not come again: each email they call for is asked for."""
    asked = {
        (body["user_id"], body["number"])
        for body in oracle.sent_to("notifications")
        if "number" in body
    }
    for record in records:
        keys = record["dynamodb"]["Keys"]
        user_id, key = keys["user_id"]["S"], keys["entry"]["S"]
        if not key.startswith("entry#"):
            continue
        number = int(key.removeprefix("entry#"))
        before = oracle.ledger(user_id).until(number - 1)
        line = oracle.ledger(user_id).lines[number - 1]
        if any(reference.mail_of(line, before, c) for c in oracle.candidates(user_id)):
            is_asked = (user_id, number) in asked
            require(is_asked, "no mail was asked for entry", number, "of", user_id)
