"""The small mistakes that are tried on the domain and the store (tests/mutants)."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, all_files, explained
from tests.mutants.mutations import mutants_of


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return a < b", {"(a <= b)", "(a >= b)", "None"}),
        ("return a and b", {"(a or b)", "(a)", "(b)", "None"}),
        ("return a - 1", {"(a + 1)", "a - 2", "None"}),
        ("return f(a, b=c)", {"f(None, b=c)", "f(a)", "None"}),
        ("return False", {"True"}),
        ("return 'word'", {"'XXwordXX'", "None"}),
        ("raise a", {"pass"}),
        ("a += 1", {"a -= 1", "a = 1", "a += 2"}),
    ],
)
def test_a_line_is_changed_in_every_small_way(before: str, after: set[str], tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(f"def some(a, b, c):\n    {before}\n", encoding="utf-8")

    found = {mutant.after.removeprefix("return ") for mutant in mutants_of(tmp_path, "some.py")}

    assert found == after


def test_every_survivor_that_is_explained_is_a_mutant_there_is_and_says_why() -> None:
    there_are = {mutant.key for file in all_files() for mutant in mutants_of(ROOT, file)}

    assert {key for key in explained() if key not in there_are} == set()
    assert [key for key, why in explained().items() if len(why) < 20] == []
