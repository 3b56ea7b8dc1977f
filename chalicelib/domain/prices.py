"""Prices: what a user paid for credits, as the caller says. We store it, and compute nothing."""

import re
from typing import NamedTuple

from .errors import FieldError, InvalidInput
from .fields import FieldReader, shown, within

HIGHEST_PRICE = 1_000_000_000_000
"""The highest amount of a price, in minor units."""

_CURRENCY = re.compile(r"[A-Za-z]{3}")


class Price(NamedTuple):
    """``amount`` in minor units of ``currency`` (cents of `EUR`), three capital letters."""

    amount: int
    currency: str


def parse_price(field: str, value: object) -> Price:
    """A price: an object of ``amount`` and ``currency``. Raises `InvalidInput` with the place."""
    try:
        fields = FieldReader(value)
        price = Price(
            fields.required("amount", _parse_minor_units),
            fields.required("currency", parse_currency),
        )
        fields.finish()
    except InvalidInput as error:
        raise InvalidInput(
            FieldError(field if wrong.field == "body" else f"{field}.{wrong.field}", wrong.message)
            for wrong in error.errors
        ) from error
    return price


def _parse_minor_units(field: str, value: object) -> int:
    return within(field, value, 0, HIGHEST_PRICE, "of minor units")


def parse_currency(field: str, value: object) -> str:
    """A currency of ISO 4217, in capitals or not; kept in capitals, as the standard has it."""
    if isinstance(value, str) and _CURRENCY.fullmatch(value):
        return value.upper()
    raise InvalidInput.of(field, f"must be the three letters of a currency, EUR; is {shown(value)}")
