"""What a person at a terminal is asked and shown, and how they end it."""

import io
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from infra import terminal
from infra.terminal import agree, end_on_sigterm, is_agreed, moving_bar, progress, say_nothing


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
    # After Ctrl-D the cursor still stands behind the question.
    ends = "\n" if typed == "" else ""
    assert screen.getvalue() == f"Make these changes? [y/N] {ends}"
    return answer


def test_who_is_not_asked_agrees_and_is_told_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert agree()
    say_nothing("a line")
    assert capfd.readouterr() == ("", "")


def test_progress_is_said_at_once_on_standard_error_with_the_seconds_since_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter((1000.0, 1000.04, 1012.3))
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    said: list[str] = []
    screen = SimpleNamespace(write=said.append, flush=lambda: said.append("(shown)"))
    monkeypatch.setattr(sys, "stderr", screen)
    say = progress()
    for line in ("Starting ...", "Läuft"):
        say(line)
    shown = ["   0.0 s  Starting ...", "\n", "(shown)", "  12.3 s  Läuft", "\n", "(shown)"]
    assert said == shown


def test_a_bar_shows_the_days_that_are_done_and_in_the_end_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    bar = terminal.progress_bar(console)
    monkeypatch.setattr(terminal, "progress_bar", lambda on: bar if on is console else None)
    began = datetime(2026, 1, 1, 12, tzinfo=UTC)
    with moving_bar(console, "The month turns", began, began + timedelta(days=11, hours=1)) as show:
        show(began + timedelta(days=4, hours=23))
        (task,) = bar.tasks
        assert (task.description, task.completed, task.total) == ("The month turns", 4, 12)
    assert task.completed == 12
    assert "The month turns" in screen.getvalue()


@pytest.fixture
def _handlers() -> Iterator[None]:
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, signal.SIG_IGN) for each in signals]
    yield
    for each, handler in zip(signals, before, strict=True):
        signal.signal(each, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_either_signal_ends_a_command_as_ctrl_c_does(ends: signal.Signals) -> None:
    """Also one in the background, which a shell starts with SIGINT ignored."""
    end_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(ends)
