"""Files as spreadsheets and other programs write them: read where nothing else can be meant."""

import csv
from codecs import BOM_UTF16_BE
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from infra.imports.balances import BALANCES
from infra.imports.csv_file import CheckedFile, Problem, UnreadableFileError, read
from infra.imports.importing import Import, catalogue, show_problems, show_warnings
from infra.imports.subscriptions import SUBSCRIPTIONS
from tests.aws.world import at

NOW = at("2026-05-20T12:00:00Z")
HEADER = "user_id,email,timezone,plan,billing_interval,status,started_at,allocation_amount"
ADA = "1,ada@example.com,Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z,"
BOB = "2,bob@example.com,Asia/Kolkata,starter,monthly,paused,2025-01-01T00:00:00Z,250"
BATCHES = "reference,user_id,amount,granted_at,description"


def check(text: str, kind: Import = SUBSCRIPTIONS) -> CheckedFile:
    return kind.check_alone(text, catalogue(), NOW)


def values(checked: CheckedFile) -> list[dict[str, object]]:
    assert checked.problems == []
    return [row.fields(SUBSCRIPTIONS.columns) for row in checked.good]


PLAIN = f"{HEADER}\n{ADA}\n{BOB}\n"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.rstrip("\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ", "),
        PLAIN.replace(",pro,", ', "pro",'),
        PLAIN.replace(",pro,", ",\u00a0pro ,"),
        PLAIN.replace(HEADER, HEADER.upper()),
        PLAIN.replace(HEADER, HEADER.title().replace("_", "  ").replace(",", " ,")),
        PLAIN.replace(HEADER, HEADER.replace("_", "-")),
        PLAIN.replace(HEADER, f'"{HEADER}"'.replace(",", '","')),
        PLAIN.replace("\n", ",,\n"),
        PLAIN.replace(ADA, f"{ADA},\u00a0,"),
        PLAIN.replace(HEADER, f"{HEADER},,"),
        PLAIN.replace("user_id", "user_id,").replace("1,ada", "1,,ada").replace("2,bob", "2,,bob"),
        PLAIN + ",,,,,,,\n , ,\n\n   \n\t,\u00a0,,\n",
        PLAIN.replace(f"{ADA}\n", f",,,\n\n{ADA}\n"),
        PLAIN.replace("Z,\n", 'Z,""\n').replace("Z,\n", 'Z," "\n'),
    ],
)
def test_what_can_mean_nothing_else_is_accepted(text: str) -> None:
    assert values(check(text)) == values(check(PLAIN))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (PLAIN.replace(",plan,", ";plan;"), "line 1: has commas and semicolons"),
        (PLAIN.replace("email", "user id"), "twice: user_id"),
        (PLAIN.replace("plan", "tariff"), "missing: plan; unknown: tariff"),
        (f"sep=;\n{PLAIN}", "unknown: sep="),
        (f"\n{PLAIN}", "line 1: the columns must be"),
    ],
)
def test_a_header_that_can_mean_two_things_is_refused_with_the_cause(text: str, cause: str) -> None:
    with pytest.raises(UnreadableFileError, match=cause):
        check(text)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (PLAIN.encode("utf-16"), "is not UTF-8 text but UTF-16; save it as UTF-8 CSV"),
        (PLAIN.encode("utf-16-le"), "has zero bytes in it, as UTF-16 text has"),
        (PLAIN.replace("ada", "Zoë").encode("cp1252"), "line 2 is not UTF-8 text"),
        (b"PK\x03\x04 and more", "is a spreadsheet or an archive, not text"),
        (b"\xd0\xcf\x11\xe0 and more", "is a spreadsheet, not text"),
        (BOM_UTF16_BE + PLAIN.encode("utf-16-be"), "is not UTF-8 text but UTF-16; save it as"),
    ],
)
def test_a_file_in_another_form_is_refused_with_the_cause(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=cause):
        read(file)


def test_what_begins_another_file_is_text_behind_the_beginning(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(f"{PLAIN}PK\x03\x04".encode())
    assert read(file) == f"{PLAIN}PK\x03\x04"
    with pytest.raises(UnreadableFileError, match=r"^cannot be read: Is a directory$"):
        read(tmp_path)


def test_a_value_is_read_up_to_ten_thousand_characters() -> None:
    csv.field_size_limit(131_072)  # that of a new process
    row = "b-1,1,5,2025-01-01T00:00:00Z,"
    (problem,) = check(f"{BATCHES}\n{row}{'x' * 10_000}\n", BALANCES).problems
    assert (problem.field, "at most 500" in problem.reason) == ("description", True)
    with pytest.raises(UnreadableFileError, match=r"line 2: this is not CSV .field larger than"):
        check(f"{BATCHES}\n{row}{'x' * 10_001}\n", BALANCES)


def test_of_very_many_unknown_columns_ten_are_named_and_of_each_its_beginning() -> None:
    names = [f"{letter}{'x' * 40}" for letter in "abcdefghijk"]
    unknown = ", ".join(name[:40] for name in names[:10])
    with pytest.raises(UnreadableFileError, match=f"; unknown: {unknown}$"):
        check(",".join((HEADER, *names)))
    twice = ",".join(name for name in names for _ in range(2))
    with pytest.raises(UnreadableFileError, match=f"; twice: {unknown}$"):
        check(",".join((HEADER, twice)))


SHORTENED = "is a number that a spreadsheet has shortened, and its digits are lost"
DECIMALS = "is a number that a program has given decimals"
NO_VALUE = "is what programs write for no value; leave it empty"
THOUSANDS = "has thousands separators; write its digits only"
APOSTROPHE = "begins with the apostrophe"


@pytest.mark.parametrize(
    ("old", "new", "field", "cause"),
    [
        ("1,ada", "1.23457E+17,ada", "user_id", SHORTENED),
        ("1,ada", "1.23457e17,ada", "user_id", SHORTENED),
        ("1,ada", "1E+17,ada", "user_id", SHORTENED),
        ("1,ada", '"1,23457E+17",ada', "user_id", SHORTENED),
        ("1,ada", "42.0,ada", "user_id", DECIMALS),
        ("1,ada", "42.00,ada", "user_id", DECIMALS),
        ("1,ada", '"1,234,567",ada', "user_id", THOUSANDS),
        ("1,ada", "1 234 567,ada", "user_id", THOUSANDS),
        ("1,ada", "'00042,ada", "user_id", APOSTROPHE),
        ("1,ada", "NULL,ada", "user_id", NO_VALUE),
        ("1,ada", "nan,ada", "user_id", NO_VALUE),
        ("1,ada", "None,ada", "user_id", NO_VALUE),
        ("1,ada", "NaN,ada", "user_id", NO_VALUE),
        ("1,ada", "null,ada", "user_id", NO_VALUE),
        ("1,ada", "undefined,ada", "user_id", NO_VALUE),
        ("1,ada", "\\N ,ada", "user_id", NO_VALUE),
        ("1,ada", '"1,000",ada', "user_id", THOUSANDS),
        ("1,ada", "1'234,ada", "user_id", THOUSANDS),
        ("1,ada", "1’234,ada", "user_id", THOUSANDS),
        ("1,ada", "1\u00a0234,ada", "user_id", THOUSANDS),
        ("1,ada", "1234'567,ada", "user_id", "must be 1 to 128 letters, digits"),
        ("1,ada", "4\ufeff2,ada", "user_id", "must be 1 to 128 letters, digits"),
        ("1,ada", "4\u200b2,ada", "user_id", "must be 1 to 128 letters, digits"),
        (",pro,", ",#N/A,", "plan", "is an error of a spreadsheet"),
        (",pro,", ",#DIV/0!,", "plan", "is an error of a spreadsheet"),
        (",pro,", ",#NAME?,", "plan", "is an error of a spreadsheet"),
        (",250", ",٢٥٠", "allocation_amount", "must be a whole number from 1"),
        (",250", ",²", "allocation_amount", "must be a whole number from 1"),
        (",250", f",{'1' * 5_000}", "allocation_amount", "must be a whole number from 1"),
        (",250", ",250.0", "allocation_amount", DECIMALS),
        (",250", ',"250,00"', "allocation_amount", DECIMALS),
        (",250", ',"1,250"', "allocation_amount", THOUSANDS),
        (",250", ",1\u202f250", "allocation_amount", THOUSANDS),
        (",250", ",1.250", "allocation_amount", "must be a whole number from 1"),
        (",250", ",2.5E+02", "allocation_amount", SHORTENED),
        (",250", ",NULL", "allocation_amount", NO_VALUE),
        ("2025-01-01T00:00:00Z,250", "1/1/2025 0:00,250", "started_at", "must be a date and time"),
        ("2025-01-01T00:00:00Z,250", "45658,250", "started_at", "must be a date and time"),
        ("2025-01-01T00:00:00Z,250", "45658.0,250", "started_at", DECIMALS),
        ("2025-01-01T00:00:00Z,250", "2025-01-01T00:00:00,250", "started_at", "no UTC offset"),
    ],
)
def test_what_a_program_has_made_of_a_value_is_refused_with_the_cause(
    old: str, new: str, field: str, cause: str
) -> None:
    assert old in PLAIN
    (problem,) = check(PLAIN.replace(old, new)).problems
    assert problem.field == field
    assert cause in problem.reason


@pytest.mark.parametrize(
    "user_id",
    [
        *("42", "007", "5e12", "1.5", "4.2.0", "auth0|1.0", "a@b.example", "+4912345", "1e5"),
        *("nano", "1.0.5", "1.5e+3x"),
    ],
)
def test_ids_that_only_look_like_numbers_are_ids(user_id: str) -> None:
    (row, _) = values(check(PLAIN.replace("1,ada", f"{user_id},ada")))
    assert row["user_id"] == user_id


def test_ids_that_differ_in_their_capitals_alone_are_two() -> None:
    text = PLAIN.replace("1,ada", "ada,ada").replace("2,bob", "Ada,bob")
    assert [row["user_id"] for row in values(check(text))] == ["ada", "Ada"]


def test_a_reference_is_an_id_and_a_description_is_what_people_write() -> None:
    checked = check(f"{BATCHES}\n1.2E+10,1,5,2025-01-01T00:00:00Z,'42.0 1E+3'\n", BALANCES)
    assert [problem.field for problem in checked.problems] == ["reference"]
    checked = check(f"{BATCHES}\nb-1,1,5,2025-01-01T00:00:00Z,#N/A\n", BALANCES)
    assert [problem.field for problem in checked.problems] == ["description"]
    checked = check(f"{BATCHES}\nb-1,1,5,2025-01-01T00:00:00Z,a; b\n", BALANCES)
    assert [row.values["description"] for row in checked.good] == ["a; b"]


def test_a_row_that_is_cut_off_is_no_row_with_empty_cells() -> None:
    (problem,) = check(PLAIN.replace(ADA, ADA.rstrip(","))).problems
    assert (problem.line, problem.field) == (2, "allocation_amount")
    assert "it has 7 values, and the header 8 columns" in problem.reason
    (problem,) = check(PLAIN.replace(BOB, "2,1.5e+10")).problems
    assert (problem.line, problem.field) == (3, "timezone")
    (problem,) = check(PLAIN.replace(BOB, "2")).problems
    assert (problem.line, problem.field) == (3, "email")


def test_a_value_without_a_column_is_refused_and_named() -> None:
    (problem,) = check(PLAIN.replace(BOB, BOB.replace("250", "1,500"))).problems
    assert (problem.line, problem.field, problem.value) == (3, "column 9", "500")
    problems = check(PLAIN.replace(BOB, BOB.replace("250", "1,500,7"))).problems
    assert [problem.field for problem in problems] == ["column 10", "column 9"]
    (problem,) = check(PLAIN.replace(",email,", ",,")).problems[:1]
    assert (problem.field, problem.value) == ("column 2", "ada@example.com")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_rejected_rows_are_saved_byte_for_byte(line_end: str, mark: str) -> None:
    bad = (
        BOB.replace(",250", ",1,500"),
        '"3", "c""d",  Nowhere,pro,yearly,"act\nive",x,',
        ADA.replace("1,ada", "4,ada").rstrip(","),
    )
    header = f'"User ID", {HEADER.partition(",")[2]}'
    lines = (header, bad[0], "", ADA, ",,,,,,,", *bad[1:])
    checked = check(mark + line_end.join(lines))
    assert [row.line for row in checked.good] == [4]
    assert checked.rejected == mark + line_end.join((header, *bad))
    again = check(checked.rejected)
    assert again.good == []
    assert [problem[1:] for problem in again.problems] == [
        problem[1:] for problem in checked.problems
    ]


def test_every_value_that_a_program_has_changed_is_named() -> None:
    row = "1.5e12,NULL ,#N/A,gold,yearly,active,2025-01-01T00:00:00Z,"
    checked = check(f"{HEADER}\n{row}\n{BOB}\n")
    assert [(*problem[1:3], problem.reason.split(";")[0]) for problem in checked.problems] == [
        ("email", "NULL ", "is what programs write for no value"),
        ("plan", "gold", "unknown plan 'gold'"),
        ("timezone", "#N/A", "is an error of a spreadsheet"),
        ("user_id", "1.5e12", SHORTENED),
    ]
    assert [row.line for row in checked.good] == [3]


def test_of_three_rows_of_one_user_all_are_wrong_and_each_names_the_first() -> None:
    checked = check(f"{HEADER}\n{ADA}\n{BOB}\n{ADA}\n{ADA}\n")
    assert [row.line for row in checked.bad] == [2, 4, 5]
    assert [problem.reason.split(",")[0] for problem in checked.problems] == [
        "is on line 4",
        "is on line 2",
        "is on line 2",
    ]


def test_wrong_rows_are_saved_in_the_order_of_the_file() -> None:
    rows = [ADA.replace("1,ada", f"{number},ada") for number in range(2, 18)]
    rows[7], rows[14] = (row.replace(",pro,", ",gold,") for row in (rows[7], rows[14]))
    assert check("\n".join((HEADER, *rows))).rejected == f"{HEADER}\n{rows[7]}\n{rows[14]}\n"


def test_fifty_problems_are_shown_as_they_are_and_the_others_counted() -> None:
    values = ["[b]" + "x" * 37, "y" * 41, *["z"] * 48]
    problems = [Problem(n, "plan", value, "[/no]") for n, value in enumerate(values, 2)]
    for more in (0, 1):
        console = Console(file=StringIO(), width=120)
        shown = [*problems, *[Problem(99, "plan", "z", "no")] * more]
        show_problems(console, shown)
        show_warnings(console, [f"[{problem.line}] is odd [/]" for problem in shown])
        assert isinstance(console.file, StringIO)
        said = console.file.getvalue()
        assert f"│ 2    │ plan  │ '[b]{'x' * 37}' " in said
        assert f"│ 3    │ plan  │ '{'y' * 37}...' " in said
        assert said.count("[/no]") == said.count("\nWarning: [") == 50
        assert "\nWarning: [2] is odd [/]\n" in said
        assert ("... and 1 more problems" in said) is bool(more)
        assert ("... and 1 more warnings" in said) is bool(more)
        assert said.count("more") == 2 * more
        assert "│ 99 " not in said
