"""Reads the TOML files that the team edits, and names the line of every mistake."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

from chalicelib.domain.fields import MOST_PRIORITY
from chalicelib.domain.nearest import nearest

_LONGEST_SHOWN = 80
_MOST_PROBLEMS = 50

# A TOMLDecodeError is a ValueError, and so is Python's error for a number with thousands of digits.
_UNREADABLE = (ValueError, RecursionError)

Path = tuple[str | int, ...]
Problem = tuple[int, str]
"""A line, and what is wrong there."""

Rule = Callable[[Any], str | None]
"""For a value: what it must be, or None if it already is."""


class FileError(ValueError):
    """A file is wrong. One line of text for each of the first mistakes, with the line to fix.

    It is not one of the refusals in ``errors``: the system does not start, so no request gets it.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        told = list(problems)
        more = len(told) - _MOST_PROBLEMS
        if more > 0:
            told[_MOST_PROBLEMS:] = [f"and {more:,} more"]
        super().__init__("\n".join(told))


def read(
    text: str,
    source: str,
    find: Callable[[Mapping[str, Any], "Lines"], Iterable[Problem]],
    error_type: type[FileError],
) -> dict[str, Any]:
    """The document in ``text``, if ``find`` finds no problem in it; ``source`` is its name.

    Raises ``error_type`` with every mistake, not only the first, in the order of the lines.
    """
    # Some editors begin a file with a byte order mark, some end its lines in two characters.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = Lines(text)
    try:
        document = tomllib.loads(text)
    except _UNREADABLE as error:
        # tomllib's message without its place. It names the place where it gave up. For a bracket or
        # a quote that is never closed, that is far below the line to fix.
        reason = str(error).rpartition(" (at ")[0] or str(error)
        message = f"{source}, line {lines.of_syntax_error()}: is not valid TOML: {reason}"
        raise error_type([message]) from error
    problems = sorted(find(document, lines), key=lambda problem: problem[0])
    if problems:
        raise error_type(f"{source}, line {line}: {message}" for line, message in problems)
    return document


class Lines:
    """Finds the line of a key, a table or a mistake in a TOML text.

    tomllib returns values but not their lines. So we let it read the first line, the first two
    lines, and so on. A value that is new in a result stands on the added line; if it takes several
    lines, it begins on the first line since the last result. This works for every way of writing
    TOML. It is slow only for a file with a mistake.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _readable(self) -> list[tuple[int, dict[str, Any]]]:
        """Each number of lines from the top that can be read together, with their content."""
        found: list[tuple[int, dict[str, Any]]] = [(0, {})]
        lines = self._text.split("\n")
        for count in range(1, len(lines) + 1):
            try:
                found.append((count, tomllib.loads("\n".join(lines[:count]))))
            except _UNREADABLE:
                continue  # in the middle of a statement, or after a mistake
        return found

    def of(self, *path: str | int) -> int:
        """The line on which ``path`` begins: a key, or the header of a table."""
        steps = pairwise(self._readable)
        return next(before + 1 for (before, _), (_, document) in steps if _has(document, path))

    def of_syntax_error(self) -> int:
        """The line on which the unreadable statement begins.

        All the text before it can be read; no longer part of the text can.
        """
        return self._readable[-1][0] + 1


def _has(value: Any, path: Path) -> bool:
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):
        return False
    return True


def unknown_keys(document: Mapping[str, Any], known: Iterable[str], lines: Lines) -> list[Problem]:
    """The top-level keys of a file that it must not have."""
    known = list(known)
    return [
        (lines.of(key), f"{key} is not a known key; {advice(key, known)}")
        for key in document
        if key not in known
    ]


def table_problems(
    path: Path, table: Mapping[str, Any], rules: Mapping[str, Rule], lines: Lines
) -> list[Problem]:
    """The keys of a table that are unknown or wrong."""
    here = _name(path)
    problems = []
    for key, value in table.items():
        if key not in rules:
            message = f"{here}.{key} is not a known key; {advice(key, rules)}"
            problems.append((lines.of(*path, key), message))
        elif (rule := rules[key](value)) is not None:
            message = f"{here}.{key} must be {rule}, is {shown(value)}"
            problems.append((lines.of(*path, key), message))
    return problems


def repeated_ids(name: str, tables: Sequence[Mapping[str, Any]], lines: Lines) -> list[Problem]:
    """The ids that an earlier table of the same name already has."""
    first_with: dict[str, int] = {}
    problems = []
    for index, table in enumerate(tables):
        found = table.get("id")
        if not isinstance(found, str):
            continue
        first = first_with.setdefault(found, index)
        if first != index:
            taken = f"{name}[{first}] on line {lines.of(name, first)}"
            message = f"{name}[{index}].id {shown(found)} is already the id of {taken}"
            problems.append((lines.of(name, index, "id"), message))
    return problems


def _name(path: Path) -> str:
    """A table's name as people write it, ``plans[2]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else step for step in path)


def choice_rule(choices: type[StrEnum]) -> Rule:
    """The rule for one of a few words."""
    words = [choice.value for choice in choices]
    rule = f"one of {', '.join(map(repr, words))}"
    return lambda value: None if value in words else rule


def whole_rule(least: int, most: int, otherwise: str) -> Rule:
    """The rule for a whole number within bounds; ``otherwise`` says what leaving it out means."""

    def rule(value: Any) -> str | None:
        # Not isinstance: to Python, true is the number 1.
        if type(value) is not int or value < least:
            return f"a whole number of {least} or more {otherwise}".rstrip()
        return None if value <= most else f"at most {most:,} {otherwise}".rstrip()

    return rule


def priority_rule(otherwise: str) -> Rule:
    """The rule for the priority of credits."""
    rule = f"a whole number from 0 to {MOST_PRIORITY} {otherwise}"
    return lambda value: None if type(value) is int and 0 <= value <= MOST_PRIORITY else rule


def shown(value: Any) -> str:
    """A value as TOML writes it, cut to fit on a line."""
    if isinstance(value, date | time):
        text = str(value)
    else:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def advice(wrong: str, known: Iterable[str]) -> str:
    """The key that a wrong key probably means, or the list of all keys."""
    known = list(known)
    meant = nearest(wrong, known)
    return f"did you mean {meant!r}?" if meant else f"the known keys are {', '.join(known)}"
