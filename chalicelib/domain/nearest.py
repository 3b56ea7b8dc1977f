"""Finds the name that a person misspelled, for the "did you mean" of a refusal.

A wrong suggestion is worse than none, because people follow it. So only slips count: different
capitals, a blank for an underscore, or one letter that is missing, extra, wrong or swapped with its
neighbour.
"""

import re
from collections.abc import Iterable

_NOT_WRITTEN = re.compile(r"^[\s\x00-\x1f]+|[\s\x00-\x1f]+$")
_SEPARATORS = re.compile(r"[\s_-]+")


def spelling(name: str) -> str:
    """A name without differences that people overlook: capitals, surrounding blanks, ``_``."""
    return _SEPARATORS.sub("_", _NOT_WRITTEN.sub("", name)).lower()


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The only known name that ``wrong`` misspells; None if there is no such name, or several."""
    wanted = spelling(wrong)
    spellings = {spelling(name): name for name in known}
    if wanted in spellings:
        return spellings[wanted]
    slips = [name for written, name in spellings.items() if is_slip(wanted, written)]
    return slips[0] if len(slips) == 1 else None


def is_slip(written: str, meant: str) -> bool:
    """Whether one letter is missing, extra, wrong, or swapped with the next."""
    if abs(len(written) - len(meant)) > 1:
        return False
    same = 0
    while same < min(len(written), len(meant)) and written[same] == meant[same]:
        same += 1
    rest, rest_meant = written[same:], meant[same:]
    return (
        rest[1:] == rest_meant[1:]
        or rest[1:] == rest_meant
        or rest == rest_meant[1:]
        or rest[:2] + rest_meant[2:] == rest_meant[1::-1] + rest[2:]
    )
