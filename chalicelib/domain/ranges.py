"""Ranges: the parts into which the many users of a large zone are divided.

A user's place among the others is a hash of their id. So equal parts have about equally many users,
whatever the ids look like. A range is all places that begin with the same bits:

    ""          everybody
    "0", "1"    the two halves
    "01"        the second quarter

So two ranges are separate, or one lies within the other; they never overlap partly. A range is
divided into narrower ones, down to a narrowest width. This limits how often a sweep hands itself
on.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import InvalidInput
from .fields import shown

PLACE_BITS = 32
"""Among ten million users, ten thousand pairs share a place; use the id to tell them apart."""

PLACES = 1 << PLACE_BITS

BITS_A_SPLIT = 4
"""A range that proves too large is divided into sixteen."""

MOST_BITS_AT_ONCE = 12
"""The first division makes at most 4,096 ranges: that many messages can be sent in time."""

MOST_BITS = 16
"""A range as narrow as a 65,536th is not divided any more."""

MOST_HOPS = 1 + MOST_BITS // BITS_A_SPLIT
"""The longest chain of invocations in a sweep: the whole zone, then ever smaller parts."""

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
        """Its parts, in order: ``2 ** bits`` or, if it proved too large, sixteen."""
        bits = bits or BITS_A_SPLIT
        return [Range(f"{self.bits}{part:0{bits}b}") for part in range(1 << bits)]

    def expected(self, users: int, last_user_id: str) -> int:
        """About how many users the range has, if its first ``users`` users end with this one."""
        passed = place_of(last_user_id) - self.first + 1
        return users * (self.last - self.first + 1) // passed

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
    """The bits of the first division of so many users; there are ``2 ** bits`` ranges."""
    ranges = -(-users // users_a_range)
    return min(MOST_BITS_AT_ONCE, max(1, (ranges - 1).bit_length()))


def tiling(found: Iterable[Range]) -> list[Range] | None:
    """The ranges that together hold each user once; None while some users are still missing.

    A wider range replaces all ranges that lie within it.
    """
    taken: list[Range] = []
    reached = 0
    for candidate in sorted(found):
        if candidate.first == reached:
            taken.append(candidate)
            reached = candidate.last + 1
    return taken if reached == PLACES else None
