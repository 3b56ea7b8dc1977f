"""Ranges: the parts that the users of a zone are divided into when they are very many.

A user's place among the others is a hash of their id, so that equal parts have about equally many
users, whatever the ids look like. A range is all places that begin with the same bits:

    ""          everybody
    "0", "1"    the two halves
    "01"        the second quarter

Two ranges are therefore apart, or one lies within the other: none overlaps another by half. What is
divided is divided into narrower ranges, and what is narrow is divided no more: so often, and no
oftener, does a sweep hand itself on.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import InvalidInput
from .fields import shown

PLACE_BITS = 32
"""Ten thousand pairs of ten million users share a place; what must tell them apart takes the id."""

PLACES = 1 << PLACE_BITS

BITS_A_SPLIT = 4
"""A range that proves too large is divided into sixteen."""

MOST_BITS_AT_ONCE = 12
"""The first division is into 4,096 at most: so many messages can be sent in the time there is."""

MOST_BITS = 16
"""What is as narrow as a 65,536th is divided no more."""

MOST_HOPS = 1 + MOST_BITS // BITS_A_SPLIT
"""Of how many invocations, one caused by the other, a sweep can be: a whole zone, and its parts."""

_BITS = re.compile(f"[01]{{1,{MOST_BITS}}}")


def place_of(user_id: str) -> int:
    """The place of a user: the first 32 bits of the SHA-256 of the id."""
    return int.from_bytes(hashlib.sha256(user_id.encode()).digest()[: PLACE_BITS // 8])


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The places that begin with ``bits``."""

    bits: str = ""

    @property
    def first(self) -> int:
        """The first place."""
        return int(self.bits.ljust(PLACE_BITS, "0"), 2)

    @property
    def last(self) -> int:
        """The last place; it belongs to the range."""
        return int(self.bits.ljust(PLACE_BITS, "1"), 2)

    @property
    def is_whole(self) -> bool:
        """Whether it is everybody."""
        return not self.bits

    @property
    def is_divisible(self) -> bool:
        """Whether it is wide enough to be divided."""
        return len(self.bits) + BITS_A_SPLIT <= MOST_BITS

    def __contains__(self, user_id: str) -> bool:
        return place_of(user_id) >> (PLACE_BITS - len(self.bits)) == int(self.bits or "0", 2)

    def parts(self, bits: int | None = None) -> list["Range"]:
        """It, divided into ``2 ** bits`` or, where it proved too large, into sixteen; in order."""
        bits = bits or BITS_A_SPLIT
        return [Range(f"{self.bits}{part:0{bits}b}") for part in range(1 << bits)]

    def expected(self, users: int, last_user_id: str) -> int:
        """About how many users it has, of whom the first ``users`` end with this one."""
        passed = place_of(last_user_id) - self.first + 1
        return users * (self.last - self.first + 1) // max(1, passed)

    @classmethod
    def parse(cls, field: str, value: object) -> "Range":
        """Reads the bits. Raises `InvalidInput`."""
        if isinstance(value, str) and _BITS.fullmatch(value):
            return cls(value)
        raise InvalidInput.of(
            field, f"must be 1 to {MOST_BITS} of the digits 0 and 1; is {shown(value)}"
        )


WHOLE = Range()
"""Everybody."""


def bits_for(users: int, users_a_range: int) -> int:
    """Into how many ranges, as a power of two, so many users are divided at first."""
    ranges = -(-users // users_a_range)
    return min(MOST_BITS_AT_ONCE, max(1, (ranges - 1).bit_length()))


def tiling(found: Iterable[Range]) -> list[Range] | None:
    """Those that are everybody, each user once; None while somebody is in none of them.

    A wider range takes the place of all that lie within it.
    """
    taken: list[Range] = []
    reached = 0
    for candidate in sorted(found):
        if candidate.first > reached:
            return None
        if candidate.first == reached:
            taken.append(candidate)
            reached = candidate.last + 1
    return taken if reached == PLACES else None
