"""What in a payload contradicts the API version that it is said to be of (see schema.py)."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from tests.stripe.schema import FILES

VERSIONS = tuple(sorted(path.stem for path in FILES.glob("*.json")))
"""The API versions whose fields are known, the oldest first."""


class Kind(NamedTuple):
    """A type as the schema's files write it: ``list @SubscriptionItem?``."""

    word: str
    of: str = ""
    optional: bool = False


@cache
def classes(version: str) -> Mapping[str, Mapping[str, Kind]]:
    """The objects of an API version, and their fields."""
    if version not in VERSIONS:
        raise ValueError(f"API version {version!r} is not known; these are: {', '.join(VERSIONS)}")
    document = json.loads((FILES / f"{version}.json").read_text())
    return {
        name: {field: kind(text) for field, text in fields.items()}
        for name, fields in document["classes"].items()
    }


@cache
def kind(text: str) -> Kind:
    """The type that a schema's file has written so."""
    optional = text.endswith("?") or text == "null"
    text = text.removesuffix("?")
    if text.startswith("@"):
        return Kind("object", text.removeprefix("@"), optional)
    word, _, of = text.partition(" ")
    return Kind(word, of, optional)


def conforms(version: str, payload: Mapping[str, Any]) -> list[str]:
    """What in an event, or in an object by itself, contradicts the API version: empty if nothing.

    Each contradiction begins with the path of its field.
    """
    problems = list(_whole(version, payload, ""))
    if payload.get("object") == "event" and not problems:
        if payload["api_version"] != version:
            problems.append(f"api_version: {payload['api_version']!r} instead of {version!r}")
        data = payload["data"]
        problems += _whole(version, data["object"], "data.object.")
        if not problems:
            name = _named(version, data["object"]["object"])
            previous = data.get("previous_attributes") or {}
            problems += _fields(version, name, previous, "data.previous_attributes.", partial=True)
    return problems


@cache
def _names(version: str) -> Mapping[str, str]:
    """The class of an object, by what its field ``object`` says."""
    return {
        fields["object"].of: name for name, fields in classes(version).items() if "object" in fields
    }


def _named(version: str, name: object) -> str:
    return _names(version).get(str(name), "")


@cache
def _choices(of: str) -> frozenset[str]:
    return frozenset(of.split("|"))


def _whole(version: str, value: Mapping[str, Any], path: str) -> Iterator[str]:
    name = _named(version, value.get("object"))
    if name:
        yield from _fields(version, name, value, path, partial=False)
    else:
        yield f"{path}object: {value.get('object')!r} is no object of {version}"


def _fields(
    version: str, name: str, value: Mapping[str, Any], path: str, *, partial: bool
) -> Iterator[str]:
    known = classes(version)[name]
    for field in sorted(value.keys() - known.keys()):
        yield f"{path}{field}: unknown to {name} of {version}"
    for field, expected in known.items():
        if field in value:
            found = value[field]
            if found is None and expected.optional:
                continue
            # Most are all right: say so at once, there are very many.
            if type(found) is SIMPLE.get(expected.word):
                continue
            yield from _value(version, expected, found, path + field, partial=partial)
        elif not expected.optional and not partial:
            yield f"{path}{field}: missing from {name} of {version}"


def _value(version: str, expected: Kind, value: Any, path: str, *, partial: bool) -> Iterator[str]:
    if value is None:
        if not expected.optional and expected.word != "any":
            yield f"{path}: null, but {_said(expected)} is required"
        return
    if not _is_of(expected, value):
        yield f"{path}: {value!r} is not {_said(expected)}"
        return
    match expected.word:
        case "object":
            yield from _fields(version, expected.of, value, f"{path}.", partial=partial)
        case "list":
            yield from _members(version, expected.of, value, path)
        case "page":
            yield from _page(version, expected.of, value, path, partial=partial)
        case "map":
            for key, member in value.items():
                yield from _value(
                    version, kind(expected.of), member, f"{path}.{key}", partial=False
                )


def _members(version: str, of: str, value: list[Any], path: str) -> Iterator[str]:
    for index, member in enumerate(value):
        yield from _value(version, kind(of), member, f"{path}.{index}", partial=False)


def _page(
    version: str, of: str, value: Mapping[str, Any], path: str, *, partial: bool
) -> Iterator[str]:
    """A list object. Of an earlier one, an event says only what was in it."""
    shape = {"object": "= list", "data": f"list {of}", "has_more": "bool", "url": "str"}
    for field in sorted(value.keys() - shape.keys() - {"total_count"}):
        yield f"{path}.{field}: unknown to a list"
    for field, text in shape.items():
        if field in value:
            yield from _value(version, kind(text), value[field], f"{path}.{field}", partial=False)
        elif not partial or field == "data":
            yield f"{path}.{field}: missing from a list"


SIMPLE: Mapping[str, type] = {"bool": bool, "id": str, "int": int, "str": str}
PYTHON: Mapping[str, type | tuple[type, ...]] = {
    "any": object,
    "bool": bool,
    "float": (int, float),
    "id": str,
    "int": int,
    "list": list,
    "map": dict,
    "object": dict,
    "page": dict,
    "str": str,
}


def _is_of(expected: Kind, value: Any) -> bool:
    match expected.word:
        case "=":
            return isinstance(value, str) and value in _choices(expected.of)
        case "decimal":
            return isinstance(value, str) and value.replace(".", "", 1).isdecimal()
        case "null" | "other":
            return False
        case "int" | "float" if isinstance(value, bool):
            return False
    return isinstance(value, PYTHON[expected.word])


def _said(expected: Kind) -> str:
    return {
        "=": f"one of {expected.of.replace('|', ', ')}" if len(expected.of) < 300 else "known",
        "id": "the id of an object",
        "list": "a list",
        "map": "a map",
        "null": "null",
        "object": f"a {expected.of}",
        "other": "anything that is listed here",
        "page": "a list object",
    }.get(expected.word, expected.word)
