"""The simulation of a month's turn: what must hold whatever was measured."""

from dataclasses import replace

from bench.capacity import POPULATION, Setting, largest_share, saturated, simulate
from chalicelib.domain import calendar


def test_more_users_take_longer_and_more_places_less_long() -> None:
    usual = Setting(users=1_000_000, warm_writes=40_000, warm_reads=40_000)
    assert simulate(replace(usual, users=2_000_000)).seconds > simulate(usual).seconds
    assert simulate(replace(usual, concurrency=200)).seconds < simulate(usual).seconds


def test_nobody_is_credited_before_being_enqueued_and_everybody_is() -> None:
    turn = simulate(Setting(users=100_000))
    assert turn.seconds >= turn.enqueued_seconds
    assert turn.curve[-1][1] == 100_000


def test_the_table_gives_out_no_more_than_its_rate() -> None:
    slow = Setting(users=1_000_000, concurrency=1_000, warm_writes=4_000)
    assert simulate(slow).seconds >= 1_000_000 / 4_000
    assert saturated(slow) == "DynamoDB's rates"


def test_the_zones_with_people_are_zones_of_the_calendar() -> None:
    assert set(POPULATION) <= set(calendar.zone_names())
    assert 0.1 < largest_share() < 0.3
