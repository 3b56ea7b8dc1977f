"""Shows the findings to people, and writes them for programs."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from infra.doctor.finding import Finding, State

MARKS = {State.FINE: "✓", State.UNKNOWN: "?", State.WARNING: "!", State.BAD: "✗"}
PLAIN_MARKS = {**MARKS, State.FINE: "ok", State.BAD: "X"}
"""The marks for terminals that can only show ASCII."""

_STYLES = {State.FINE: "green", State.UNKNOWN: "yellow", State.WARNING: "yellow", State.BAD: "red"}

_NARROWEST = 20
"""The least width of a finding in characters, on the narrowest terminal."""


def show(findings: Sequence[Finding], console: Console) -> None:
    """Prints a table: a mark, the check, the finding; below that, what to do.

    A terminal wraps the finding. It does not wrap commands to type, so that they can be copied.
    """
    marks = _marks(console)
    width = max((len(finding.check) for finding in findings), default=0)
    indent = " " * (max(map(len, marks.values())) + width + 4)
    room = max(console.width - len(indent), _NARROWEST)
    for finding in findings:
        says = _printable(finding.says)
        found = textwrap.wrap(says, room) if console.is_terminal else [says]
        mark = f"{marks[finding.state]:<{len(indent) - width - 2}}"
        # As plain texts: an answer from AWS can contain rich's markup.
        line = Text(mark, _STYLES[finding.state]) + Text(f"{finding.check:<{width}}  ")
        line += Text(f"\n{indent}".join(found))
        console.print(line, soft_wrap=True)
        if finding.fix:
            console.print(Text(f"{indent}-> {_printable(finding.fix)}"), soft_wrap=True)


def _printable(text: str) -> str:
    """A text without codes that move a terminal's cursor: anybody can put those into DNS."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _marks(console: Console) -> Mapping[State, str]:
    try:
        "".join(MARKS.values()).encode(console.encoding)
    except UnicodeEncodeError:
        return PLAIN_MARKS
    return MARKS


def summary(findings: Sequence[Finding]) -> str:
    """The number of findings of each kind, in one line."""
    counted = Counter(finding.state for finding in findings)
    parts = [
        f"{counted[state]} {words}"
        for state, words in (
            (State.BAD, "to be done"),
            (State.WARNING, "worth knowing"),
            (State.UNKNOWN, "could not be looked at"),
            (State.FINE, "fine"),
        )
        if counted[state]
    ]
    return f"Of {len(findings)} findings: {', '.join(parts)}."


def is_fine(findings: Iterable[Finding]) -> bool:
    """Whether nothing has to be done."""
    return not any(finding.state is State.BAD for finding in findings)


def as_json(stage: str, place: str, findings: Sequence[Finding]) -> str:
    """The findings for programs: one object in one line."""
    report = {
        "stage": stage,
        "place": place,
        "fine": is_fine(findings),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report)
