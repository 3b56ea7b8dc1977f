"""What a guard is, and how it is taken away.

A guard is a place in the product that keeps something from happening: a condition of a write, a
check of who is calling, a bound, a line of the infrastructure. Those in the code are listed in the
TOML files beside this one, by an anchor: a text that its file has exactly once. Those of the
infrastructure are found in the files themselves (`infrastructure.py`), so none can be forgotten.
"""

import ast
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GROUPS = ("conditions", "authorizations", "bounds")
"""The groups that are listed, each in a file of its name; `infrastructure` is found."""

LEAST_WORDS = 3


class LostGuardError(Exception):
    """A guard is not, or not only once, where it is said to be."""


@dataclass(frozen=True)
class Guard:
    """One guard.

    ``what`` says in words what it keeps from happening. ``remove`` answers the text of ``file``
    without it, or raises `LostGuardError`. ``tests`` are those that must fail then, as pytest's
    node ids, the quickest first.
    """

    name: str
    group: str
    file: str
    what: str
    tests: tuple[str, ...]
    remove: Callable[[str], str]

    @cached_property
    def text(self) -> str:
        """The file as it is."""
        return (ROOT / self.file).read_text(encoding="utf-8")

    def removed(self) -> str:
        """The file without the guard. Raises `LostGuardError`; what is left can be parsed."""
        text = self.remove(self.text)
        if text == self.text:
            raise LostGuardError(f"{self.name}: removing it changes nothing in {self.file}")
        if self.file.endswith(".py"):
            ast.parse(text)
        return text

    @cached_property
    def lines(self) -> frozenset[int]:
        """The lines of the file that removing it changes, from 1."""
        before, after = self.text.splitlines(), self.removed().splitlines()
        shortest = min(len(before), len(after))
        first = next((n for n in range(shortest) if before[n] != after[n]), shortest)
        rest = range(1, shortest - first + 1)
        last = next((n for n in rest if before[-n] != after[-n]), len(rest) + 1)
        return frozenset(range(first + 1, len(before) - last + 2))


def listed(group: str) -> list[Guard]:
    """The guards of one of the `GROUPS`, in the order of its file."""
    tables = tomllib.loads((HERE / f"{group}.toml").read_text(encoding="utf-8"))["guards"]
    return [
        Guard(
            name=table["name"],
            group=group,
            file=table["file"],
            what=table["what"],
            tests=tuple(table["tests"]),
            remove=without(table["name"], table["anchor"], table["becomes"]),
        )
        for table in tables
    ]


def without(name: str, anchor: str, becomes: str) -> Callable[[str], str]:
    """Removes a guard by putting another text in the place of its anchor."""

    def remove(text: str) -> str:
        if text.count(anchor) != 1:
            raise LostGuardError(f"{name}: its anchor is there {text.count(anchor)} times")
        return text.replace(anchor, becomes)

    return remove
