"""Metadata: pairs of short texts that a caller attaches to a request.

We store them in the ledger and give them back; they have no meaning to us.
"""

import re
from collections.abc import Mapping
from typing import cast

from .errors import InvalidInput
from .fields import shown

Metadata = tuple[tuple[str, str], ...]
"""The pairs, in the order of their keys."""

MOST_PAIRS = 10
MOST_BYTES = 512
"""The most bytes of all keys and values together, in UTF-8."""

KEY = re.compile(r"[a-z0-9_]{1,40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def metadata_described(metadata: Metadata) -> dict[str, object]:
    """What metadata adds to a request's fingerprint: nothing, if there is none.

    So the keys of requests from before metadata existed stay valid.
    """
    return {"metadata": dict(metadata)} if metadata else {}


def parse_metadata(field: str, value: object) -> Metadata:
    """The pairs of an object of texts.

    At most `MOST_PAIRS` pairs and `MOST_BYTES` bytes; keys are 1 to 40 of ``a-z``, ``0-9`` and
    ``_``; values are texts of one line. Raises `InvalidInput`.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput.of(field, f"must be an object of texts; is {shown(value)}")
    if len(value) > MOST_PAIRS:
        raise InvalidInput.of(field, f"must have at most {MOST_PAIRS} pairs; has {len(value)}")
    for key, text in value.items():
        parse_metadata_key(field, key)
        parse_metadata_value(f"{field}.{key}", text)
    pairs = cast("Mapping[str, str]", value)
    size = sum(len(part.encode()) for pair in pairs.items() for part in pair)
    if size > MOST_BYTES:
        raise InvalidInput.of(
            field, f"must have at most {MOST_BYTES} bytes, keys and values together; has {size}"
        )
    return tuple(sorted(pairs.items()))


def parse_metadata_value(field: str, value: object) -> str:
    """The text of a pair. Raises `InvalidInput`."""
    if isinstance(value, str) and not _CONTROL.search(value):
        return value
    raise InvalidInput.of(field, f"must be a text of one line; is {shown(value)}")


def parse_metadata_key(field: str, key: object) -> str:
    """The key of a pair. Raises `InvalidInput`."""
    if isinstance(key, str) and KEY.fullmatch(key):
        return key
    raise InvalidInput.of(
        field, f"must have keys of 1 to 40 of a-z, 0-9 and _; one is {shown(key)}"
    )
