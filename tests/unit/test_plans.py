"""The plan catalogue: what ships, and every mistake with the line to fix."""

import re
import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

import chalicelib
from chalicelib import plans_file
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.lifetimes import Days, Months
from chalicelib.domain.plans import (
    AllocateOn,
    BillingInterval,
    OnPlanChange,
    OnSignup,
    Plan,
    PlanCatalogue,
)
from chalicelib.plans_file import CatalogueError, parse_catalogue

SHIPPED = (Path(chalicelib.__file__).parent / "plans.toml").read_text(encoding="utf-8")

RIGHT = """\
# Two plans; the lines are counted in the tests below.

[[plans]]
id = "free"
name = "Free"
monthly_credits = 10
credit_lifetime_days = 30
lowest = true

[[plans]]  # line 10
id = "gold"
name = "Gold"
monthly_credits = 500
"""


def problems(text: str) -> list[str]:
    """What is wrong with a catalogue, one mistake a line."""
    with pytest.raises(CatalogueError) as error:
        parse_catalogue(text)
    return str(error.value).split("\n")


def test_of_very_many_mistakes_the_first_fifty_are_told_and_how_many_more_there_are() -> None:
    found = problems(RIGHT + "".join(f"wrong_{number} = 1\n" for number in range(1_060)))
    assert len(found) == 51
    assert found[49].startswith("plans.toml, line 63: plans[1].wrong_49 is not a known key")
    assert found[50] == "and 1,010 more"
    for more in (0, 1):
        found = problems(RIGHT + "".join(f"wrong_{number} = 1\n" for number in range(50 + more)))
        assert found[50:] == ["and 1 more"] * more


def with_line(number: int, line: str) -> str:
    """The right catalogue with one line replaced."""
    lines = RIGHT.split("\n")
    lines[number - 1] = line
    return "\n".join(lines)


def without_line(number: int) -> str:
    lines = RIGHT.split("\n")
    del lines[number - 1]
    return "\n".join(lines)


# --- What ships ---------------------------------------------------------------------------------


def test_three_plans_ship_and_only_the_credits_of_the_lowest_expire() -> None:
    catalogue = parse_catalogue(SHIPPED)
    assert catalogue.plans == (
        Plan("starter", "Starter", 100, Days(30), lowest=True, low_balance_threshold=20),
        Plan("pro", "Pro", 500, None, lowest=False, low_balance_threshold=50),
        Plan("business", "Business", 2_000, None, lowest=False, low_balance_threshold=200),
    )
    assert catalogue.lowest == catalogue.get("starter")


def test_every_key_that_a_plan_can_have_is_explained_in_the_file_that_ships() -> None:
    for key in plans_file._RULES:
        assert f"\n#   {key} " in SHIPPED, key


def test_a_plan_grants_since_the_day_that_its_file_says_and_else_always_has() -> None:
    catalogue = parse_catalogue(with_line(9, "grants_since = 2027-01-01"))
    assert [plan.grants_since for plan in catalogue.plans] == [date(2027, 1, 1), None]


# --- Looking a plan up --------------------------------------------------------------------------


@pytest.fixture
def catalogue() -> PlanCatalogue:
    return parse_catalogue(RIGHT)


def test_a_plan_is_found_by_its_id(catalogue: PlanCatalogue) -> None:
    assert catalogue.get("gold") == Plan("gold", "Gold", 500, None, lowest=False)
    assert catalogue.lowest.id == "free"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("golf", "plan: unknown plan 'golf'; did you mean 'gold'?"),
        ("Gold", "plan: unknown plan 'Gold'; did you mean 'gold'?"),
        ("silver", "plan: unknown plan 'silver'; the plans are 'free', 'gold'"),
        ("", "plan: unknown plan ''; the plans are 'free', 'gold'"),
        ("x" * 65, "plan: must be the id of a plan: 'free', 'gold'; is 65 characters long"),
        (None, "plan: must be the id of a plan: 'free', 'gold'"),
        (1, "plan: must be the id of a plan: 'free', 'gold'"),
        (["gold"], "plan: must be the id of a plan: 'free', 'gold'"),
    ],
)
def test_an_unknown_plan_is_refused_with_the_nearest_or_with_all(
    catalogue: PlanCatalogue, wrong: object, message: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        catalogue.get(wrong)
    assert str(error.value) == message
    assert [error.field for error in error.value.errors] == ["plan"]


def test_the_field_that_named_the_plan_is_the_one_reported(catalogue: PlanCatalogue) -> None:
    with pytest.raises(InvalidInput, match="new_plan: unknown plan"):
        catalogue.get("golf", field="new_plan")


# --- Mistakes -----------------------------------------------------------------------------------

CREDITS = "plans[0].monthly_credits must be a whole number of 0 or more"
LIFETIME = "plans[0].credit_lifetime_days must be a whole number of 1 or more"
OMIT = "(leave it out for credits that never expire)"
KEYS = (
    "id, name, monthly_credits, credit_lifetime_days, lowest, grants_since, low_balance_threshold, "
    "most_credits_at_once, priority, balance_cap, on_signup, on_plan_change, "
    "credit_lifetime_months, allocate_on, "
    "billing_intervals, yearly_since, monthly_since"
)
MOST = (
    "plans[0].most_credits_at_once must be a whole number of 1 or more "
    "(leave it out for 10 months' credits, or 10,000 if that is more)"
)
PRIORITY = (
    "plans[0].priority must be a whole number from 0 to 100 "
    "(leave it out for 50, as all credits that name none)"
)
ID = "plans[1].id must be 1 to 64 of the characters a-z, 0-9, _ and -"
THRESHOLD = (
    "plans[0].low_balance_threshold must be a whole number of 1 or more "
    "(leave it out for no such emails)"
)
ALWAYS = "(leave it out for a plan that has always granted)"
SINCE = (
    "plans[0].grants_since must be a date written like 2027-01-01, without quotes and without a "
    f"time {ALWAYS}"
)
SINCE_YEARS = f"plans[0].grants_since must be in a year from 2000 to 2099 {ALWAYS}"
NAME = "plans[1].name must be a text of 1 to 100 printable characters"


MONTHS = f"plans[0].credit_lifetime_months must be a whole number from 1 to 120 {OMIT}"
GOES_WITH = "plans[0].monthly_since goes with billing_intervals that name 'monthly'"
ALLOCATE_ON = 'plans[0].allocate_on must be "first_of_month" or "anniversary"'
INTERVALS = 'plans[0].billing_intervals must be a list such as ["yearly"] or ["yearly", "monthly"]'


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (6, "monthly_credits = -5", f"{CREDITS}, is -5"),
        (6, "monthly_credits = 10.0", f"{CREDITS}, is 10.0"),
        (6, "monthly_credits = true", f"{CREDITS}, is true"),
        (6, 'monthly_credits = "10"', f"{CREDITS}, is '10'"),
        (6, "monthly_credits = nan", f"{CREDITS}, is nan"),
        (
            6,
            "monthly_credits = 1_000_000_001",
            "plans[0].monthly_credits must be at most 1,000,000,000, is 1000000001",
        ),
        (7, "credit_lifetime_days = 0", f"{LIFETIME} {OMIT}, is 0"),
        (7, "credit_lifetime_days = -1", f"{LIFETIME} {OMIT}, is -1"),
        (7, "credit_lifetime_days = 30.5", f"{LIFETIME} {OMIT}, is 30.5"),
        (7, "credit_lifetime_days = true", f"{LIFETIME} {OMIT}, is true"),
        (7, 'credit_lifetime_days = "none"', f"{LIFETIME} {OMIT}, is 'none'"),
        (
            7,
            "credit_lifetime_days = 3_651",
            f"plans[0].credit_lifetime_days must be at most 3,650 {OMIT}, is 3651",
        ),
        (8, 'lowest = "yes"', "plans[0].lowest must be true or false, is 'yes'"),
        (8, "lowest = 1", "plans[0].lowest must be true or false, is 1"),
        (11, 'id = ""', f"{ID}, is ''"),
        (11, 'id = "Gold"', f"{ID}, is 'Gold'"),
        (9, "most_credits_at_once = 0", f"{MOST}, is 0"),
        (9, "most_credits_at_once = 10.5", f"{MOST}, is 10.5"),
        (9, "most_credits_at_once = true", f"{MOST}, is true"),
        (9, "priority = -1", f"{PRIORITY}, is -1"),
        (9, "priority = 101", f"{PRIORITY}, is 101"),
        (9, "priority = 5.0", f"{PRIORITY}, is 5.0"),
        (9, "priority = true", f"{PRIORITY}, is true"),
        (
            9,
            "most_credits_at_once = 9",
            "plans[0].most_credits_at_once must be at least its monthly_credits, 10, is 9",
        ),
        (9, "low_balance_threshold = 0", f"{THRESHOLD}, is 0"),
        (9, "low_balance_threshold = 1.5", f"{THRESHOLD}, is 1.5"),
        (9, "low_balance_threshold = true", f"{THRESHOLD}, is true"),
        (
            9,
            "low_balance_threshold = 1_000_000_001",
            (
                "plans[0].low_balance_threshold must be at most 1,000,000,000 "
                "(leave it out for no such emails), is 1000000001"
            ),
        ),
        *(
            (9, f"grants_since = {written}", f"{SINCE}, is {shown}")
            for written, shown in [
                ('"2027-01-01"', "'2027-01-01'"),
                ("2027-01-01T00:00:00", "2027-01-01 00:00:00"),
                ("2027-01-01T00:00:00Z", "2027-01-01 00:00:00+00:00"),
                ("08:00:00", "08:00:00"),
                ("20270101", "20270101"),
                ("true", "true"),
            ]
        ),
        (9, "grants_since = 1999-12-31", f"{SINCE_YEARS}, is 1999-12-31"),
        (9, "grants_since = 2100-01-01", f"{SINCE_YEARS}, is 2100-01-01"),
        (6, "monthly_credits = 2027-01-01", f"{CREDITS}, is 2027-01-01"),
        (11, 'id = "gold plan"', f"{ID}, is 'gold plan'"),
        (11, 'id = "gold\\n"', f"{ID}, is 'gold\\n'"),
        (11, "id = 7", f"{ID}, is 7"),
        (11, "id = [7]", f"{ID}, is [7]"),
        (11, f'id = "{"g" * 78}"', f"{ID}, is '{'g' * 78}'"),
        (11, f'id = "{"g" * 79}"', f"{ID}, is '{'g' * 76}..."),
        (11, f'id = "{"g" * 65}"', f"{ID}, is '{'g' * 65}'"),
        (11, 'id = "free"', "plans[1].id 'free' is already the id of plans[0] on line 3"),
        (12, 'name = ""', f"{NAME}, is ''"),
        (12, 'name = " Gold"', f"{NAME}, is ' Gold'"),
        (12, 'name = "Gold\\nBcc: all"', f"{NAME}, is 'Gold\\nBcc: all'"),
        (12, "name = 5", f"{NAME}, is 5"),
        (12, f'name = "{"g" * 101}"', f"{NAME}, is '{'g' * 76}..."),
        (
            9,
            "credit_lifetime_day = 30",
            "plans[0].credit_lifetime_day is not a known key; did you mean 'credit_lifetime_days'?",
        ),
        (7, "credit_lifetime_months = 0", f"{MONTHS}, is 0"),
        (7, "credit_lifetime_months = 121", f"{MONTHS}, is 121"),
        (7, "credit_lifetime_months = 1.5", f"{MONTHS}, is 1.5"),
        (7, "credit_lifetime_months = true", f"{MONTHS}, is true"),
        (
            9,
            "credit_lifetime_months = 1",
            "plans[0] has two lifetimes; leave out credit_lifetime_days or this line",
        ),
        (9, 'allocate_on = "anniversery"', f"{ALLOCATE_ON}, is 'anniversery'"),
        (9, "allocate_on = 1", f"{ALLOCATE_ON}, is 1"),
        (9, "allocate_on = []", f"{ALLOCATE_ON}, is []"),
        *(
            (9, f"billing_intervals = {written}", f"{INTERVALS}, is {shown}")
            for written, shown in [
                ("[]", "[]"),
                ('"yearly"', "'yearly'"),
                ('["weekly"]', "['weekly']"),
                ('["yearly", "yearly"]', "['yearly', 'yearly']"),
                ("[[1]]", "[[1]]"),
                ("{yearly = 1}", "{'yearly': 1}"),
            ]
        ),
        (9, "monthly_since = 5", f"{SINCE.replace('grants', 'monthly')}, is 5"),
        (
            9,
            "monthly_since = 2027-01-01",
            f"{GOES_WITH}; name it there, or leave this line out",
        ),
        (9, "colour = 1", f"plans[0].colour is not a known key; the known keys are {KEYS}"),
        (14, "lowest = true", "plans[1].lowest is true, but plans[0] is the lowest already"),
        (1, "plan = 1", "plan is not a known key; did you mean 'plans'?"),
        (2, "[currency]", "currency is not a known key; the known keys are plans"),
    ],
)
def test_a_wrong_line_is_named_with_the_rule_it_breaks(
    number: int, line: str, message: str
) -> None:
    found = [p for p in problems(with_line(number, line)) if "no plan is the lowest" not in p]
    assert found == [f"plans.toml, line {number}: {message}"]


def test_a_plan_that_says_it_is_not_the_lowest_is_not() -> None:
    assert parse_catalogue(RIGHT + "lowest = false\n").lowest.id == "free"
    (problem,) = problems(with_line(8, "lowest = false"))
    assert problem.startswith("plans.toml, line 3: no plan is the lowest")


def test_all_that_have_the_id_of_another_name_the_first_with_it() -> None:
    third = '\n[[plans]]\nid = "free"\nname = "Third"\nmonthly_credits = 1\n'
    found = problems(with_line(11, 'id = "free"') + third)
    assert [problem.partition(": ")[2] for problem in found] == [
        f"plans[{number}].id 'free' is already the id of plans[0] on line 3" for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (4, "line 3: plans[0].id is missing"),
        (5, "line 3: plans[0].name is missing"),
        (8, "line 3: no plan is the lowest; add lowest = true to the one that is"),
        (11, "line 10: plans[1].id is missing"),
        (13, "line 10: plans[1].monthly_credits is missing"),
    ],
)
def test_a_missing_line_is_named_by_the_table_it_is_missing_from(
    removed: int, message: str
) -> None:
    assert problems(without_line(removed)) == [f"plans.toml, {message}"]


@pytest.mark.parametrize("priority", [0, 100])
def test_a_plan_has_the_priority_that_is_written(priority: int) -> None:
    catalogue = parse_catalogue(with_line(9, f"priority = {priority}"))
    assert [plan.priority for plan in catalogue.plans] == [priority, 50]


@pytest.mark.parametrize("removed", [7, 1])
def test_a_lifetime_and_comments_can_be_left_out(removed: int) -> None:
    assert parse_catalogue(without_line(removed)).lowest.id == "free"


def test_a_plan_says_when_its_credits_come_to_whom_and_how_long_they_live() -> None:
    text = RIGHT + (
        'allocate_on = "anniversary"\nbilling_intervals = ["monthly", "yearly"]\n'
        "yearly_since = 2027-02-01\nmonthly_since = 2027-03-01\ncredit_lifetime_months = 2\n"
    )
    catalogue = parse_catalogue(text)
    gold, free = catalogue.get("gold"), catalogue.get("free")
    assert gold.allocate_on is AllocateOn.ANNIVERSARY
    assert gold.billing_intervals == {BillingInterval.MONTHLY, BillingInterval.YEARLY}
    assert gold.since(BillingInterval.YEARLY) == date(2027, 2, 1)
    assert gold.since(BillingInterval.MONTHLY) == date(2027, 3, 1)
    since = parse_catalogue(RIGHT + "grants_since = 2027-01-01\n").get("gold")
    assert (since.yearly_since, since.monthly_since) == (None, None)
    assert gold.credit_lifetime == Months(2)
    assert free.allocate_on is AllocateOn.FIRST_OF_MONTH
    assert free.billing_intervals == {BillingInterval.YEARLY}
    assert [free.since(interval) for interval in BillingInterval] == [None, None]
    assert catalogue.allocates_on(AllocateOn.ANNIVERSARY)
    assert catalogue.allocates_on(AllocateOn.FIRST_OF_MONTH)
    assert not parse_catalogue(RIGHT).allocates_on(AllocateOn.ANNIVERSARY)


def test_of_a_plan_that_has_left_nobody_knows_whom_it_paid_if_any_pays_them() -> None:
    yearly, monthly = BillingInterval.YEARLY, BillingInterval.MONTHLY
    usual = parse_catalogue(RIGHT)
    assert [usual.grants_to("gone", each) for each in (yearly, monthly)] == [True, False]
    both = parse_catalogue(RIGHT + 'billing_intervals = ["yearly", "monthly"]\n')
    assert [both.grants_to("gone", each) for each in (yearly, monthly)] == [True, True]
    assert [both.grants_to("free", each) for each in (yearly, monthly)] == [True, False]
    assert [both.grants_to("gold", each) for each in (yearly, monthly)] == [True, True]
    alone = PlanCatalogue(
        tuple(replace(plan, billing_intervals=frozenset({monthly})) for plan in both.plans)
    )
    assert [alone.grants_to("gone", each) for each in (yearly, monthly)] == [True, True]


def test_the_lowest_plan_is_the_one_that_says_so_wherever_it_stands(
    catalogue: PlanCatalogue,
) -> None:
    turned = PlanCatalogue(catalogue.plans[::-1])
    assert turned.lowest is catalogue.lowest
    assert turned.lowest.lowest


def test_the_limits_themselves_are_allowed() -> None:
    for months in (1, 120):
        lives = parse_catalogue(with_line(7, f"credit_lifetime_months = {months}"))
        assert lives.lowest.credit_lifetime == Months(months)
    assert parse_catalogue(with_line(6, "monthly_credits = 0")).lowest.monthly_credits == 0
    most = parse_catalogue(with_line(6, "monthly_credits = 1_000_000_000"))
    assert most.lowest.monthly_credits == 1_000_000_000
    longest = parse_catalogue(with_line(7, "credit_lifetime_days = 3_650"))
    assert longest.lowest.credit_lifetime == Days(3_650)
    assert parse_catalogue(with_line(7, "credit_lifetime_days = 1")).lowest.credit_lifetime == Days(
        1
    )
    assert parse_catalogue(with_line(11, f'id = "{"g" * 64}"')).get("g" * 64).name == "Gold"
    for since in (date(2000, 1, 1), date(2099, 12, 31)):
        began = parse_catalogue(with_line(9, f"grants_since = {since}"))
        assert began.lowest.grants_since == since
    for threshold in (1, 1_000_000_000):
        told = parse_catalogue(with_line(9, f"low_balance_threshold = {threshold}"))
        assert told.lowest.low_balance_threshold == threshold
    assert parse_catalogue(with_line(12, 'name = "G"')).get("gold").name == "G"
    assert len(parse_catalogue(with_line(12, f'name = "{"g" * 100}"')).get("gold").name) == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: has no plans; add a [[plans]] table for each"),
        ("# nothing yet\n", "line 1: has no plans; add a [[plans]] table for each"),
        ("\nplans = []\n", "line 2: has no plans; add a [[plans]] table for each"),
        ("\n\nplans = 5\n", "line 3: plans must be written as [[plans]] tables"),
        ("\nplans = [5]\n", "line 2: plans must be written as [[plans]] tables"),
        ("\n[plans]\nid = 'a'\n", "line 2: plans must be written as [[plans]] tables"),
    ],
)
def test_a_file_without_plans_is_refused(text: str, message: str) -> None:
    assert problems(text) == [f"plans.toml, {message}"]


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (10, "[[plans]"),
        (6, "monthly_credits = "),
        (6, "monthly_credits: 10"),
        (6, "monthly_credits = 10 credits"),
        (5, 'name = "Free'),
        (5, 'name = """Free'),  # never closed: the end of the file is not the line to fix
        (6, "monthly_credits = ["),
        (13, "monthly_credits = ["),
        (5, 'id = "twice"'),
        (14, "lowest = yes"),
    ],
)
def test_what_is_not_toml_is_refused_with_the_line_on_which_it_goes_wrong(
    number: int, line: str
) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as parser:
        tomllib.loads(with_line(number, line))
    reason = re.sub(r" \(at .*\)$", "", str(parser.value))  # one place is named, not two
    assert problems(with_line(number, line)) == [
        f"plans.toml, line {number}: is not valid TOML: {reason}"
    ]


def test_every_mistake_is_reported_at_once_in_the_order_of_the_lines() -> None:
    text = RIGHT.replace("= 10\n", "= -1\n").replace("= 500", "= 0.5").replace("lowest = true", "")
    text += "price = 9\n"
    assert [problem.partition(": ")[0] for problem in problems(text)] == [
        "plans.toml, line 3",  # no lowest
        "plans.toml, line 6",
        "plans.toml, line 13",
        "plans.toml, line 14",
    ]


def test_the_line_is_right_however_the_file_is_written() -> None:
    """Words in a text or in a comment that look like tables and keys do not mislead it."""
    text = (
        '# [[plans]]\n[[plans]]\nname = """\\\n'
        "   [[plans]] monthly_credits = 1 \\\n"
        '   id"""\n"id" = "free"\nlowest = true\n\n\n'
        "  monthly_credits   = -1 # monthly_credits = 1\n"
    )
    assert problems(text) == [f"plans.toml, line 10: {CREDITS}, is -1"]
    assert problems(text.replace("\n", "\r\n")) == [f"plans.toml, line 10: {CREDITS}, is -1"]
    inline = 'plans = [{id = "free", name = "Free", monthly_credits = -1, lowest = true}]'
    assert problems(f"\n{inline}") == [f"plans.toml, line 2: {CREDITS}, is -1"]
    # A value on several lines is named by the first of them.
    several = with_line(12, 'name = """\nGold\nand\nmore"""\nprice = 9')
    assert problems(several) == [
        f"plans.toml, line 12: {NAME}, is 'Gold\\nand\\nmore'",
        f"plans.toml, line 16: plans[1].price is not a known key; the known keys are {KEYS}",
    ]


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_catalogue("\ufeff" + RIGHT) == parse_catalogue(RIGHT)


def test_the_mistakes_are_reported_under_the_name_of_the_file() -> None:
    with pytest.raises(CatalogueError, match=r"^chalicelib/plans\.toml, line 1: has no plans"):
        parse_catalogue("", source="chalicelib/plans.toml")


def test_the_most_at_once_is_a_billion_at_most_and_no_less_than_a_month() -> None:
    for most in (500, 1_000_000_000):
        assert parse_catalogue(f"{RIGHT}most_credits_at_once = {most}\n").get("gold").cap == most
    one = with_line(6, "monthly_credits = 1\nmost_credits_at_once = 1")
    assert parse_catalogue(one).get("free").cap == 1, "the least there is"
    (problem,) = problems(f"{RIGHT}most_credits_at_once = 1_000_000_001\n")
    assert "most_credits_at_once must be at most 1,000,000,000 (leave it out" in problem
    (problem,) = problems(f"{RIGHT}most_credits_at_once = 499\n")
    assert problem.startswith("plans.toml, line 14: plans[1].most_credits_at_once must be at least")


@pytest.mark.parametrize(
    ("monthly", "cap"),
    [(0, 10_000), (1_000, 10_000), (1_001, 10_010), (1_000_000_000, 1_000_000_000)],
)
def test_a_plan_that_does_not_say_has_ten_months_at_most_or_ten_thousand(
    monthly: int, cap: int
) -> None:
    assert Plan("pro", "Pro", monthly, None, lowest=True).cap == cap


def test_of_a_plan_that_is_gone_the_lowest_says_the_most() -> None:
    catalogue = parse_catalogue(RIGHT + "most_credits_at_once = 70_000\n")
    assert (catalogue.cap_of("gold"), catalogue.cap_of("gone")) == (70_000, 10_000)


def test_a_low_balance_is_of_a_billion_credits_at_most() -> None:
    parse_catalogue(f"{RIGHT}low_balance_threshold = 1_000_000_000\n")
    (problem,) = problems(f"{RIGHT}low_balance_threshold = 1_000_000_001\n")
    assert "low_balance_threshold must be at most 1,000,000,000 (leave it out" in problem


def test_the_mistake_on_the_first_line_is_the_first_whatever_it_says() -> None:
    assert problems("zoo = 1\n" + with_line(6, "monthly_credits = -5")) == [
        "plans.toml, line 1: zoo is not a known key; the known keys are plans",
        f"plans.toml, line 7: {CREDITS}, is -5",
    ]


def test_the_words_of_the_file_are_these() -> None:
    assert [*AllocateOn] == ["first_of_month", "anniversary"]
    assert [*OnSignup] == ["none", "full", "prorated"]
    assert [*OnPlanChange] == ["next_period", "difference"]
    assert [*BillingInterval] == ["monthly", "yearly"]
