"""`make env WAIT=120`: a program of another repository waits for the stack that it has started."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from infra.commands import env, token
from infra.local import stacks
from infra.local.tokens import TokenError


class Starting:
    """A stack that is up after so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, up_after: int) -> None:
        self.slept = 0
        self.up_after = up_after
        monkeypatch.setattr(stacks, "running_stack", self.running_stack)
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(token, "issue", self.issue)
        self.issued: tuple[object, ...] = ()

    def running_stack(self) -> Any:
        if self.slept < self.up_after:
            raise stacks.NotRunningError("No local stack is running.")
        return SimpleNamespace(api_url="http://127.0.0.1:9/it's", issuer="http://127.0.0.1:8")

    def issue(self, *wanted: object) -> str:
        self.issued = wanted
        return "a.b.c"

    def sleep(self, seconds: float) -> None:
        self.slept += int(seconds)


def test_it_waits_until_the_stack_is_up_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = Starting(monkeypatch, up_after=3)
    assert env.main(["--wait", "120"]) == 0
    assert stack.slept == 3
    backend = "credits:backend credits:billing"
    assert stack.issued == ("http://127.0.0.1:8", "backend", backend, 3600)
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


def test_a_token_is_the_one_that_was_asked_for_and_printed_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = Starting(monkeypatch, up_after=0)
    issuer = "http://127.0.0.1:8"
    assert token.main(["--user-id", "42"]) == 0
    assert stack.issued == (issuer, "42", "credits:read credits:use", 3600)
    words = ["--user-id", "auth0|7", "--scope", "credits:admin credits:read", "--seconds", "5"]
    assert token.main(words) == 0
    assert stack.issued == (issuer, "auth0|7", "credits:admin credits:read", 5)
    assert capsys.readouterr().out == "a.b.c\na.b.c\n"
    assert env.main([*words, "--wait", "9"]) == 0
    assert stack.issued == (issuer, "auth0|7", "credits:admin credits:read", 5)
    assert stack.slept == 0


def test_an_issuer_that_gives_no_token_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> str:
        raise TokenError("The issuer has ended.")

    Starting(monkeypatch, up_after=0)
    monkeypatch.setattr(token, "issue", none)
    assert token.main(["--user-id", "42"]) == 1
    assert capsys.readouterr() == ("", "error: The issuer has ended.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a user: make token USER_ID=42"),
        (["--user-id", "42", "--seconds", "0"], "from 1 to 31,"),
        (["--user-id", "a/b"], "user_id: must be 1 to 128"),
        (["--user-id", "42", "--scope", "credits:read root sudo"], "there is no scope root, sudo;"),
    ],
)
def test_a_token_that_cannot_be_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        token.main(words)
    assert message in capsys.readouterr().err
