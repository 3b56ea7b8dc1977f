"""Reads untrusted values: one parser for each kind of field, all errors at once, no unknown fields.

A parser takes the field's name and its raw value and returns the domain's value, or raises
`InvalidInput` naming the field and the fix. `FieldReader` applies parsers to a whole mapping, so
that one answer reports all its errors.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar, cast

from .errors import FieldError, InvalidInput, NotFound

MAXIMUM_AMOUNT = 1_000_000_000
"""The most credits one operation may move."""

MAXIMUM_TEXT = 500
"""The longest reason or description, in characters."""

MAXIMUM_KEY = 255
"""The longest idempotency key, in characters."""

MOST_UNKNOWN_NAMED = 20
"""How many unknown fields a refusal names: it must not be many times longer than the request."""

MOST_PRIORITY = 100
"""The highest priority of a batch: it is spent last."""

USER_ID_ALPHABET = "letters, digits and . _ : @ | + = -"
_USER_ID = re.compile(r"[A-Za-z0-9._:@|+=-]{1,128}")
ENTRY_NUMBER = re.compile(r"[1-9][0-9]{0,11}")
"""The number of an entry, and so of a batch or a hold, as it appears at the end of their names."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_CORRELATION_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# The ASCII control characters, those of C1, and the two separators at which Unicode ends a line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

RESERVED_ACTORS = frozenset({"system", "(erased)", "import/balances", "import/usages"})
"""The ledger's names for scheduled work, erased users and imports: nobody else may use them."""

Parsed = TypeVar("Parsed")
Choice = TypeVar("Choice", bound=StrEnum)
Parser = Callable[[str, object], Parsed]


def parse_user_id(field: str, value: object) -> str:
    """A user id: a string of the documented alphabet, or a whole number of at most 18 digits."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return str(value)
    if isinstance(value, str) and _USER_ID.fullmatch(value):
        return value
    if isinstance(value, int) and value >= 10**18:
        raise InvalidInput.of(
            field,
            "must have at most 18 digits as a number; send a longer one as a text, in quotation "
            f"marks; is {shown(value)}",
        )
    raise InvalidInput.of(
        field, f"must be 1 to 128 {USER_ID_ALPHABET}, or a whole number; is {shown(value)}"
    )


def place_of(name: str, what: str = "transaction") -> tuple[str, int]:
    """The user and the number of an entry, from its name. Raises `NotFound` if it is malformed."""
    user_id, _, number = name.rpartition("-")
    # Not every text can be a key: DynamoDB would refuse it, and that would look like our fault.
    if _USER_ID.fullmatch(user_id) and ENTRY_NUMBER.fullmatch(number):
        return user_id, int(number)
    raise NotFound(f"there is no {what} {shown(name)}")


def within(field: str, value: object, least: int, most: int, unit: str = "") -> int:
    """A whole number within bounds; ``unit`` is for the message, such as ``of seconds``."""
    # Not isinstance: to Python, true is the number 1.
    if type(value) is int and least <= value <= most:
        return value
    number = f"a whole number {unit}".rstrip()
    raise InvalidInput.of(field, f"must be {number} from {least:,} to {most:,}; is {shown(value)}")


def parse_amount(field: str, value: object) -> int:
    """A positive number of whole credits, at most `MAXIMUM_AMOUNT`."""
    return within(field, value, 1, MAXIMUM_AMOUNT)


def parse_signed_amount(field: str, value: object) -> int:
    """A number of whole credits to grant (positive) or claw back (negative); never 0."""
    if type(value) is int and 1 <= abs(value) <= MAXIMUM_AMOUNT:
        return value
    raise InvalidInput.of(
        field,
        f"must be a whole number other than 0, of at most {MAXIMUM_AMOUNT:,} either way; "
        f"is {shown(value)}",
    )


def parse_text(field: str, value: object) -> str:
    """A sentence for people: not blank, one line, at most `MAXIMUM_TEXT` characters."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput.of(field, f"must be a text that is not blank; is {shown(value)}")
    if len(value) > MAXIMUM_TEXT:
        raise InvalidInput.of(field, f"must be at most {MAXIMUM_TEXT} characters; has {len(value)}")
    if _CONTROL.search(value):
        raise InvalidInput.of(field, "must be one line without control characters")
    if not _is_encodable(value):
        raise InvalidInput.of(field, "must be valid Unicode text")
    return value.strip()


def parse_actor(field: str, value: object) -> str:
    """Who did something, in their own words: a sentence for people, but not a reserved name."""
    actor = parse_text(field, value)
    if is_reserved(actor):
        raise InvalidInput.of(
            field,
            f"must say who asks, and not a name that the ledger itself uses; is {shown(actor)}",
        )
    return actor


def is_reserved(actor: str) -> bool:
    """Whether a name is one of `RESERVED_ACTORS`, however it is capitalised."""
    return actor.strip().casefold() in RESERVED_ACTORS


def parse_key(field: str, value: object) -> str:
    """An idempotency key: 1 to 255 visible ASCII characters."""
    if isinstance(value, str) and _KEY.fullmatch(value):
        return value
    raise InvalidInput.of(
        field,
        f"must be 1 to {MAXIMUM_KEY} visible ASCII characters without spaces; is {shown(value)}",
    )


def parse_correlation_id(field: str, value: object) -> str:
    """The id that joins the traces of one operation: AWS's ids of requests and events fit."""
    if isinstance(value, str) and _CORRELATION_ID.fullmatch(value):
        return value
    raise InvalidInput.of(field, f"must be 1 to 64 letters, digits and -; is {shown(value)}")


def parse_days(field: str, value: object) -> int:
    """A lifetime in whole days, from 1 to 3,650."""
    if type(value) is int and 1 <= value <= 3650:
        return value
    raise InvalidInput.of(
        field, f"must be a whole number of days from 1 to 3650; is {shown(value)}"
    )


def parse_priority(field: str, value: object) -> int:
    """A batch's place among others: 0 to 100, lower is spent first."""
    return within(field, value, 0, MOST_PRIORITY)


def parse_plan_id(field: str, value: object) -> str:
    """The id of a plan, which may have left the catalogue."""
    if isinstance(value, str) and _PLAN_ID.fullmatch(value):
        return value
    raise InvalidInput.of(field, "must be the id of a plan: 1 to 64 of a-z, 0-9, _ and -")


_PLAN_ID = re.compile(r"[a-z0-9_-]{1,64}")


def parse_boolean(field: str, value: object) -> bool:
    """True or false, as JSON writes them."""
    if isinstance(value, bool):
        return value
    raise InvalidInput.of(field, f"must be true or false; is {shown(value)}")


def parse_choice(choices: type[Choice]) -> Parser[Choice]:
    """A parser for one of a fixed set of words."""

    def parse(field: str, value: object) -> Choice:
        for choice in choices:
            if value == choice.value:
                return choice
        words = ", ".join(choice.value for choice in choices)
        raise InvalidInput.of(field, f"must be one of {words}; is {shown(value)}")

    return parse


def shown(value: object, longest: int = 60) -> str:
    """``value`` as an error message shows it: never longer than a line, or ``longest``."""
    if value is None:
        return "missing"
    kind = type(value).__name__
    try:
        text = ascii(value) if isinstance(value, str) else f"{value!a} ({kind})"
    except (RecursionError, ValueError):  # nested too deep, or too many digits
        return f"a value that is too large to show ({kind})"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _is_encodable(value: str) -> bool:
    """Lone surrogates are legal in JSON escapes and in Python, but not in UTF-8 or DynamoDB."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class FieldReader:
    """Reads a mapping field by field and reports every wrong field at once.

    >>> fields = FieldReader({"amount": 5})
    >>> amount = fields.required("amount", parse_amount)
    >>> fields.finish()
    >>> amount
    5

    Values returned before `finish` has passed may be placeholders: use them only after it.
    """

    def __init__(self, values: object, what: str = "body") -> None:
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise InvalidInput.of(what, f"must be an object with named fields; is {shown(values)}")
        self._values = cast(Mapping[str, object], values)
        self._known: set[str] = set()
        self._former: set[str] = set()
        self._errors: list[FieldError] = []

    def required(self, name: str, parser: Parser[Parsed], *, formerly: str | None = None) -> Parsed:
        """The parsed value of a required field.

        ``formerly`` is the name that the release before gave the field; it is taken as well, but
        not beside the new one.
        """
        self._known.add(name)
        if formerly is not None:
            self._former.add(formerly)
            if self._values.get(formerly) is not None:
                if self._values.get(name) is None:
                    return self._parsed(formerly, parser)
                self.reject(formerly, f"is the former name of {name}; give {name} only")
        if self._values.get(name) is None:
            self.reject(name, "is required")
            return cast(Parsed, None)
        return self._parsed(name, parser)

    def optional(self, name: str, parser: Parser[Parsed]) -> Parsed | None:
        """The parsed value of an optional field; None if it is absent or null."""
        self._known.add(name)
        if self._values.get(name) is None:
            return None
        return self._parsed(name, parser)

    def nullable(self, name: str, parser: Parser[Parsed], null: Parsed) -> Parsed | None:
        """The parsed value of an optional field to which null means something: ``null``."""
        self._known.add(name)
        if name not in self._values:
            return None
        return null if self._values[name] is None else self._parsed(name, parser)

    def names_with(self, beginning: str) -> list[str]:
        """The names with this prefix, for fields that are not known beforehand."""
        return [name for name in self._values if name.startswith(beginning)]

    def reject(self, name: str, message: str) -> None:
        """Reports one more wrong field, for rules about several fields."""
        self._errors.append(FieldError(name, message))

    def finish(self) -> None:
        """Raises `InvalidInput` with all errors, including unknown fields."""
        known = ", ".join(sorted(self._known))
        allowed = f"the fields are {known}" if known else "no fields are allowed"
        unknown = [name for name in self._values if name not in self._known | self._former]
        more = len(unknown) - MOST_UNKNOWN_NAMED
        others = ", nor is 1 other" if more == 1 else f", nor are {more} others" if more > 1 else ""
        for name in unknown[:MOST_UNKNOWN_NAMED]:
            # A lone surrogate in the name could not be sent back, nor logged.
            shown_name = name[:100].encode(errors="backslashreplace").decode()
            self.reject(shown_name, f"is not a known field{others}; {allowed}")
        if self._errors:
            raise InvalidInput(self._errors)

    def _parsed(self, name: str, parser: Parser[Parsed]) -> Parsed:
        try:
            return parser(name, self._values[name])
        except InvalidInput as error:
            self._errors.extend(error.errors)
            return cast(Parsed, None)
