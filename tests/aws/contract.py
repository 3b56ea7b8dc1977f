"""The contract, as a checker: whether an answer of the API is one that `openapi.json` allows."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

__all__ = ["ValidationError"]

CONTRACT = Path(__file__).parents[2] / "chalicelib" / "api" / "openapi.json"

METHODS = ("get", "put", "post", "patch", "delete")


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CONTRACT.read_text(encoding="utf-8"))
    return found


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation of the file, by method and path."""
    return {
        (method.upper(), path): item[method]
        for path, item in document()["paths"].items()
        for method in METHODS
        if method in item
    }


def route_of(path: str) -> str | None:
    """The path of the file that a request's path, with or without a query, is of."""
    bare = path.partition("?")[0].rstrip("/")
    known = {route for _, route in operations()}
    if bare in known:
        return bare
    return next((route for route in known if _pattern(route).fullmatch(bare)), None)


@cache
def _pattern(route: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route)))


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """The node itself, or the component it refers to."""
    while "$ref" in node:
        target: Any = document()
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def check_value(schema: dict[str, Any], value: object) -> None:
    """Fails unless a value is valid under a schema of the file."""
    _validator(json.dumps(schema)).validate(value)


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": document()["components"]})


def check_answer(method: str, path: str, status: int, headers: dict[str, str], text: str) -> None:
    """Fails unless the operation may answer like this; header names are in lower case."""
    responses = operations()[method, path]["responses"]
    assert str(status) in responses, f"{method} {path} is not said to answer {status}"
    response = resolved(responses[str(status)])
    for name, described in response["headers"].items():
        header = resolved(described)
        value = headers.get(name.lower())
        assert value is not None or not header.get("required"), f"{name} is missing"
        if value is not None:
            check_value(header["schema"], value)
    media_type = headers["content-type"].partition(";")[0]
    assert media_type in response["content"], f"{method} {path} is not said to answer {media_type}"
    is_text = media_type.startswith("text/")
    value = text if is_text else json.loads(text)
    check_value(response["content"][media_type]["schema"], value)
