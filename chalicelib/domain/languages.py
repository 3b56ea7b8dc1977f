"""The languages in which emails are written."""

import re
from enum import StrEnum

from .errors import InvalidInput
from .fields import shown


class Language(StrEnum):
    """A language whose texts are shipped, by its tag (BCP 47)."""

    ENGLISH = "en"
    GERMAN = "de"


_TAG = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,3}")
"""A tag, as far as lookup needs it: no longer than 35 characters (RFC 5646, section 4.4.1)."""

_LONGEST_HEADER = 500
"""How much of a header is read, in characters."""

DEFAULT = Language.ENGLISH
"""The language of users whose language is unknown."""


def closest(tag: str) -> Language | None:
    """The shipped language for a tag such as ``de-AT``: the tag is cut at its end until one fits.

    This is the lookup of RFC 4647, section 3.4; tags may come with ``_`` for ``-``, as many systems
    write them.
    """
    wanted = tag.replace("_", "-").lower() if _TAG.fullmatch(tag) else ""
    while wanted:
        for language in Language:
            if language.value.lower() == wanted:
                return language
        wanted = wanted.rpartition("-")[0]
    return None


def preferred(header: str) -> Language | None:
    """The first shipped language of an `Accept-Language` header; browsers name the best first."""
    wanted = header[:_LONGEST_HEADER].split(",")
    found = (closest(tag.partition(";")[0].strip()) for tag in wanted)
    return next(filter(None, found), None)


def parse_language(field: str, value: object) -> Language:
    """The shipped language that a tag means. Raises `InvalidInput` for any other."""
    if isinstance(value, str) and (known := closest(value)):
        return known
    raise InvalidInput.of(
        field,
        f"must be the tag of a language that emails are written in: {', '.join(Language)}, or one "
        f"of its regions, such as de-AT; is {shown(value)}",
    )
