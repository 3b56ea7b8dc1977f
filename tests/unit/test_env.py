"""`make env WAIT=120`: a program of another repository waits for the stack that it has started."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from infra.commands import env, token
from infra.local import stacks


class Starting:
    """A stack that is up after so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, up_after: int) -> None:
        self.slept = 0
        self.up_after = up_after
        monkeypatch.setattr(stacks, "running_stack", self.running_stack)
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(token, "issue", lambda *_: "a.b.c")

    def running_stack(self) -> Any:
        if self.slept < self.up_after:
            raise stacks.NotRunningError("No local stack is running.")
        return SimpleNamespace(api_url="http://127.0.0.1:9/it's", issuer="http://127.0.0.1:8")

    def sleep(self, seconds: float) -> None:
        self.slept += int(seconds)


def test_it_waits_until_the_stack_is_up_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = Starting(monkeypatch, up_after=3)
    assert env.main(["--wait", "120"]) == 0
    assert stack.slept == 3
    assert capsys.readouterr().out == (
        """export API='http://127.0.0.1:9/it'"'"'s'\nexport TOKEN=a.b.c\n"""
        "export TOKEN_URL=http://127.0.0.1:8/oauth/token\n"
    )


@pytest.mark.parametrize(("words", "slept"), [([], 0), (["--wait", "5"], 5)])
def test_it_says_so_if_there_is_none_by_then(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    slept: int,
) -> None:
    stack = Starting(monkeypatch, up_after=6)
    assert env.main(words) == 1
    assert stack.slept == slept
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: No local stack is running.\n")


def test_who_waits_says_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        env.main(["--wait", "4000"])
    assert "3,600" in capsys.readouterr().err
