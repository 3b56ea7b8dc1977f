"""The small mistakes that are tried on the product (tests/mutants)."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import memory
from tests.mutants.__main__ import ROOT, explained, files_of
from tests.mutants.mutations import PRODUCT, Mutant, mutants_of
from tests.mutants.plan import SECONDS_A_MUTANT, Plan, shares_of


def made_of(tmp_path: Path, text: str) -> list[Mutant]:
    (tmp_path / "some.py").write_text(text, encoding="utf-8")
    return mutants_of(tmp_path, ["some.py"])


def changed(tmp_path: Path, body: str) -> set[str]:
    """What becomes of the lines of a function."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return {mutant.after for mutant in made_of(tmp_path, f"def some(a, b, c):\n{lines}")}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return a < b", {"(a <= b)", "(True)", "None"}),
        ("return a and b", {"(a)", "(b)", "(True)", "None"}),
        ("return a - 1", {"(a + 1)", "a - 2", "None"}),
        ("return f(a, b=c)", {"a", "f(a)", "None"}),
        ("return f(a, b)", {"f(None, b)", "f(a, None)", "None"}),
        ("return False", {"True"}),
        ("return 'word'", {"'XXwordXX'", "None"}),
        ("return a if b else c", {"(a)", "(c)", "None"}),
        ("raise a", {"pass"}),
        ("a += 1", {"a -= 1", "a = 1", "a += 2"}),
    ],
)
def test_a_line_is_changed_in_every_small_way(before: str, after: set[str], tmp_path: Path) -> None:
    assert {one.removeprefix("return ") for one in changed(tmp_path, before)} == after


def test_more_errors_are_suppressed_than_were_meant(tmp_path: Path) -> None:
    assert "with suppress(Exception):" in changed(tmp_path, "with suppress(a):\n    b()")


def test_an_instant_loses_its_fraction_of_a_second(tmp_path: Path) -> None:
    (line,) = [one for one in changed(tmp_path, "a = format_instant(b)") if "replace" in one]
    assert line == "a = format_instant(b.replace(microsecond=0))"


def test_a_refusal_is_never_raised_or_always(tmp_path: Path) -> None:
    assert changed(tmp_path, "if a:\n    raise b") == {"pass", "if True:"}


def test_what_is_done_under_a_condition_is_never_done_or_always(tmp_path: Path) -> None:
    assert {"if False:", "if True:"} < changed(tmp_path, "if a:\n    b()")


def test_a_condition_of_a_write_is_left_out(tmp_path: Path) -> None:
    assert "a.put(b)" in changed(tmp_path, "a.put(b, condition=c)")
    assert "a({'Item': b})" in {
        line.replace("(({", "({").replace("}))", "})")
        for line in changed(tmp_path, "a({'Item': b, 'ConditionExpression': c})")
    }


@pytest.mark.parametrize(
    ("read", "stale"),
    [
        ("a.get(b, consistent_read=True)", {"a.get(b, consistent_read=False)", "a.get(b)"}),
        ("a.query(ConsistentRead=True)", {"a.query(ConsistentRead=False)", "a.query()"}),
    ],
)
def test_a_consistent_read_becomes_an_eventual_one(
    read: str, stale: set[str], tmp_path: Path
) -> None:
    assert stale <= changed(tmp_path, read)


@pytest.mark.parametrize(
    ("bound", "without"),
    [
        ("a = 1 <= b <= c", {"a = (1 <= b)", "a = (b <= c)", "a = (1 < b <= c)"}),
        ("a = b[:500]", {"a = (b[:])", "a = b[:501]"}),
        ("a = min(b, c)", {"a = b", "a = c"}),
        ("a = client(timeout=5)", {"a = client(timeout=6)", "a = client()"}),
        (
            "a = re.compile('[a-z]{1,64}')",
            {"a = re.compile('[a-z]{1,65}')", "a = re.compile('[a-z]+')"},
        ),
        ("a = re.compile('[a-z]')", {"a = re.compile('.')"}),
    ],
)
def test_a_bound_is_moved_and_dropped(bound: str, without: set[str], tmp_path: Path) -> None:
    assert without <= changed(tmp_path, bound)


def test_a_caller_is_not_asked(tmp_path: Path) -> None:
    assert "a = b.query()" in changed(tmp_path, "a = b.authenticated().query()")
    assert changed(tmp_path, "a.may_allocate()") == {"pass"}
    whose = changed(tmp_path, "a = b.uses_credits_of(c)")
    assert "a = c or b.user_id" in whose


SCOPES = """
class Scope(StrEnum):
    READ = "read"
    ADMIN = "admin"


def allowed(self):
    self._needs(Scope.ADMIN)
"""


def test_another_right_is_asked_for_or_one_more_will_do(tmp_path: Path) -> None:
    (tmp_path / PRODUCT).mkdir()
    (tmp_path / PRODUCT / "scopes.py").write_text(SCOPES, encoding="utf-8")
    found = {mutant.after for mutant in made_of(tmp_path, SCOPES)}
    assert {"self._needs((Scope.READ))", "self._needs(Scope.ADMIN, Scope.READ)"} <= found


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("a = [x for x in b if c]", {"a = ([x for x in b])", "a = ([])"}),
        ("for x in (b, c):\n    pass", {"for x in ((b,)):", "for x in ((c,)):"}),
        ("a = f'usage#{b}#{c}'", {"a = f'usage##{c}'", "a = f'usage#{b}#'"}),
        ("try:\n    a()\nexcept Exception:\n    b()", {"except ():"}),
        ("a()\nb()", {"b() a()"}),
    ],
)
def test_filters_parts_handlers_and_the_order_of_steps_are_lost(
    line: str, after: set[str], tmp_path: Path
) -> None:
    assert after <= changed(tmp_path, line)


def test_a_base_that_stands_guard_is_left_out(tmp_path: Path) -> None:
    found = {
        mutant.after for mutant in made_of(tmp_path, "class Some(Guarded, Handler):\n    a = b")
    }
    assert {"class Some(Handler):", "class Some(Guarded):"} <= found


def test_a_mutant_keeps_its_name_when_its_function_moves_to_another_file(tmp_path: Path) -> None:
    text = "def some(a):\n    return a + 1\n"
    (tmp_path / "old.py").write_text(text, encoding="utf-8")
    (tmp_path / "new.py").write_text(f'"""Elsewhere."""\n\n\n{text}', encoding="utf-8")
    old, new = (
        [mutant.key for mutant in mutants_of(tmp_path, [file])] for file in ("old.py", "new.py")
    )
    assert old == new != []


def test_every_survivor_that_is_explained_is_a_mutant_there_is_and_says_why() -> None:
    there_are = {mutant.key for mutant in mutants_of(ROOT, files_of(PRODUCT))}

    assert {key for key in explained() if key not in there_are} == set()
    assert [key for key, why in explained().items() if len(why) < 20] == []


# --- Which tests are tried ------------------------------------------------------------------------


LIMITS = """
LIMIT = 5
TWICE = 2 * LIMIT


def small(a):
    return a < LIMIT


def large(a):
    return a > TWICE


def neither(a):
    return a
"""


def test_a_constant_is_tried_with_the_tests_that_run_what_is_made_of_it(tmp_path: Path) -> None:
    (tmp_path / PRODUCT).mkdir()
    file = f"{PRODUCT}/some.py"
    (tmp_path / file).write_text(LIMITS, encoding="utf-8")
    lines = {"of_small": [7], "of_large": [11], "of_neither": [15]}
    plan = Plan(
        tmp_path,
        {},
        {test: {file: found} for test, found in lines.items()},
        dict.fromkeys(lines, 0.1),
    )
    limit = next(mutant for mutant in mutants_of(tmp_path, [file]) if mutant.names == ("LIMIT",))
    assert set(plan.tests_of(limit, "", ())) == {"of_small", "of_large"}


def test_a_constant_is_tried_with_the_tests_of_its_own_file_though_they_run_no_line_of_it(
    tmp_path: Path,
) -> None:
    (tmp_path / PRODUCT).mkdir()
    file = f"{PRODUCT}/some.py"
    (tmp_path / file).write_text("LIMIT = 5\n", encoding="utf-8")
    own, other = "tests/unit/test_some.py::own", "tests/unit/test_other.py::other"
    plan = Plan(tmp_path, {}, {own: {}, other: {}}, {own: 0.1, other: 0.1})
    limit = next(mutant for mutant in mutants_of(tmp_path, [file]) if mutant.names == ("LIMIT",))
    assert plan.tests_of(limit, "", ()) == [own]


def test_a_default_is_tried_with_the_tests_that_run_its_function(tmp_path: Path) -> None:
    (tmp_path / PRODUCT).mkdir()
    file = f"{PRODUCT}/some.py"
    text = "def one(a=5):\n    return a\n\n\ndef other(a):\n    return a\n"
    (tmp_path / file).write_text(text, encoding="utf-8")
    lines = {"of_one": {file: [2]}, "of_other": {file: [6]}}
    plan = Plan(tmp_path, {}, lines, dict.fromkeys(lines, 0.1))
    default = next(mutant for mutant in mutants_of(tmp_path, [file]) if mutant.names == ("one",))
    assert plan.tests_of(default, "", ()) == ["of_one"]


def test_a_test_that_noticed_before_runs_first_and_one_that_did_not_is_left_out() -> None:
    file = f"{PRODUCT}/domain/batches.py"
    mutant = next(mutant for mutant in mutants_of(ROOT, [file]) if mutant.function)
    tests = ["tests/aws/test_a.py::slow", "tests/aws/test_a.py::quick", "tests/unit/test_b.py::own"]
    plan = Plan(
        ROOT,
        {tests[1]: "state of quick"},
        {test: {file: [mutant.first_line]} for test in tests},
        dict(zip(tests, (0.9, 0.1, 0.5), strict=True)),
    )
    assert plan.tests_of(mutant, "", ()) == [tests[2], tests[1], tests[0]]
    assert plan.tests_of(mutant, tests[0], {"state of quick"}) == [tests[0], tests[2]]
    plan.noticed(mutant, tests[1])
    assert plan.tests_of(mutant, "", ())[0] == tests[1]


def test_the_parameters_of_its_own_tests_are_tried_however_many_others_there_are() -> None:
    file = f"{PRODUCT}/domain/batches.py"
    mutant = next(mutant for mutant in mutants_of(ROOT, [file]) if mutant.function)
    own = [f"tests/unit/test_batches.py::own[{number}]" for number in range(4)]
    others = [f"tests/unit/test_a.py::other{number}" for number in range(9)]
    plan = Plan(
        ROOT,
        {},
        {test: {file: [mutant.first_line]} for test in (*own, *others)},
        dict.fromkeys((*own, *others), SECONDS_A_MUTANT / 8),
    )
    tried = plan.tests_of(mutant, "", ())
    assert tried == [own[0], *others[:4], *own[1:]]


def test_where_one_file_has_changed_no_core_runs_any_other() -> None:
    assert shares_of(ROOT, ["tests/unit/test_one.py"]) == [(ROOT, ["tests/unit/test_one.py"])]


# --- In memory ------------------------------------------------------------------------------------


def test_a_constant_is_changed_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    fields: Any = importlib.import_module("chalicelib.domain.fields")
    plans: Any = importlib.import_module("chalicelib.plans_file")
    file = "chalicelib/domain/fields.py"
    text = (ROOT / file).read_text(encoding="utf-8")
    after = text.replace("MAXIMUM_AMOUNT = 1_000_000_000", "MAXIMUM_AMOUNT = 7")
    for module in [one for one in sys.modules.values() if hasattr(one, "MAXIMUM_AMOUNT")]:
        monkeypatch.setattr(module, "MAXIMUM_AMOUNT", fields.MAXIMUM_AMOUNT)  # put back at the end
    memory.assign(file, after, "MAXIMUM_AMOUNT")
    assert (fields.MAXIMUM_AMOUNT, plans.MAXIMUM_AMOUNT) == (7, 7)


def test_the_code_of_a_function_is_replaced_where_it_is_held() -> None:
    fields: Any = importlib.import_module("chalicelib.domain.fields")
    held = fields.parse_signed_amount
    file = "chalicelib/domain/fields.py"
    text = (ROOT / file).read_text(encoding="utf-8")
    after = text.replace("    if type(value) is int and 1 <= abs(", "    if 1 <= abs(")
    try:
        memory.swap(file, after, "parse_signed_amount")
        assert held("amount", 1.5) == 1.5
    finally:
        memory.swap(file, text, "parse_signed_amount")


def test_a_function_that_closes_over_something_else_is_not_replaced() -> None:
    file = "chalicelib/domain/fields.py"
    with pytest.raises(memory.NotInMemoryError):
        memory.swap(file, "parse_amount = None", "parse_amount")
