"""The commands: one name for all, help for each, and pages that are what they would write."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from infra import reference
from infra.__main__ import COMMANDS, main, overview

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_page_of_the_api_is_that_of_its_contract() -> None:
    contract = json.loads(reference.CONTRACT.read_text(encoding="utf-8"))
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(contract)
    for path, operations in contract["paths"].items():
        for method in set(operations) - {"parameters"}:
            assert f"## {method.upper()} {path}\n" in reference.page(contract)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    assert said.out.startswith("usage: ")


def test_a_command_that_is_not_there_is_answered_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", "nonsense"])
    assert main() == 2
    said = capsys.readouterr().err
    assert "there is no command 'nonsense'" in said
    assert overview() in said


def test_what_make_runs_of_ours_is_a_command() -> None:
    """So that nobody has to look in two places for what there is."""
    modules = set(re.findall(r"\$\(RUN\) -m ((?:infra|bench)[\w.]*)", MAKEFILE))
    known = {module for module, _ in COMMANDS.values()}
    assert modules <= known
    for module in known:
        assert importlib.util.find_spec(module) is not None
