"""What a person at a terminal is asked before work that cannot be undone."""

import io
import sys

import pytest
from rich.console import Console

from infra.terminal import is_agreed


@pytest.mark.parametrize("typed", ["y\n", "Yes \n"])
def test_yes_is_an_agreement(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    assert _answered(monkeypatch, typed)


@pytest.mark.parametrize("typed", ["n\n", "\n", "yep\n", pytest.param("", id="Ctrl-D")])
def test_everything_else_is_a_no(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    assert not _answered(monkeypatch, typed)


def _answered(monkeypatch: pytest.MonkeyPatch, typed: str) -> bool:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    screen = io.StringIO()
    answer = is_agreed(Console(file=screen), "Make these changes?")
    assert screen.getvalue().rstrip() == "Make these changes? [y/N]"
    return answer
