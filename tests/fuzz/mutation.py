"""Makes hostile inputs out of valid ones, the same for the same seed.

A valid input is changed in a few places and stays valid in all others: so what is wrong reaches the
code that looks for it, and is not refused at the door like noise would be.
"""

import json
import math
from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

Json = Any
Choice = TypeVar("Choice")

LONGEST_TEXT = 20_000
DEEPEST = 800
"""How deep a value is nested at most: about as deep as Python's own reader of JSON goes."""

NUMBERS: tuple[Json, ...] = (
    *(0, 1, -1, 2, 12, 13, 31, 32, 100, 101, 255, 256, 999, 1000, 3650, 3651),
    *(10**9, 10**9 + 1, -(10**9), 10**12, 10**18, 2**31, 2**53, 2**63, 2**64, 10**30, -(10**400)),
    *(0.0, -0.0, 0.5, 1.0, 1e15, 1e308, -1e-320, math.inf, -math.inf, math.nan),
    *(True, False, None),
)

PIECES = (
    *("", " ", "\t", "\n", "\r\n", "\0", "\x1f", "\x7f", "\x85", "\u2028", "\u2029", "\u00a0"),
    # Half a character, what turns round, what grows when its case changes, what looks like digits.
    *(
        "\ud800",
        "\udfff",
        "\U0001f600",
        "\u202e",
        "\ufeff",
        "e\u0301",
        "ß",
        "İ",
        "ſ",
        "K",
        "١",
        "²",
    ),
    *("１", "½", "Ⅷ", "é", "中", "\ud83d\ude00"),
    *("'", '"', "\\", "/", "../", "%", "%00", "%25", "%C0%80", "%ED%A0%80", "%zz", "+", "&", "="),
    *(
        "#",
        "|",
        "-",
        "_",
        ":",
        ";",
        ",",
        ".",
        "*",
        "@",
        "$",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
    ),
    *("null", "true", "NaN", "Infinity", "-Infinity", "1e999", "-0", "0x10", "1_000", "00", "1.0"),
    *("[]", "{}", '{"a":1}', "[[[[", "]]]]", "\\ud800", "\\u0000", "<b>", "{{7*7}}", "{0}", "%s"),
    *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z"),
    *("3000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    *("2026-02-29T00:00:00Z", "T24:00:00Z", "23:59:60", "+24:00", "2999-12", "1970-01", "9999-99"),
    *("UTC", "Europe/Paris", "Pacific/Kiritimati", "America/Havana", "Factory", "localtime"),
)
"""What is put into a text, or in its place."""

NAMES = ("", "a", "A", "user_id", "amount", "zones", "__class__", "\ud800", "x" * 300, "1", "é")
"""Names of fields that nobody asked for."""

TIMES = (2, 2, 2, 3, 5, 17, 64, 300, 3_000)


class Mutator:
    """Changes values, texts and bytes. ``words`` are pieces that mean something to one target."""

    def __init__(self, chance: Random, words: Sequence[str] = ()) -> None:
        self._chance = chance
        self._random = chance.random
        self._words = tuple(words)
        self._pieces = (*PIECES, *words)

    def value(self, value: Json) -> Json:
        """A JSON value, changed in one place or a few."""
        for _ in range(self._few()):
            value = self._changed(value)
        if self._random() < 0.002:
            for _ in range(DEEPEST):
                value = [value]
        return value

    def text(self, text: str) -> str:
        """A text, changed in one place or a few."""
        for _ in range(self._few()):
            text = self._spelt(text)
        return text[:LONGEST_TEXT]

    def json_text(self, text: str) -> str:
        """The text of a JSON value: mostly of another value, sometimes no JSON any more."""
        if self._random() < 0.7:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                return self._json_spelt(text)
            text = json.dumps(self.value(value), ensure_ascii=self._random() < 0.7)
            if self._random() < 0.85:
                return text
        return self._json_spelt(text)

    def raw(self, raw: bytes) -> bytes:
        """Bytes, mostly those of a changed text, sometimes none of a text at all."""
        if self._random() < 0.6:
            text = raw.decode("utf-8", "surrogateescape")
            return self.text(text).encode("utf-8", "surrogatepass")
        changed = bytearray(raw)
        for _ in range(self._few()):
            place = self._below(len(changed) + 1)
            match self._below(3):
                case 0:
                    changed.insert(place, self._below(256))
                case 1:
                    del changed[place : place + 1 + self._below(4)]
                case 2:
                    changed[place:place] = self._pick(
                        (b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\0")
                    )
        return bytes(changed)

    # --- Values -----------------------------------------------------------------------------------

    def _changed(self, value: Json) -> Json:
        """``value`` with one change somewhere in it; what it is made of is not touched."""
        if isinstance(value, dict):
            if value and self._random() < 0.75:
                name = self._pick(tuple(value))
                return {**value, name: self._changed(value[name])}
            return self._object(value)
        if isinstance(value, list):
            if value and self._random() < 0.75:
                place = self._below(len(value))
                return [*value[:place], self._changed(value[place]), *value[place + 1 :]]
            return self._list(value)
        return self._scalar(value)

    def _object(self, value: dict[str, Json]) -> Json:
        match self._below(7):
            case 0 if value:
                gone = self._pick(tuple(value))
                return {name: kept for name, kept in value.items() if name != gone}
            case 1:
                return {**value, self._pick(NAMES): self._scalar("")}
            case 2 if value:
                name = self._pick(tuple(value))
                return {**value, self._spelt(name): value[name]}
            case 3 if value:
                # Two fields that have each other's values.
                one, other = self._pick(tuple(value)), self._pick(tuple(value))
                return {**value, one: value[other], other: value[one]}
            case 4 if self._random() < 0.1:
                return {**value, **{f"x{place}": place for place in range(self._pick(TIMES))}}
        return self._anything(value)

    def _list(self, value: list[Json]) -> Json:
        match self._below(5):
            case 0:
                return value[:-1]
            case 1 if value:
                return value + [self._pick(value)] * self._pick(TIMES)
            case 2:
                return [*value, self._scalar("")]
            case 3:
                return value[::-1]
        return self._anything(value)

    def _scalar(self, value: Json) -> Json:
        if self._words and self._random() < 0.3:
            return self._pick(self._words)
        if isinstance(value, str) and value.startswith("{") and self._random() < 0.6:
            return self.json_text(value)  # a request's body
        if isinstance(value, str) and self._random() < 0.7:
            return self._spelt(value)
        if type(value) is int and abs(value) < 10**30 and self._random() < 0.5:
            return self._pick((value + 1, value - 1, -value, value * 10, float(value), str(value)))
        return self._anything(value)

    def _anything(self, value: Json) -> Json:  # noqa: PLR0911 - one for each thing to put there
        """A value of any type, with or without the present one in it."""
        match self._below(9):
            case 0 | 1:
                return self._pick(NUMBERS)
            case 2 | 3:
                return self._pick(self._pieces)
            case 4:
                return [value]
            case 5:
                return {"a": value}
            case 6:
                return []
            case 7:
                return {}
        return [[[value]]]

    # --- Texts ------------------------------------------------------------------------------------

    def _spelt(self, text: str) -> str:  # noqa: PLR0911 - one for each way
        """``text`` with one change."""
        start = self._below(len(text) + 1)
        end = min(len(text), start + self._pick((0, 1, 1, 2, 4, 8, 32)))
        before, span, after = text[:start], text[start:end], text[end:]
        match self._below(10):
            case 0 | 1:
                return before + self._pick(self._pieces) + after
            case 2:
                return before + self._pick(self._words or self._pieces) + after
            case 3:
                return before + after
            case 4:
                return (before + span * self._pick(TIMES) + after)[:LONGEST_TEXT]
            case 5:
                return before
            case 6:
                return before + span.swapcase() + after
            case 7:
                return self._numbered(text)
            case 8 if span:
                shifted = (ord(span[0]) + self._pick((1, -1, 32, 128, 0xFEE0))) % 0x110000
                return before + chr(shifted) + text[start + 1 :]
        return self._pick(self._pieces)

    def _numbered(self, text: str) -> str:
        """``text`` with another number in the place of one of its numbers."""
        digits = [place for place, character in enumerate(text) if character.isdecimal()]
        if not digits:
            return text + str(self._pick(NUMBERS))
        end = start = self._pick(digits)
        while end < len(text) and text[end].isdecimal():
            end += 1
        number = self._pick(
            (str(self._pick(NUMBERS)), "0" * 20, "9" * 20, "99", "00", "²", "9" * 5_000)
        )
        return text[:start] + number + text[end:]

    def _json_spelt(self, text: str) -> str:
        match self._below(8):
            case 0:
                depth = self._pick((10, 500, 5_000, LONGEST_TEXT))
                return self._pick(("[", '{"a":')) * depth
            case 1 if text.startswith("{"):
                # A field that is given twice.
                name = self._pick(('"user_id"', '"amount"', '"a"', *text.split(",")))
                return "{" + name.lstrip("{").partition(":")[0] + ":1," + text[1:]
            case 2:
                return self._pick((f"\ufeff{text}", f"{text} {text}", f" {text} ", f"[{text}]"))
            case 3:
                return text.replace('"', "'")
        return self.text(text)

    # --- Chance -----------------------------------------------------------------------------------

    def _few(self) -> int:
        count = 1
        while count < 6 and self._random() < 0.35:
            count += 1
        return count

    def _below(self, end: int) -> int:
        return int(self._random() * end)

    def _pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self._random() * len(choices))]
