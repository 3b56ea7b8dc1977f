"""Cursors: where the next page of a listing begins.

A cursor grants no access: every request is checked for whose listing it reads. The checksum
catches a cursor of another listing.
"""

import base64
import binascii
import re
import zlib

from chalicelib.domain.errors import InvalidInput

LONGEST_CURSOR = 512
"""In characters; every cursor of ours is shorter."""


def encode(listing: str, position: str) -> str:
    """The cursor for a position in a listing, whose name states all its filters."""
    text = f"{zlib.crc32(listing.encode()):08x}{position}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(listing: str, cursor: str | None, form: str) -> str | None:
    """The position in a cursor; None without a cursor.

    Raises `InvalidInput` for a cursor of another listing, and for a position that does not match
    the ``form`` (a regular expression) of the listing's positions.
    """
    if cursor is None:
        return None
    position = _position(cursor)
    if (
        position is None
        or encode(listing, position) != cursor
        or not re.fullmatch(form, position, re.ASCII)
    ):
        raise InvalidInput.of(
            "cursor", "must be the next_cursor of a page of the same listing; begin without one"
        )
    return position


def parse_cursor(field: str, value: object) -> str:
    """A text that may be a cursor; `decode` checks whether it is one."""
    if isinstance(value, str) and 0 < len(value) <= LONGEST_CURSOR:
        return value
    raise InvalidInput.of(field, "must be the next_cursor of the page before")


def _position(cursor: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()[8:]
    except (binascii.Error, ValueError):
        return None
