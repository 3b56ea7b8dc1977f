"""Writes the API reference from the contract, for people who would rather read than generate.

python -m infra reference        (make reference)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "chalicelib" / "api" / "openapi.json"
PAGE = ROOT / "docs" / "api-reference.md"

Node = dict[str, Any]

GROUPS: dict[str, Callable[[Node], bool]] = {
    "Every route": lambda _: True,
    "A route that needs a token": lambda operation: bool(operation.get("security")),
    "A route that takes JSON": lambda operation: (
        "application/json" in operation.get("requestBody", {}).get("content", ())
    ),
}
"""Routes that share problems; the page names those once, and not with each route."""


def page(contract: Node) -> str:
    """The page, in Markdown."""
    return "\n".join(_Writer(contract).lines()) + "\n"


class _Writer:
    def __init__(self, contract: Node) -> None:
        self._contract = contract
        self._groups: dict[str, tuple[Callable[[Node], bool], list[tuple[str, str]]]] = {}
        operations = [
            operation
            for of_path in contract["paths"].values()
            for method, operation in of_path.items()
            if method != "parameters"
        ]
        for title, has in GROUPS.items():
            each = [self._problems(operation) for operation in operations if has(operation)]
            said = {problem for _, named in self._groups.values() for problem in named}
            in_all = [problem for problem in each[0] if all(problem in one for one in each)]
            self._groups[title] = (has, [problem for problem in in_all if problem not in said])

    def lines(self) -> Iterator[str]:
        yield "# API reference"
        yield ""
        yield "Made from [openapi.json](../chalicelib/api/openapi.json) by `make reference`: do not"
        yield "edit it here. What a contract cannot say is in [api.md](api.md)."
        yield ""
        yield from self._common_problems()
        for path, operations in self._contract["paths"].items():
            shared = operations.get("parameters", [])
            for method, operation in operations.items():
                if method != "parameters":
                    own = {"parameters": [*shared, *operation.get("parameters", ())]}
                    yield from self._operation(f"{method.upper()} {path}", operation | own)
        yield "# Shapes"
        yield ""
        for name, schema in self._contract["components"]["schemas"].items():
            yield from self._schema(name, schema)

    def _common_problems(self) -> Iterator[str]:
        yield "## Common problems"
        yield ""
        yield "| can answer | with | when |"
        yield "|---|---|---|"
        for title, (_, problems) in self._groups.items():
            for status, meaning in problems:
                yield f"| {title} | {status} | {_cell(meaning)} |"
        yield ""
        yield "A route below names only its own problems beside these."
        yield ""

    def _problems(self, operation: Node) -> list[tuple[str, str]]:
        return [
            (status, self._resolved(answer)["description"])
            for status, answer in operation["responses"].items()
            if not status.startswith("2")
        ]

    def _operation(self, title: str, operation: Node) -> Iterator[str]:
        yield f"## {title}"
        yield ""
        yield f"**{operation['summary']}.** {operation.get('description', '')}".rstrip()
        yield ""
        scopes = [
            f"`{scope}`"
            for choice in operation.get("security", ())
            for names in choice.values()
            for scope in names
        ]
        yield f"Who may: a token with {' or '.join(scopes)}." if scopes else "Who may: anyone."
        yield ""
        parameters = [self._resolved(each) for each in operation["parameters"]]
        if parameters:
            yield "| parameter | in | needed | meaning |"
            yield "|---|---|---|---|"
            for parameter in parameters:
                need = "required" if parameter.get("required") else ""
                meaning = _cell(parameter.get("description", ""))
                yield f"| `{parameter['name']}` | {parameter['in']} | {need} | {meaning} |"
            yield ""
        if "requestBody" in operation:
            yield from self._content("Body", operation["requestBody"])
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                resolved = self._resolved(answer)
                yield from self._content(f"{status}: {resolved['description']}", resolved)
        common = {
            problem for has, shared in self._groups.values() if has(operation) for problem in shared
        }
        own = [problem for problem in self._problems(operation) if problem not in common]
        if own:
            told = "; ".join(f"{status} ({meaning.rstrip('.')})" for status, meaning in own)
            yield f"Problems of its own: {told}."
            yield ""

    def _content(self, title: str, holder: Node) -> Iterator[str]:
        for kind, content in self._resolved(holder).get("content", {}).items():
            yield f"*{title.rstrip('.')}* (`{kind}`): {_type(content.get('schema', {}))}"
            yield ""
            if "example" in content:
                text = content["example"]
                shown = text if isinstance(text, str) else json.dumps(text, indent=2)
                yield "```json" if kind.endswith("json") else "```"
                yield "\n".join(shown.splitlines())
                yield "```"
                yield ""

    def _schema(self, name: str, schema: Node) -> Iterator[str]:
        yield f"## {name}"
        yield ""
        if "description" in schema:
            yield schema["description"]
            yield ""
        if "enum" in schema:
            yield f"One of {', '.join(f'`{word}`' for word in schema['enum'])}."
            yield ""
        required = set(schema.get("required", ()))
        if "properties" in schema:
            yield "| field | type | needed | meaning |"
            yield "|---|---|---|---|"
            for field, value in schema["properties"].items():
                need = "required" if field in required else ""
                meaning = _cell(value.get("description", ""))
                yield f"| `{field}` | {_type(value)} | {need} | {meaning} |"
            yield ""

    def _resolved(self, node: Node) -> Node:
        while "$ref" in node:
            found: Any = self._contract
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node


def _type(schema: Node) -> str:
    """The type of a value in a few words."""
    kind = schema.get("type", "any")
    match schema:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
            words = f"[{name}](#{name.lower()})"
        case {"anyOf": list(choices)} | {"oneOf": list(choices)}:
            words = " or ".join(dict.fromkeys(map(_type, choices)))
        case {"const": constant}:
            words = f"`{json.dumps(constant)}`"
        case {"type": list(kinds)}:
            words = " or ".join(kinds)
        case {"type": "array", "items": dict(items)}:
            words = f"list of {_type(items)}"
        case {"format": str(form)}:
            words = f"{kind} ({form})"
        case {"minimum": int(least), "maximum": int(most)}:
            words = f"{kind}, {least:,} to {most:,}"
        case _:
            words = kind
    return words


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
