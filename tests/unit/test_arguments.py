"""What the options of commands take, and what they refuse."""

import argparse
from decimal import Decimal

import pytest

from infra.arguments import MOST, add_stage, number, whole_number


@pytest.mark.parametrize(("text", "found"), [("3", 3), ("0007", 7), ("4200", 4200)])
def test_a_whole_number_may_be_either_limit(text: str, found: int) -> None:
    assert whole_number(3, 4200)(text) == found
    assert whole_number()(text) == found


@pytest.mark.parametrize(
    "text", ["2", "4201", "0", "-3", "+3", "3.0", "3e1", "", " 3", "٣", "³", "00003", "9" * 5000]
)
def test_another_text_is_refused_with_the_limits(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        whole_number(3, 4200)(text)
    assert str(refused.value) == "must be a whole number from 3 to 4,200"


def test_without_limits_a_whole_number_is_from_one_to_a_billion() -> None:
    assert [whole_number()(text) for text in ("1", str(MOST))] == [1, 1_000_000_000]
    for text in ("0", str(MOST + 1)):
        with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 1,000,000,000"):
            whole_number()(text)


def test_a_number_may_have_decimals_and_be_either_limit() -> None:
    found = [number(100)(text) for text in ("0", "0.10", "1e2", "100")]
    assert found == [Decimal(0), Decimal("0.1"), Decimal(100), Decimal(100)]
    for text in ("-0.01", "100.01", "NaN", "Infinity", "-Infinity", "1,5", "", "ten"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"^must be a number from 0 to 100$"):
            number(100)(text)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 1,000,000,000"):
        number()("1000000001")


def test_a_command_is_about_the_local_stack_and_the_region_of_the_profile_unless_told() -> None:
    parser = argparse.ArgumentParser()
    add_stage(parser)
    assert vars(parser.parse_args([])) == {"stage": "local", "region": None}
    told = parser.parse_args(["--stage", "prod", "--region", "eu-west-1"])
    assert vars(told) == {"stage": "prod", "region": "eu-west-1"}
