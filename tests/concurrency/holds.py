"""The audit of holds: what was set aside is there until its end, and nobody else has spent it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

Entry = dict[str, Any]
Held = dict[int, tuple[int, list[tuple[int, int]]]]
"""When each hold lapses, and how much of which batch it sets aside."""


def held_at(entries: list[Entry], instant: int) -> Counter[int]:
    """How much of each batch was held at an instant."""
    last = [entry for entry in entries if entry["posted"] <= instant][-1:]
    return _earmarks({number: hold for each in last for number, hold in _holds(each, instant)})


def check_holds(user_id: str, entries: list[Entry]) -> Iterator[str]:
    """Each hold stays as it was opened until it lapses or is ended, and ends once."""
    before: Held = {}
    left: Counter[int] = Counter()
    for entry in entries:
        where = f"entry {entry['number']} of {user_id}"
        active = {n: hold for n, hold in before.items() if entry["posted"] < hold[0]}
        yield from (f"{where} {problem}" for problem in _entry(entry, active, left))
        for batch, amount in entry["legs"]:
            left[batch] += amount
        before = dict(_holds(entry, entry["posted"]))
        for batch, amount in _earmarks(before).items():
            if amount > left[batch]:
                yield f"{where} holds {amount} of batch {batch}, of which there are {left[batch]}"


def _holds(entry: Entry, instant: int) -> Iterator[tuple[int, tuple[int, list[tuple[int, int]]]]]:
    for number, ends_at, legs in entry.get("holds", ()):
        if instant < ends_at:
            yield number, (ends_at, legs)


def _earmarks(holds: Held) -> Counter[int]:
    found: Counter[int] = Counter()
    for _, legs in holds.values():
        found.update(dict(legs))
    return found


def _entry(entry: Entry, active: Held, left: Counter[int]) -> Iterator[str]:
    number, ended = entry["number"], entry.get("hold")
    kept = {each: hold for each, hold in active.items() if each != ended}
    found = {each: (ends_at, legs) for each, ends_at, legs in entry.get("holds", ())}
    opened = found.pop(number, None)
    if found != kept:
        yield f"has the holds {found}, and should have {kept}"
    if (opened is not None) != (entry["type"] == "hold"):
        yield f"is a {entry['type']} and opens {opened}"
    held = _earmarks(kept)
    taken = Counter({batch: -amount for batch, amount in entry["legs"] if amount < 0})
    if any(amount > left[batch] - held[batch] for batch, amount in taken.items()):
        yield f"takes {dict(taken)} of {dict(left)}, of which {dict(held)} are held"
    if ended is None:
        return
    if ended not in active:
        yield f"ends hold {ended}, which is not there"
        return
    _, legs = active[ended]
    amount = sum(amount for _, amount in legs)
    captured = min(taken.total(), amount)
    if entry["released"] != amount - captured:
        yield f"captures {captured} of {amount} and releases {entry['released']}"
    of_hold = sum(min(taken[batch], amount) for batch, amount in legs)
    if of_hold != captured:
        yield f"captures {captured} of a hold, and takes {of_hold} of what it held"
