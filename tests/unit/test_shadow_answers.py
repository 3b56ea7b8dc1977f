"""What is shown of a comparison: the sums, the table, the page with its pictures, and two files."""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from chalicelib.domain.edits import BY_IMPORT, Change, Edit
from infra.commands.shadow import Asked, shadow_of, show, unreadable
from infra.shadow import files
from infra.shadow.comparison import Comparison
from infra.shadow.findings import Code, Finding
from infra.shadow.nights import Night
from infra.shadow.page import MOST_NIGHTS, columns, page
from infra.shadow.tally import MOST_NAMED, Tally
from tests.unit.test_what_if import CATALOGUE, DAY, Book, at
from tests.unit.test_what_if_answers import rects, rows_of

UNTIL = at("2026-05-03T02:00:00Z")


def finding(code: Code, more: int, words: str = "", line: int | None = None) -> Finding:
    return Finding(code, words, UNTIL, line, None, more)


COMPARED = [
    Comparison("same", 5, 5),
    Comparison("<ada>", 140, 100, (finding(Code.GRANTED_TWICE, 40, "100 for <May>", 7),)),
    Comparison(
        *("bob", 70, 1_100),
        (finding(Code.LATE, -30), finding(Code.NOT_TOLD, -500, "-500"), finding(Code.LATE, -500)),
    ),
    Comparison("cyd", 100, 100, (finding(Code.LATE, 0, "by 5 h", 9),)),
    Comparison("dan", 9, 2, (finding(Code.NOT_TOLD, 7),)),
]


def tallied(compared: Sequence[Comparison] = COMPARED) -> Tally:
    found = Tally(UNTIL)
    for each in compared:
        found.add(each, "pro")
    return found


def test_the_sums_say_who_differs_by_what_and_who_the_most() -> None:
    found = tallied()
    assert found.as_json() == {
        "until": "2026-05-03T02:00:00Z",
        "users": 5,
        "same": 1,
        "explained": 2,
        "unexplained": 2,
        "credits": 40 - 1_030 + 7,
        "findings": [
            {
                "finding": "not_told",
                "explained": False,
                "users": 2,
                "times": 2,
                "credits": -493,
                "examples": [
                    "bob: in the old table, not told to Credits: -500",
                    "dan: in the old table, not told to Credits",
                ],
            },
            {
                "finding": "granted_twice",
                "explained": True,
                "users": 1,
                "times": 1,
                "credits": 40,
                "examples": ["<ada>: granted twice: 100 for <May> (line 7)"],
            },
            {
                "finding": "late",
                "explained": True,
                "users": 2,
                "times": 3,
                "credits": -530,
                "examples": [
                    "bob: granted late",
                    "bob: granted late",
                    "cyd: granted late: by 5 h (line 9)",
                ],
            },
        ],
        "less": [
            {"user_id": "<ada>", "plan": "pro", "there": 140, "here": 100},
            {"user_id": "dan", "plan": "pro", "there": 9, "here": 2},
        ],
        "more": [{"user_id": "bob", "plan": "pro", "there": 70, "here": 1_100}],
    }
    assert found.night("9f86") == Night(UNTIL, 5, 1, 2, 2, "9f86")


def test_of_many_users_those_are_named_who_differ_the_most() -> None:
    many = range(1, MOST_NAMED + 3)
    late = [
        Comparison(f"{sign}{by}", 50, 50 + int(f"{sign}{by}"), (finding(Code.LATE, 0),))
        for by in many
        for sign in "+-"
    ]
    found = tallied(late)
    assert [each.user_id for each in found.less] == [f"-{by}" for by in many[:1:-1]]
    assert [each.user_id for each in found.more] == [f"+{by}" for by in many[:1:-1]]
    assert [user_id for user_id, _ in found.lines[0].examples] == ["+1", "-1", "+2"]


def test_people_are_shown_a_table_with_what_must_not_be_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    found = tallied([*COMPARED, Comparison("[/b]", 3_009, 2, (finding(Code.HELD, 3_007, "x"),))])
    show(found, 0)
    shown = capsys.readouterr().out
    assert "Until 2026-05-03T02:00:00Z" in shown
    assert rows_of(shown) == [
        ["same", "", "1", "", "", ""],
        ["in the old table, not told to Credits", "NO", "2", "2", "-493", "bob: -500"],
        ["granted twice", "yes", "1", "1", "+40", "<ada>: 100 for <May>, line 7"],
        ["granted late", "yes", "2", "3", "-530", "bob:"],
        ["held by Credits over its expiry", "yes", "1", "1", "+3,007", "[/b]: x"],
    ]
    end = "Before the switch it must be 0 for 31 nights in a row."
    assert shown.endswith(f"Unexplained: 2 of 6 users. {end}\n")
    show(found, 12)
    assert capsys.readouterr().out.endswith(f"{end} It has been for 12.\n")


# --- The page -------------------------------------------------------------------------------------


def night(
    days_ago: int = 0, *, unexplained: int = 0, explained: int = 0, users: int = 100
) -> Night:
    same = users - explained - unexplained
    return Night(UNTIL - days_ago * DAY, users, same, explained, unexplained, "")


def test_the_page_says_the_same_and_escapes_what_others_have_written() -> None:
    found = page(tallied(), [night()], "<prod>")
    assert "<h1>Shadow of &lt;prod&gt;, 2026-05-03</h1>" in found
    assert '<p class="figure bad">2</p>' in found
    assert (
        "<p>users have a difference that is not explained. Before the switch it must be 0 for 31 "
        "nights in a row.</p>"
    ) in found
    assert (
        "<p>5 users compared until 2026-05-03T02:00:00Z: 1 is the same, 4 differ. The old system "
        "has 983 credits less in all. "
    ) in found
    one = Comparison("eve", 11, 10, (finding(Code.NOT_TOLD, 1),))
    two = page(tallied([COMPARED[0], COMPARED[0], one]), [], "prod")
    assert ": 2 are the same, 1 differs. The old system has 1 credit more in all. " in two
    assert re.findall(r"<tr>(<td.*)</tr>", found) == [
        (
            '<td class="bad">in the old table, not told to Credits</td><td>2</td><td>2</td>'
            '<td>-493</td><td class="words">bob: -500<br>dan: </td>'
        ),
        (
            "<td>granted twice</td><td>1</td><td>1</td><td>+40</td>"
            '<td class="words">&lt;ada&gt;: 100 for &lt;May&gt;, line 7</td>'
        ),
        (
            "<td>granted late</td><td>2</td><td>3</td><td>-530</td>"
            '<td class="words">bob: <br>bob: </td>'
        ),
    ]
    less, more = found.partition("Who would have less on")[2].split("Who would have more on")
    assert ("&lt;ada&gt; (pro)" in less, "bob (pro)" in more) == (True, True)
    assert "<ada>" not in found
    assert "<May>" not in found


@pytest.mark.parametrize(
    ("compared", "nights", "figure", "words"),
    [
        ([COMPARED[4]], [night()], "1", "user has a difference that is not explained. Before"),
        (
            *([COMPARED[1]], [night(2, unexplained=1), night(), night(1)]),
            *("0", "in a row; it has been for 2 nights.</p>"),
        ),
        ([COMPARED[1]], [night()], "0", "in a row; it has been for 1 night.</p>"),
        ([COMPARED[0]], [night()], "0", "has 0 credits more in all."),
        ([COMPARED[0]], [night()], "0", "<p>No differences.</p>"),
        ([COMPARED[0]], [], "0", "<p>None.</p>"),
    ],
)
def test_the_figure_is_of_the_night_and_the_row_up_to_it(
    compared: list[Comparison], nights: list[Night], figure: str, words: str
) -> None:
    found = page(tallied(compared), nights, "prod")
    bad = " bad" if figure != "0" else ""
    assert f"<p>user{' has' if figure == '1' else 's have'} a difference that" in found
    assert f'<p class="figure{bad}">{figure}</p>' in found
    assert words in found


def test_a_night_is_a_column_of_its_users_and_one_user_of_a_million_is_seen() -> None:
    picture = columns([night(2, unexplained=25, explained=50), night(users=50)])
    # A day between them was not compared: there is a gap. A user is 1.8 pixels tall.
    assert rects(picture) == [
        ("lost", 90.9, 149.0, 32.2, 45.0),
        ("would", 90.9, 59.0, 32.2, 90.0),
        ("was", 90.9, 14.0, 32.2, 45.0),
        ("was", 182.9, 104.0, 32.2, 90.0),
    ]
    assert re.findall(r'"middle">(.*?)<', picture) == ["05-01", "05-02", "05-03"]
    assert re.findall(r'"end">(.*?)<', picture) == ["0", "50", "100"]
    million = rects(columns([night(users=1_000_000, unexplained=1)]))
    assert [(kind, tall) for kind, _, _, _, tall in million] == [("lost", 3.0), ("was", 180.0)]


def test_the_latest_nights_are_shown_and_of_many_not_each_day_is_named() -> None:
    nights = [night(ago) for ago in range(MOST_NIGHTS + 5, -1, -1)]
    for picture in (columns(nights), page(tallied(), nights, "prod")):
        days = re.findall(r'"middle">(\d.*?)<', picture)
        assert (days[0], days[-1], len(days)) == ("03-20", "05-03", 12)
    assert picture.count('class="was" x=') == MOST_NIGHTS
    # What is not shown any more makes no column smaller.
    assert [tall for *_, tall in rects(columns([night(MOST_NIGHTS, users=900), night()]))] == [180]


# --- The files ------------------------------------------------------------------------------------


def test_who_differs_is_in_one_file_and_who_would_have_less_in_the_promotion(
    tmp_path: Path,
) -> None:
    differences, grants = (tmp_path / "build" / "shadow" / name for name in ("d.csv", "g.csv"))
    with files.writing(differences, grants) as written:
        for each in COMPARED:
            written.add(replace(each, user_id=f"é{each.user_id}"), "31")
        assert not differences.exists()
        assert not grants.exists()
    assert written.granted == 2
    late = "granted late [-30]; in the old table, not told to Credits: -500 [-500]; granted late "
    assert [*csv.reader(differences.read_text("utf-8").splitlines())][1:] == [
        ["é<ada>", "140", "100", "40", "yes", "granted twice: 100 for <May> (line 7) [+40]"],
        ["ébob", "70", "1100", "-1030", "no", f"{late}[-500]"],
        ["écyd", "100", "100", "0", "yes", "granted late: by 5 h (line 9) [+0]"],
        ["édan", "9", "2", "7", "no", "in the old table, not told to Credits [+7]"],
    ]
    assert grants.read_text("utf-8").splitlines() == [
        "user_id,amount,description,expires_in_days,source,notify",
        "é<ada>,40,Credits that you had before we moved them,31,adjustment,false",
        "édan,7,Credits that you had before we moved them,31,adjustment,false",
    ]
    assert len([*differences.parent.iterdir()]) == 2


def test_who_is_interrupted_has_the_files_of_before(tmp_path: Path) -> None:
    differences, grants = tmp_path / "d.csv", tmp_path / "g.csv"
    for path in (differences, grants):
        path.write_text("before")

    def interrupted() -> None:
        with files.writing(differences, grants) as written:
            written.add(COMPARED[1], "30")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (differences.read_text(), grants.read_text()) == ("before", "before")


@pytest.mark.parametrize(
    ("plan", "days"), [("starter", "30"), ("pro", "never"), ("team", "62"), ("gone", "30")]
)
def test_what_is_made_up_for_lives_about_as_long_as_the_credits_of_the_plan(
    plan: str, days: str
) -> None:
    book = Book()
    book.edit(at("2026-01-01T00:00:00Z"))
    assert book.subscription is not None
    assert files.days_of(replace(book.subscription, plan=plan), CATALOGUE) == days


# --- Of a user ------------------------------------------------------------------------------------


def test_a_comparison_knows_where_a_user_lived_before_and_what_is_to_come() -> None:
    book = Book()
    now = at("2026-04-10T12:00:00Z")
    book.edit(now, timezone="Europe/Paris")
    book.allocate(at("2026-04-30T22:00:00Z"))
    zones = [("Asia/Tokyo", "Europe/Paris"), ("Asia/Kolkata", "Asia/Tokyo"), ("", "Asia/Kolkata")]
    for number, (before, after) in enumerate(zones, 2):
        changed = (Change("timezone", before or None, after), Change("plan", "pro", "starter"))
        book.edits.append(Edit("ada", number, now, BY_IMPORT, changed, None))
    found = shadow_of(book.past(), UNTIL, CATALOGUE)
    assert found.user_id == "ada"
    assert found.entries == book.entries
    assert found.zones == ("Europe/Paris", ("Asia/Tokyo", "Asia/Kolkata"))
    assert found.coming == (at("2026-05-31T22:00:00Z"), 100, "2026-06")


def test_who_cannot_be_compared_is_said_to_be_so_with_the_first_line_about_them() -> None:
    asked = Asked({}, None, UNTIL, timedelta(0), "")
    found = unreadable("eve", "is not registered", asked)
    assert [str(each) for each in found.findings] == ["cannot be compared: is not registered"]
    assert not found.is_explained
    assert tallied([found]).unexplained == 1
