"""The consumer of docs/events.md, as a reader of that page has it."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "events.md"


@cache
def _namespace() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), found)  # noqa: S102 - it is ours
    return found


def consumer(hand_on: Callable[[str, dict[str, Any]], None]) -> Any:
    """A new one, which hands on what it is told in order."""
    return _namespace()["Consumer"](hand_on)
