"""The guards of the infrastructure are where they are said to be (`python -m tests.guards`)."""

import re
from collections import defaultdict

import pytest

from infra.deployment import packaging
from tests.guards.__main__ import packaging_in_process
from tests.guards.infrastructure import ROOT, LostGuardError, found, without_text


def test_every_guard_is_where_it_is_said_to_be_and_what_is_left_can_be_read() -> None:
    for guard in found():
        assert guard.removed()


def test_every_guard_has_a_name_of_its_own_and_says_what_it_is_for() -> None:
    names = [guard.name for guard in found()]
    assert len(set(names)) == len(names)
    for guard in found():
        assert len(guard.what.split()) >= 3, guard.name
        assert guard.tests, guard.name


def test_every_test_that_a_guard_names_is_there() -> None:
    named: dict[str, set[str]] = defaultdict(set)
    for test in (test for guard in found() for test in guard.tests):
        file, _, name = test.partition("::")
        named[file].add(name)
    for file, names in named.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert names <= set(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)), file


def test_a_guard_that_is_not_where_it_was_is_an_error() -> None:
    lost = without_text("a-guard", "if amount > limit:")
    assert lost("if amount > limit:\n    refuse()") == "\n    refuse()"
    for text in ("if amount > most:", "if amount > limit:\nif amount > limit:"):
        with pytest.raises(LostGuardError):
            lost(text)


def test_what_is_replaced_to_package_faster_is_there_and_comes_back() -> None:
    """A guard is tried in a process of its own: what is wrong here shows minutes later, in each."""
    before = packaging._run
    with packaging_in_process():
        assert packaging._run is not before
    assert packaging._run is before
