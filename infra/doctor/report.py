"""The findings as people read them, and as programs do."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.doctor.finding import Finding, State

MARKS = {State.FINE: "✓", State.UNKNOWN: "?", State.WARNING: "!", State.BAD: "✗"}
PLAIN_MARKS = {**MARKS, State.FINE: "ok", State.BAD: "X"}
"""For terminals that know no other letters than those of ASCII."""

_STYLES = {State.FINE: "green", State.UNKNOWN: "yellow", State.WARNING: "yellow", State.BAD: "red"}

_NO_WIDTH = 100_000
"""In columns: what is not shown on a terminal is searched and copied from, line by line."""


def show(findings: Iterable[Finding], console: Console) -> None:
    """Prints a table: a mark, what was looked at, what was found; below that, what to do."""
    try:
        "".join(MARKS.values()).encode(console.encoding)
        marks = MARKS
    except UnicodeEncodeError:
        marks = PLAIN_MARKS
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    # Not cut: a command has to stay whole, however narrow the terminal.
    table.add_column(overflow="fold")
    for finding in findings:
        # As texts: what comes from AWS can have rich's markup in it.
        table.add_row(
            Text(marks[finding.state], _STYLES[finding.state]),
            Text(finding.check),
            Text(finding.says),
        )
        if finding.fix:
            table.add_row("", "", Text(f"-> {finding.fix}"))
    if console.is_terminal:
        console.print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_NO_WIDTH).print(table)
    lines = text.getvalue().splitlines()
    console.file.writelines(f"{line.rstrip()}\n" for line in lines)


def summary(findings: Sequence[Finding]) -> str:
    """How many of each there are, in a line."""
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
    """For programs: one object in one line."""
    report = {
        "stage": stage,
        "place": place,
        "fine": is_fine(findings),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report)
