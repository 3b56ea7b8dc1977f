"""Hostile inputs, made of valid ones.

A valid input is changed in a few places and stays valid in all others: so what is wrong reaches the
code that looks for it, and is not refused at the door like noise would be. `neighbours` lists what
is one change away; Hypothesis goes on from there.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.fuzz.target import Input, Kind, Target

Json = Any
Path = tuple[Any, ...]
Choice = TypeVar("Choice")

LONGEST = 20_000
MOST_NUMBERS = 100
"""How many numbers within a text are tried: a text that repeats itself has thousands."""

MOST_NAMES = 30
"""The same of the names of an object, of which each is given the value of each other."""

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
    *("\ud800", "\udfff", "\U0001f600", "\u202e", "\ufeff", "e\u0301", "ß", "İ", "ſ", "K", "١"),
    *("²", "１", "½", "Ⅷ", "é", "中"),
    *("'", '"', "\\", "/", "../", "%", "%00", "%25", "%C0%80", "%ED%A0%80", "%zz", "+", "&", "="),
    *"#|-_:;,.*@$",
    *"{}[]()<>",
    *("null", "true", "NaN", "Infinity", "-Infinity", "1e999", "-0", "0x10", "1_000", "00", "1.0"),
    *("[]", "{}", '{"a":1}', "[[[[", "]]]]", "\\ud800", "\\u0000", "<b>", "{{7*7}}", "{0}", "%s"),
    *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z"),
    *("3000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    *("2026-02-29T00:00:00Z", "T24:00:00Z", "23:59:60", "+24:00", "2999-12", "1970-01", "9999-99"),
    *("UTC", "Europe/Paris", "Pacific/Kiritimati", "America/Havana", "Factory", "localtime"),
)
"""What is put into a text, or in its place."""
LONG = ("x" * 40_000, "9" * 5_000, "9" * 20, "0" * 20)
NAMES = ("", "a", "A", "user_id", "amount", "zones", "__class__", "\ud800", "x" * 300, "1", "é")
"""Names of fields that nobody asked for."""
MANY = {f"x{place}": place for place in range(3_000)}
RAW = (b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\0", b"\x80")


# --- One change -----------------------------------------------------------------------------------


def neighbours(target: Target, first: int = 0, every: int = 1) -> Iterator[Input]:
    """The inputs that are one change away from a seed, or every so many of them.

    What takes time to make is made of those alone: until then it is a function.
    """
    near = _NEIGHBOURS[target.kind]
    inputs = (each for seed in target.seeds for each in near(seed, target.words))
    return map(_made, islice(inputs, first, None, every))


def _made(value: Json | Callable[[], Json]) -> Json:
    return value() if callable(value) else value


def values(value: Json, words: Sequence[str] = ()) -> Iterator[Callable[[], Json]]:
    """A value with something else at one of its places."""
    for path in places(value):
        for other in instead_of(at(value, path), words):
            yield partial(put, value, path, other)


def json_texts(text: str, words: Sequence[str] = ()) -> Iterator[Json]:
    """The texts of such values, and texts that are no JSON any more."""
    yield from (partial(_dumped, value) for value in values(_loaded(text), words))
    yield from ("[" * depth for depth in (10, 500, 5_000, LONGEST))
    yield from ('{"a":' * 5_000, f"\ufeff{text}", f"{text} {text}", f"[{text}]", text[:-1])
    yield from ("{" + f'"{name}":1,{text[1:]}' for name in _named(text))
    yield from texts(text, words)


def texts(text: str, words: Sequence[str] = ()) -> Iterator[str]:
    """A text with something else at one of a few places."""
    middle = len(text) // 2
    for piece in (*words, *PIECES):
        yield from (piece, piece + text, text + piece, text[:middle] + piece + text[middle:])
    yield from (*LONG, text[:middle], text[middle:], text[1:], text[:-1], text.swapcase())
    most = 1 + LONGEST // max(1, len(text))
    yield from ((text * min(times, most))[:LONGEST] for times in (2, 17, 3_000))
    for number in islice(re.finditer("[0-9]+", text), MOST_NUMBERS):
        for other in (*map(str, NUMBERS[:-3]), "²", *LONG[1:]):
            yield text[: number.start()] + other + text[number.end() :]
    for place in range(0, len(text), 1 + len(text) // 40):
        for shift in (1, -1, 32, 128, 0xFEE0):
            shifted = chr((ord(text[place]) + shift) % 0x110000)
            yield text[:place] + shifted + text[place + 1 :]


def raws(raw: bytes, words: Sequence[str] = ()) -> Iterator[bytes]:
    """Bytes, of a text or of none."""
    text = raw.decode("utf-8", "surrogateescape")
    yield from (other.encode("utf-8", "surrogatepass") for other in texts(text, words))
    for place in range(len(raw) + 1):
        yield from (raw[:place] + piece + raw[place:] for piece in RAW)


def instead_of(value: Json, words: Sequence[str] = ()) -> Iterator[Json]:
    """What can stand in the place of a value, or a function that makes it."""
    yield from (*words, *NUMBERS, *PIECES, *LONG, [], {}, [value], {"a": value}, [[[value]]])
    yield partial(_nested, value)
    if isinstance(value, str):
        yield from texts(value, words)
        if value.startswith("{"):  # a request's body
            yield from json_texts(value, words)
    elif isinstance(value, dict):
        yield from ({kept: value[kept] for kept in value if kept != gone} for gone in value)
        yield from ({**value, name: ""} for name in NAMES)
        yield from ({**value, name.swapcase(): each} for name, each in value.items())
        few = [*islice(value, MOST_NAMES)]
        yield from ({**value, one: value[other]} for one in few for other in few)
        yield {**value, **MANY}
    elif isinstance(value, list):
        yield from (value[:-1], value[::-1], [*value, ""], value * 2, value * 300)
    elif type(value) is int and abs(value) < 10**300:
        yield from (value + 1, value - 1, -value, value * 10, float(value), str(value))


def places(value: Json, path: Path = ()) -> Iterator[Path]:
    """All places in a value, itself the first."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def at(value: Json, path: Path) -> Json:
    for key in path:
        value = value[key]
    return value


def put(value: Json, path: Path, other: Json) -> Json:
    """``value`` with something else at a place."""
    if not path:
        return _made(other)
    key, *rest = path
    inner = put(value[key], tuple(rest), other)
    if isinstance(value, dict):
        return {**value, key: inner}
    return [*value[:key], inner, *value[key + 1 :]]


def _dumped(make: Callable[[], Json]) -> str:
    return json.dumps(make())


def _nested(value: Json) -> Json:
    for _ in range(DEEPEST):
        value = [value]
    return value


def _loaded(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _named(text: str) -> Sequence[str]:
    loaded = _loaded(text)
    return [*loaded] if isinstance(loaded, dict) and loaded else []


_NEIGHBOURS: dict[Kind, Callable[[Any, Sequence[str]], Iterator[Any]]] = {
    Kind.VALUE: values,
    Kind.JSON: json_texts,
    Kind.TEXT: texts,
    Kind.BYTES: raws,
}


# --- Several changes ------------------------------------------------------------------------------

SCALARS = st.sampled_from((*NUMBERS, *PIECES)) | st.integers() | st.floats() | st.text()


def _containers(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.lists(inner) | st.dictionaries(st.text(), inner)


ANYTHING = st.recursive(SCALARS, _containers, max_leaves=5)


@st.composite
def hostile(draw: st.DrawFn, target: Target) -> Input:
    """A seed that is changed one to four times."""
    given = _pick(draw, target.seeds)
    for _ in range(_pick(draw, (1, 2, 2, 3, 4))):
        given = _changed(draw, target.kind, given, target.words)
    return given


def _pick(draw: st.DrawFn, choices: Sequence[Choice]) -> Choice:
    # A strategy of so many integers is made once; one of the choices would be each time.
    return choices[draw(st.integers(0, len(choices) - 1))]


def _changed(draw: st.DrawFn, kind: Kind, given: Input, words: Sequence[str]) -> Input:
    if kind is Kind.BYTES:
        start = draw(st.integers(0, len(given)))
        piece = _pick(draw, RAW) if draw(st.booleans()) else draw(st.binary(max_size=3))
        return given[:start] + piece + given[start + _pick(draw, (0, 1, 4)) :]
    if kind is Kind.TEXT or (kind is Kind.JSON and draw(st.integers(0, 9)) == 0):
        return _spliced(draw, given, words)
    if kind is Kind.JSON:
        changed = _changed(draw, Kind.VALUE, _loaded(given), words)
        return json.dumps(changed, ensure_ascii=draw(st.booleans()))
    path = _pick(draw, [*places(given)])
    return put(given, path, _other(draw, at(given, path), words))


def _other(draw: st.DrawFn, present: Json, words: Sequence[str]) -> Json:
    if isinstance(present, str) and present.startswith("{"):
        return _changed(draw, Kind.JSON, present, words)
    if isinstance(present, str) and draw(st.booleans()):
        return _spliced(draw, present, words)
    if draw(st.integers(0, 4)) == 4:
        return draw(ANYTHING)
    if isinstance(present, str):
        present = present[:LONGEST]
    return _made(_pick(draw, [*instead_of(present, words)]))


def _spliced(draw: st.DrawFn, text: str, words: Sequence[str]) -> str:
    """A text with another piece somewhere in it, in the place of a few characters."""
    start = draw(st.integers(0, len(text)))
    end = start + _pick(draw, (0, 0, 1, 2, 8, 32))
    match draw(st.integers(0, 5)):
        case 5:
            piece = draw(st.text(max_size=3))
        case 4:
            piece = text[start:end] * 17
        case _:
            piece = _pick(draw, (*words, *PIECES))
    return (text[:start] + piece + text[end:])[:LONGEST]
