"""What is shown of a replay: the sentences, the tables, the page and its pictures, to the pixel."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from chalicelib.domain.calendar import Period
from chalicelib.domain.plans import BillingInterval, PlanCatalogue
from infra.commands.whatif import Run, _digest, show
from infra.whatif.drawing import column, document, section, svg, text
from infra.whatif.flows import Flows
from infra.whatif.page import bars, columns, page
from infra.whatif.sources import Source
from infra.whatif.tally import Difference, Line, Outcome, Question, Tally, doubts, outcome
from tests.unit.test_what_if import CATALOGUE, OTHER, Book, at

NOVEMBER, DECEMBER = Period(2025, 11), Period(2025, 12)
QUESTION = Question(OTHER, CATALOGUE, NOVEMBER, DECEMBER)
GAIN = Difference(1_500, "<b>", "pro", 500, 2_000)
LOSE = Difference(-75, "ada", "starter", 75, 0)


@pytest.fixture
def tally() -> Tally:
    """1,234 users on two plans in two months, and everything that there can be of doubts."""
    was = {
        ("2025-11", "pro"): Flows(1_000, 10, 200, 20, 0, 300),
        ("2025-11", "starter"): Flows(100, 1, 2, 3, 0, 4),
        ("2025-12", "pro"): Flows(2_000, 30, 400, 40, 0, 500),
    }
    would = {cell: its._replace(granted=its.granted * 3, refused=7) for cell, its in was.items()}
    return Tally(
        *(was, would, 1_234, 1, [GAIN], [LOSE], 1_000, 1, 2, 4),
        named={"differing": ["u1", "u2"], "left_out": ["<i>: one", "b: two", "c: three", "d"]},
    )


SENTENCES = [
    (
        "Replayed: 1,234 users, of whom 1 would see a difference. Under today's plans the replay "
        "is the ledger, to the credit, of 1,232 of them."
    ),
    (
        "Not of 2, such as u1, u2: plans were changed in that time, or a sweep did not come for "
        "what was due."
    ),
    (
        "The records of edits do not reach back to the first month for 1 user: their subscription "
        "is taken as it was before the first record, or as it is."
    ),
    (
        "1,000 requests could not be asked again: what they name would not be there (a hold or a "
        "usage that would be refused, say)."
    ),
    "Left out: 4 users whose past cannot be read: <i>: one; b: two; c: three",
]


def test_every_doubt_is_a_sentence_and_there_are_none_without(tally: Tally) -> None:
    assert [*doubts(tally)] == SENTENCES
    (sentence,) = doubts(Tally())
    assert sentence.startswith("Replayed: 0 users, of whom 0 would see a difference.")


def rows_of(shown: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in shown.splitlines()
        if line.startswith("│")
    ]


BY_PLAN = [
    ["pro", "was", "3,000", "40", "600", "60", "0", "500"],
    ["", "would be", "9,000", "40", "600", "60", "14", "500"],
    ["starter", "was", "100", "1", "2", "3", "0", "0"],
    ["", "would be", "300", "1", "2", "3", "7", "0"],
    ["all", "was", "3,100", "41", "602", "63", "0", "500"],
    ["", "would be", "9,300", "41", "602", "63", "21", "500"],
]
BY_MONTH = [
    ["2025-11", "was", "1,100", "11", "202", "23", "0", "304"],
    ["", "would be", "3,300", "11", "202", "23", "14", "304"],
    ["2025-12", "was", "2,000", "30", "400", "40", "0", "500"],
    ["", "would be", "6,000", "30", "400", "40", "7", "500"],
]


def test_people_are_shown_the_sums_by_plan_and_month_and_who_gains_and_loses(
    tally: Tally, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    show(tally)
    shown = capsys.readouterr().out
    gain, lose = shown.partition("Who would gain most")[2].split("Who would lose most")
    assert rows_of(shown)[:10] == BY_PLAN + BY_MONTH
    assert rows_of(gain) == [["<b>", "pro", "500", "2,000", "1,500"]]
    assert rows_of(lose) == [["ada", "starter", "75", "0", "-75"]]
    show(replace(tally, gain=[], lose=[]))
    assert "Who would" not in capsys.readouterr().out


def test_a_page_says_the_same_and_escapes_what_others_have_written(tally: Tally) -> None:
    found = page(tally, QUESTION)
    assert "<h1>What if? 2025-11 to 2025-12</h1>" in found
    assert (
        "<p>9,300 credits would have been granted by the plans and not 3,100, 602 spent and not "
        "602, 63 expired and not 63; 21 that were spent would have been refused.</p>"
    ) in found
    escaped = [sentence.replace("<i>", "&lt;i&gt;") for sentence in SENTENCES]
    assert [each for each in escaped if each.replace("'", "&#x27;") not in found] == []
    tables = found.split("<table>")[1:]
    cells = [
        [re.findall(r"<td>(.*?)</td>", row) for row in table.split("</table>")[0].split("\n")[2:-1]]
        for table in tables
    ]
    assert cells == [BY_PLAN, BY_MONTH]
    heads = re.findall(r"<h2>(.*?)</h2>", found)
    assert heads[:4] == [
        *("Granted by the plans, by month", "Spent, by month"),
        *("Expired, by month", "Left at the end, by month"),
    ]
    more, less = found.partition("Who would have more</h2>")[2].split("Who would have less</h2>")
    assert ("&lt;b&gt; (pro)" in more, "ada (starter)" in less) == (True, True)
    assert "<b>" not in found
    assert page(replace(tally, gain=[]), QUESTION).count("<p>Nobody.</p>") == 1


Rect = tuple[str, float, float, float, float]

RECT = r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'


def rects(picture: str) -> list[Rect]:
    return [
        (kind, float(x), float(y), float(wide), float(tall))
        for kind, x, y, wide, tall in re.findall(RECT, picture)
    ]


def test_columns_are_as_tall_as_what_they_stand_for_and_what_is_refused_stands_on_top() -> None:
    line = Line("2025-11", Flows(granted=80, spent=100), Flows(granted=40, spent=40, refused=60))
    picture = columns(
        [line, Line("2025-12", Flows(spent=50), Flows(spent=-2, refused=50))], "spent"
    )
    assert rects(picture) == [
        ("was", 116.8, 14.0, 118.1, 200.0),
        ("would", 248.0, 134.0, 118.1, 80.0),
        ("lost", 248.0, 14.0, 118.1, 120.0),
        ("was", 444.8, 114.0, 118.1, 100.0),
        ("would", 576.0, 214.0, 118.1, 4.0),
        ("lost", 576.0, 114.0, 118.1, 100.0),
    ]
    assert rects(columns([Line("", Flows(spent=-50), Flows(spent=50))], "spent")) == [
        ("was", 149.6, 114.0, 236.2, 100.0),
        ("would", 412.0, 14.0, 236.2, 100.0),
    ]
    assert [kind for kind, *_ in rects(columns([line], "granted"))] == ["was", "would"]
    assert re.findall(r'text-anchor="end">(.*?)<', picture) == ["0", "50", "100"]
    picture = columns([Line("", Flows(left=3_001), Flows())], "left")
    assert re.findall(r'text-anchor="end">(.*?)<', picture) == ["0", "1,500", "3,001"]


def test_of_many_months_not_each_is_named() -> None:
    lines = [Line(f"m{number:02}", Flows(left=5), Flows(left=5)) for number in range(15)]
    assert re.findall(r'"middle">(.*?)<', columns(lines, "left")) == [
        f"m{number:02}" for number in range(0, 15, 2)
    ]
    assert len(re.findall(r'"middle"', columns(lines[:14], "left"))) == 14
    many = [each._replace(name=f"{place}") for place, each in enumerate(lines * 200)]
    assert min(wide for _, _, _, wide, _ in rects(columns(many, "left"))) == 1.0


def test_bars_are_as_long_as_the_difference_and_long_names_are_cut() -> None:
    some = [
        Difference(-10_000, "a" * 25, "pro", 12_000, 2_000),
        Difference(5_000, "b" * 24, "pro", 0, 5_000),
        Difference(1, "c", "pro", 4, 5),
    ]
    picture = bars(some)
    assert re.findall(r'class="(\w+)" x="250" y="(\d+)" width="([\d.]+)"', picture) == [
        ("lost", "8", "260.0"),
        ("would", "34", "130.0"),
        ("would", "60", "1.0"),
    ]
    assert re.findall(r">([^<]+)</text>", picture) == [
        *(f"{'a' * 23}… (pro)", "-10,000: 2,000 and not 12,000"),
        *(f"{'b' * 24} (pro)", "+5,000: 5,000 and not 0"),
        *("c (pro)", "+1: 5 and not 4"),
    ]


def test_a_column_of_less_than_nothing_hangs_from_its_foot() -> None:
    assert 'y="90.0" width="5.0" height="10.0"' in column(0, 5, 100, 10, "was")
    assert 'y="100.0" width="5.0" height="10.0"' in column(0, 5, 100, -10, "was")


def test_whatever_is_written_into_a_page_is_escaped() -> None:
    for made in (
        *(document("<&>", []), section("<&>", ""), text(0, 0, "<&>", "end"), svg(1, "<&>", [])),
    ):
        assert "&lt;&amp;&gt;" in made
        assert "<&>" not in made
    assert '<meta charset="utf-8">' in document("", [])


# --- Of a user ------------------------------------------------------------------------------------


def test_a_users_months_are_those_of_where_they_live() -> None:
    book = Book()
    book.edit(at("2025-10-20T12:00:00Z"), timezone="America/New_York", plan="pro")
    book.allocate(at("2025-11-01T04:00:00Z"))
    book.use(3, at("2025-12-01T04:59:59Z"))  # it is still November there
    book.allocate(at("2025-12-01T05:00:00Z"))
    book.edit(at("2025-12-05T12:00:00Z"), plan="team")
    found = outcome(QUESTION, book.past())
    assert [(month.granted, month.spent) for month in found.was] == [(500, 3), (403, 0)]
    assert found.plans == ["pro", "team"]


# --- A run that goes on ---------------------------------------------------------------------------


def digest(question: Question, where: str = "tables") -> str:
    return _digest(cast(Source, where), question)


def test_a_question_is_known_again_and_every_other_one_is_another() -> None:
    class Backwards(frozenset[BillingInterval]):
        """A set has no order, and in another process another one."""

    def of(plans: PlanCatalogue) -> PlanCatalogue:
        return PlanCatalogue(
            tuple(
                replace(plan, billing_intervals=Backwards(plan.billing_intervals))
                for plan in plans.plans
            )
        )

    known = digest(QUESTION)
    assert digest(QUESTION._replace(plans=of(OTHER), as_it_was=of(CATALOGUE))) == known
    others = [
        QUESTION._replace(plans=CATALOGUE),
        QUESTION._replace(as_it_was=OTHER),
        QUESTION._replace(first=Period(2025, 10)),
        QUESTION._replace(last=Period(2026, 1)),
    ]
    found = {known, digest(QUESTION, "exports"), *(digest(each) for each in others)}
    assert len(found) == 6


@pytest.mark.parametrize("kept", ["", "{", "{}", "[]", '{"done": 1, "tally": {}}'])
def test_what_is_no_whole_run_is_none_and_begins_anew(kept: str, tmp_path: Path) -> None:
    file = tmp_path / "what-if" / "1.json"
    assert Run.found(file) is None
    Run.begun(file, ["1", "2"])
    found = Run.found(file)
    assert found is not None
    assert (found.users, found.done) == (["1", "2"], 0)
    file.write_text(kept)
    assert Run.found(file) is None


def test_who_is_killed_while_it_is_written_down_how_far_it_came_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    run = Run.begun(tmp_path / "1.json", ["1", "2"])
    run.done, run.tally = 1, tally
    run.keep()
    run.done = 2

    def killed(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:20].encode())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            run.keep()
    assert Run.found(run.file) == replace(run, done=1)
    run.forget()
    assert [each.name for each in tmp_path.iterdir()] == ["1.new"]


def test_what_is_kept_is_in_order_and_of_many_in_trouble_ten_are_named(tally: Tally) -> None:
    cell = ("2025-10", "")
    tally.was[cell], tally.would[cell] = Flows(other=3, left=3), Flows(other=3, left=3)
    for number in range(12):
        tally.leave_out(f"u{number}", "damaged")
    kept = json.loads(json.dumps(tally.as_json()))
    assert [(row["month"], row["plan"]) for row in kept["rows"]] == [
        *[("2025-10", None), ("2025-11", "pro"), ("2025-11", "starter"), ("2025-12", "pro")]
    ]
    assert Tally.from_json(kept) == tally
    assert kept["left_out"] == 16
    assert kept["named"]["left_out"][4:] == [f"u{number}: damaged" for number in range(6)]


def test_who_gains_as_much_is_named_in_the_order_of_names() -> None:
    question = QUESTION._replace(first=DECEMBER)
    tally = Tally()
    for user_id in "cab":
        tally.add(question, Outcome(user_id, ("pro",), (Flows(),), (Flows(left=1),)))
    assert [each.user_id for each in tally.gain] == ["a", "b", "c"]
