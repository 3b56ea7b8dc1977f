"""The worked examples of docs/extending.md: made in a copy of the tree, and run there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

EXAMPLES = dict(re.findall(r"^## (A new .+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))

NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".*_cache", ".hypothesis", "build", "images", "node_modules")
)

DEADLINE_SECONDS = 600


class Step(NamedTuple):
    """A block of an example: a file to change or to make, or commands to run."""

    file: str | None
    is_new: bool
    text: str


def steps(example: str) -> Iterator[Step]:
    """The blocks of an example, in their order on the page."""
    pattern = r"(?:^`([^`\n]+)`( \(new\))?\n\n)?^```(\w+)\n(.*?)^```$"
    for file, is_new, language, text in re.findall(pattern, example, re.MULTILINE | re.DOTALL):
        assert bool(file) != (language == "sh"), f"which file is this?\n{text}"
        assert bool(is_new) == (language not in ("diff", "sh")), f"new, or a diff?\n{text}"
        yield Step(file or None, bool(is_new), text)


def changed(source: str, diff: str) -> str:
    """The text with the places of a diff changed; each must be found, and only once."""
    for place in diff.split("@@\n"):
        lines = [(line[:1], line[1:]) for line in place.splitlines(keepends=True)]
        before = "".join(line or "\n" for mark, line in lines if mark != "+")
        after = "".join(line or "\n" for mark, line in lines if mark != "-")
        source = f"\n{source}"
        assert source.count(f"\n{before}") == 1, f"found {source.count(before)} times:\n{before}"
        source = source.replace(f"\n{before}", f"\n{after}").removeprefix("\n")
    return source


TEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def commands(block: str) -> list[list[str]]:
    """What the lines of a block run; tests that follow on tests are run with them.

    Make sets up an environment, which we have already.
    """
    found: list[list[str]] = []
    for line in block.splitlines():
        words = shlex.split(line)
        if words[:2] == ["make", "test"]:
            if not found or tuple(found[-1][: len(TEST)]) != TEST:
                found.append([*TEST])
            found[-1] += words[2].removeprefix("ARGS=").split()
        elif words[0] == "make":
            found.append([sys.executable, "-m", COMMANDS[words[1]][0]])
        else:
            found.append(words)
    return found


def run(words: list[str], tree: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # There it finds what takes Hypothesis three seconds to work out about Unicode.
    clean["HYPOTHESIS_STORAGE_DIRECTORY"] = str(ROOT / ".hypothesis")
    ended = subprocess.run(
        words,
        cwd=tree,
        env=clean,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{shlex.join(words)}\n{ended.stdout}\n{ended.stderr}"


def test_there_is_an_example_of_each_kind() -> None:
    assert list(EXAMPLES) == ["A new plan rule", "A new email", "A new type of ledger entry"]


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_works_as_the_page_shows_it(title: str, tmp_path: Path) -> None:
    tree = tmp_path / "credits"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
    ran = set()
    for file, is_new, text in steps(EXAMPLES[title]):
        if file is None:
            for words in commands(text):
                run(words, tree)
                ran |= {*words}
        elif is_new:
            assert not (tree / file).exists()
            (tree / file).write_text(text, encoding="utf-8")
        else:
            source = (tree / file).read_text(encoding="utf-8")
            (tree / file).write_text(changed(source, text), encoding="utf-8")
    made = {file for file, is_new, _ in steps(EXAMPLES[title]) if is_new and "test_" in str(file)}
    assert made
    assert made <= ran, "an example's own tests are among those it runs"
    ruff = str(Path(sys.executable).with_name("ruff"))
    touched = {file for file, _, _ in steps(EXAMPLES[title]) if file and file.endswith(".py")}
    run([ruff, "format", "--check", *sorted(touched)], tree)
    run([ruff, "check", "--no-cache", *sorted(touched)], tree)
