"""Writes the API reference from the contract, for people who would rather read than generate.

python -m infra reference        (make reference)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "chalicelib" / "api" / "openapi.json"
PAGE = ROOT / "docs" / "api-reference.md"

Node = dict[str, Any]


def page(contract: Node) -> str:
    """The page, in Markdown."""
    return "\n".join(_Writer(contract).lines()) + "\n"


class _Writer:
    def __init__(self, contract: Node) -> None:
        self._contract = contract

    def lines(self) -> Iterator[str]:
        yield "# API reference"
        yield ""
        yield "Made from [openapi.json](../chalicelib/api/openapi.json) by `make reference`: do not"
        yield "edit it here. What a contract cannot say is in [api.md](api.md)."
        yield ""
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
            yield "| parameter | in | | meaning |"
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
        problems = [
            f"{status} ({self._resolved(answer)['description'].rstrip('.')})"
            for status, answer in operation["responses"].items()
            if not status.startswith("2")
        ]
        yield f"Problems: {'; '.join(problems)}." if problems else ""
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
            yield "| field | type | | meaning |"
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
