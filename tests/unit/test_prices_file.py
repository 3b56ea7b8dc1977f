"""The list of Stripe's prices: what ships, and every mistake with the line to fix."""

from dataclasses import replace
from pathlib import Path

import pytest

import chalicelib
from chalicelib import prices_file
from chalicelib.domain.batches import BOUGHT_PRIORITY
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.price_list import CreditPrice, PlanPrice, PriceList
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.prices_file import PriceListError, parse_price_list

FOLDER = Path(chalicelib.__file__).parent
SHIPPED = (FOLDER / "stripe.toml").read_text(encoding="utf-8")
CATALOGUE = parse_catalogue((FOLDER / "plans.toml").read_text(encoding="utf-8"))

RIGHT = """\
timezone = "Europe/Paris"
grants_in_trials = false
grants_past_due = false

[[prices]]  # line 5
id = "price_plan"
plan = "pro"
billing_interval = "yearly"

[[prices]]  # line 10
id = "price_pack"
credits = 500
expires_in_days = 365
priority = 10

[[prices]]  # line 16
id = "price_poster"
is_ignored = true
"""

NOTHING = PriceList({}, timezone="UTC", grants_in_trials=True, grants_past_due=True)


def parse(text: str) -> PriceList:
    return parse_price_list(text, CATALOGUE)


def problems(text: str) -> list[str]:
    """What is wrong with a list, one mistake a line."""
    with pytest.raises(PriceListError) as error:
        parse(text)
    return str(error.value).split("\n")


def with_line(number: int, line: str) -> str:
    """The right list with one line replaced."""
    lines = RIGHT.split("\n")
    lines[number - 1] = line
    return "\n".join(lines)


# --- What is read -------------------------------------------------------------------------------


def test_each_price_stands_for_a_plan_or_for_credits_or_for_nothing_of_ours() -> None:
    assert parse(RIGHT) == PriceList(
        {
            "price_plan": PlanPrice("pro", BillingInterval.YEARLY),
            "price_pack": CreditPrice(500, 365, 10),
            "price_poster": None,
        },
        timezone="Europe/Paris",
        grants_in_trials=False,
        grants_past_due=False,
    )


def test_what_is_left_out_has_its_default() -> None:
    found = parse('[[prices]]\nid = "a"\ncredits = 1')
    assert found == replace(NOTHING, prices={"a": CreditPrice(1, None, BOUGHT_PRIORITY)})
    assert parse("grants_in_trials = false") == replace(NOTHING, grants_in_trials=False)
    assert parse("grants_past_due = false") == replace(NOTHING, grants_past_due=False)


@pytest.mark.parametrize("empty", ["", "prices = []", "# Nothing yet\n", SHIPPED])
def test_a_list_without_prices_is_right_and_that_is_what_ships(empty: str) -> None:
    assert parse(empty) == NOTHING


def test_every_key_is_explained_in_the_file_that_ships() -> None:
    for key in ("timezone", *prices_file._SETTINGS, *prices_file._RULES):
        assert f"\n#   {key} " in SHIPPED, key


def test_the_example_of_the_file_that_ships_can_be_taken_out_of_its_comment() -> None:
    start = SHIPPED.index("# [[prices]]")
    example = SHIPPED[start:].replace("# ", "").replace("#", "")
    assert parse(example).prices == {
        "price_1Example": PlanPrice("pro", BillingInterval.YEARLY),
        "price_2Example": CreditPrice(500),
    }


def test_the_file_can_come_from_any_editor() -> None:
    assert parse("\ufeff" + RIGHT.replace("\n", "\r\n")) == parse(RIGHT)


@pytest.mark.parametrize("name", ["p", "price_" + "x" * 249])
def test_an_id_has_up_to_255_characters(name: str) -> None:
    assert parse(f'[[prices]]\nid = "{name}"\ncredits = 1').prices == {name: CreditPrice(1)}


def test_the_bounds_of_the_numbers_are_within() -> None:
    text = '[[prices]]\nid = "a"\ncredits = 1_000_000_000\nexpires_in_days = 3650\npriority = 0'
    assert parse(text).prices == {"a": CreditPrice(10**9, 3_650, 0)}
    text = '[[prices]]\nid = "a"\ncredits = 1\nexpires_in_days = 1\npriority = 100'
    assert parse(text).prices == {"a": CreditPrice(1, 1, 100)}


# --- Mistakes -----------------------------------------------------------------------------------

ID = "prices[0].id must be the id of a price, such as price_1NYx"
INTERVAL = "prices[0].billing_interval must be one of 'monthly', 'yearly'"
CREDITS = "prices[1].credits must be a whole number of 1 or more"
DAYS = "prices[1].expires_in_days must be"
NEVER = "(leave it out for credits that never expire)"
PRIORITY = "prices[1].priority must be a whole number from 0 to 100 (leave it out for 60)"
IGNORED = "prices[2].is_ignored must be true (leave the table out for a price that is unknown)"
ONE_OF = "must have one of plan, credits and is_ignored; it has"
KEYS = "id, plan, billing_interval, credits, expires_in_days, priority, is_ignored"
ALL_PLANS = "'starter', 'pro', 'business'"
PLANS = f"prices[0].plan: must be the id of a plan: {ALL_PLANS}"
SETTINGS = "prices, timezone, grants_in_trials, grants_past_due"


@pytest.mark.parametrize(
    ("number", "line", "place", "message"),
    [
        (
            *(1, 'timezone = "paris"', 1),
            "timezone: unknown timezone 'paris'; did you mean 'Europe/Paris'?",
        ),
        (
            *(1, 'timezone = "CET+1"', 1),
            "timezone: unknown timezone 'CET+1'; use a name such as 'Europe/Paris'",
        ),
        (1, "timezone = 1", 1, "timezone: must be an IANA timezone name such as 'Europe/Paris'"),
        (1, 'time_zone = "UTC"', 1, "time_zone is not a known key; did you mean 'timezone'?"),
        (
            *(1, "color = 1", 1),
            f"color is not a known key; the known keys are {SETTINGS}",
        ),
        (2, "grants_in_trials = 1", 2, "grants_in_trials must be true or false, is 1"),
        (3, 'grants_past_due = "no"', 3, "grants_past_due must be true or false, is 'no'"),
        (4, "[price]", 4, "price is not a known key; did you mean 'prices'?"),
        (6, 'id = ""', 6, f"{ID}, is ''"),
        (6, 'id = "price 1"', 6, f"{ID}, is 'price 1'"),
        (6, 'id = "prix_é"', 6, f"{ID}, is 'prix_é'"),
        (6, f'id = "{"p" * 256}"', 6, f"{ID}, is '{'p' * 76}..."),
        (6, "id = 1", 6, f"{ID}, is 1"),
        (6, "id = [1]", 6, f"{ID}, is [1]"),
        (6, "", 5, "prices[0].id is missing"),
        (
            *(6, 'id = "price_pack"', 11),
            "prices[1].id 'price_pack' is already the id of prices[0] on line 5",
        ),
        (
            *(17, 'id = "price_plan"', 17),
            "prices[2].id 'price_plan' is already the id of prices[0] on line 5",
        ),
        (7, 'plan = "proo"', 7, "prices[0].plan: unknown plan 'proo'; did you mean 'pro'?"),
        (7, "plan = 1", 7, PLANS),
        (7, 'plan = ["pro"]', 7, PLANS),
        (7, "", 5, f"prices[0] {ONE_OF} none"),
        (8, "", 5, "prices[0].billing_interval is missing"),
        (8, 'billing_interval = "weekly"', 8, f"{INTERVAL}, is 'weekly'"),
        (8, 'billing_interval = ["yearly"]', 8, f"{INTERVAL}, is ['yearly']"),
        (9, "credits = 5", 5, f"prices[0] {ONE_OF} plan and credits"),
        (9, "is_ignored = true", 5, f"prices[0] {ONE_OF} plan and is_ignored"),
        (9, "priority = 5", 9, "prices[0].priority does not go with plan"),
        (9, "expires_in_days = 5", 9, "prices[0].expires_in_days does not go with plan"),
        (12, "credits = 0", 12, f"{CREDITS}, is 0"),
        (12, "credits = 1.5", 12, f"{CREDITS}, is 1.5"),
        (12, "credits = true", 12, f"{CREDITS}, is true"),
        (12, 'credits = "500"', 12, f"{CREDITS}, is '500'"),
        (
            *(12, "credits = 1_000_000_001", 12),
            "prices[1].credits must be at most 1,000,000,000, is 1000000001",
        ),
        (12, "", 10, f"prices[1] {ONE_OF} none"),
        (13, "expires_in_days = 0", 13, f"{DAYS} a whole number of 1 or more {NEVER}, is 0"),
        (13, "expires_in_days = true", 13, f"{DAYS} a whole number of 1 or more {NEVER}, is true"),
        (13, "expires_in_days = 3651", 13, f"{DAYS} at most 3,650 {NEVER}, is 3651"),
        (14, "priority = 101", 14, f"{PRIORITY}, is 101"),
        (14, "priority = -1", 14, f"{PRIORITY}, is -1"),
        (14, "priority = 5.0", 14, f"{PRIORITY}, is 5.0"),
        (
            15,
            'billing_interval = "yearly"',
            15,
            "prices[1].billing_interval does not go with credits",
        ),
        (18, "is_ignored = false", 18, f"{IGNORED}, is false"),
        (18, "is_ignored = 1", 18, f"{IGNORED}, is 1"),
        (18, "", 16, f"prices[2] {ONE_OF} none"),
        (19, "credits = 5", 16, f"prices[2] {ONE_OF} credits and is_ignored"),
        (19, "priority = 5", 19, "prices[2].priority does not go with is_ignored"),
        (19, "color = 5", 19, f"prices[2].color is not a known key; the known keys are {KEYS}"),
        (1, "timezone = ", 1, "is not valid TOML: Invalid value"),
        (
            12,
            "credits = 1 2",
            12,
            "is not valid TOML: Expected newline or end of document after a statement",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_rule_it_breaks(
    number: int, line: str, place: int, message: str
) -> None:
    assert problems(with_line(number, line)) == [f"stripe.toml, line {place}: {message}"]


@pytest.mark.parametrize("text", ["prices = 5", 'prices = ["a"]', "[prices]\na = 1"])
def test_prices_are_tables(text: str) -> None:
    line = "stripe.toml, line 1: prices must be written as [[prices]] tables"
    assert problems(text) == [line]


def test_every_mistake_is_told_in_the_order_of_the_lines() -> None:
    text = with_line(14, "priority = 101").replace("false", '"no"').replace('"pro"', '"gold"')
    assert [problem.partition(":")[0] for problem in problems(text)] == [
        f"stripe.toml, line {number}" for number in (2, 3, 7, 14)
    ]


def test_several_mistakes_on_one_line_are_told_in_the_order_in_which_they_stand() -> None:
    text = 'prices = [{id = "a", priority = 1, expires_in_days = 3, is_ignored = true}]'
    assert problems(text) == [
        "stripe.toml, line 1: prices[0].priority does not go with is_ignored",
        "stripe.toml, line 1: prices[0].expires_in_days does not go with is_ignored",
    ]


def test_a_price_of_a_plan_that_is_not_known_says_so_besides_what_else_is_wrong() -> None:
    assert problems('[[prices]]\nid = "a"\nplan = "zzz"\n') == [
        "stripe.toml, line 1: prices[0].billing_interval is missing",
        f"stripe.toml, line 3: prices[0].plan: unknown plan 'zzz'; the plans are {ALL_PLANS}",
    ]


def test_a_file_of_another_name_is_called_by_it() -> None:
    with pytest.raises(PriceListError, match=r"\Aother\.toml, line 1: a is not a known key"):
        parse_price_list("a = 1", CATALOGUE, "other.toml")


def test_the_errors_of_the_two_files_are_told_apart() -> None:
    with pytest.raises(CatalogueError, match=r"\Aplans\.toml, line 2: is not valid TOML"):
        parse_catalogue("[[plans]]\nid = ")
    with pytest.raises(PriceListError, match=r"\Astripe\.toml, line 2: is not valid TOML"):
        parse("[[prices]]\nid = ")
    assert not issubclass(PriceListError, CatalogueError)
