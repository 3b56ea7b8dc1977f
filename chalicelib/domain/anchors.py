"""Anchors: the last entries of ledgers, kept where nobody who can write the table can reach them.

The chain of hashes has no key. So anybody who can write the table can cut off the end of a ledger,
or rewrite it, and its hashes still chain. An anchor is the hash of an entry that was once the last.
It is kept elsewhere and reveals such a change. It names nobody: users appear as the beginning of
the SHA-256 of their ids. Erasing a user does not change the hashes.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from .verification import Anchor

_LINE = re.compile(r"([0-9a-f]{32}) ([1-9][0-9]{0,11}) ([0-9a-f]{64})\n")


class Head(NamedTuple):
    """The last entry of a user's ledger at some time: its number and its hash."""

    user: str
    number: int
    hash: str

    @property
    def anchor(self) -> Anchor:
        """The head in the form for a comparison with a ledger."""
        return Anchor(self.number, self.hash)

    def line(self) -> str:
        """The head as a line of an anchor file."""
        return f"{self.user} {self.number} {self.hash}\n"

    @classmethod
    def parse(cls, line: str) -> "Head":
        """Reads what `line` wrote. Raises ValueError for anything else."""
        found = _LINE.fullmatch(line)
        if not found:
            raise ValueError("it is no head of a ledger")
        return cls(found[1], int(found[2]), found[3])


def user_digest(user_id: str) -> str:
    """The digest that stands for a user: 128 bits, so that no two users share one."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:32]


in_order: Callable[[Head], tuple[str, int]] = itemgetter(0, 1)
"""The order of a file: by user, then by number. Of two equals, the head kept earlier comes first.
"""


def latest(heads: Iterable[Head], contradicts: Callable[[Head], None]) -> Iterator[Head]:
    """The last head of each user, of heads in order.

    The hash of a number never changes. If two heads disagree, the one kept first is right;
    ``contradicts`` is called for every other.
    """
    for _, of_user in groupby(heads, itemgetter(0)):
        last: Head | None = None
        for head in of_user:
            if last is None or head.number > last.number:
                last = head
            elif head.hash != last.hash:
                contradicts(head)
        if last:
            yield last
