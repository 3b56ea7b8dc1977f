"""Very many subscribers of one zone who differ only in their number, eight bytes each.

`bench.database` makes their items and index rows on request. So ten million users fit into some two
hundred megabytes, and the sweep that reads them sees no difference.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

from chalicelib.domain.ranges import PLACE_BITS, place_of

Row = tuple[str, str]
"""A row of an index: its sort key, and the user id."""


MOST_USERS = 10_000_000
"""With more digits, the order of the ids would no longer be that of the numbers."""


def user_id_of(prefix: str, number: int) -> str:
    """The id of a user of a crowd."""
    return f"{prefix}-{number:07}"


class Crowd(Sequence[Row]):
    """The users ``<prefix>-0000000`` and so on; as a sequence, their rows in the zone's index."""

    def __init__(self, prefix: str, users: int, item: dict[str, Any]) -> None:
        """``item``: a subscription as it is stored, without the user's own parts."""
        self._prefix = prefix
        self._item = item
        # Each number has a place in the upper half and a user's number in the lower half. Sorted,
        # that is the order of the index: users who share a place are in the order of their ids. The
        # sorting is done in 256 parts, because Python's integers need four times as much memory
        # meanwhile.
        parts = [array("Q") for _ in range(256)]
        for number in range(users):
            user = place_of(user_id_of(prefix, number)) << PLACE_BITS | number
            parts[user >> (2 * PLACE_BITS - 8)].append(user)
        self._users = array("Q")
        for part in parts:
            self._users.extend(sorted(part))

    def __len__(self) -> int:
        return len(self._users)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self._row(user) for user in self._users[place]]
        return self._row(self._users[place])

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._users)

    def _row(self, user: int) -> Row:
        user_id = user_id_of(self._prefix, user & ((1 << PLACE_BITS) - 1))
        return f"{user >> PLACE_BITS:08x}#{user_id}", user_id

    def item(self, user_id: str) -> bytes | None:
        """The subscription of one of them; None for other users."""
        prefix, _, number = user_id.rpartition("-")
        is_one = prefix == self._prefix and number.isdecimal() and int(number) < len(self)
        if not is_one or user_id != user_id_of(prefix, int(number)):
            return None
        spread = f"{place_of(user_id):08x}#{user_id}"
        item = self._item | {"user_id": {"S": user_id}, "spread": {"S": spread}}
        return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
