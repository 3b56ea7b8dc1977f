"""The published schema of events, and whether an event is as it says."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from chalicelib.domain.events import SOURCE, CreditEvent
from chalicelib.domain.instants import format_instant

FILE = Path(__file__).parents[1] / "docs" / "events.schema.json"


@cache
def _validator() -> Any:
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def schema() -> Mapping[str, Any]:
    """The schema itself."""
    found: Mapping[str, Any] = _validator().schema
    return found


def delivered(event: CreditEvent) -> dict[str, Any]:
    """What of an event's envelope is ours, as EventBridge delivers it."""
    return {
        "source": SOURCE,
        "detail-type": event.name.value,
        "time": format_instant(event.at),
        "detail": json.loads(json.dumps(event.detail)),
    }


def problems_of(envelope: Mapping[str, Any]) -> list[str]:
    """What of an event is not as the schema says; names and rules, no values."""
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(envelope)]
