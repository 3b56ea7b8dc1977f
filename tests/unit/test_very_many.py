"""Ten million users in one zone: no chain of invocations is long, and nobody is left out."""

import json

import pytest

from bench.very_many import (
    COUNT_SECONDS,
    LAMBDA_SECONDS,
    MILLIONS,
    PAGE_SECONDS,
    SEND_SECONDS,
    Cloud,
    counted,
    reminded,
    swept,
)
from chalicelib.domain.ranges import MOST_HOPS
from chalicelib.jobs import completeness, sweeps
from chalicelib.messages.work import SweepKind
from chalicelib.store.ledger_items import EXPIRY_SHARDS

LAMBDA_ENDS_A_CHAIN_AT = 16


def gone_through(cloud: Cloud) -> None:
    """Every user was in a page, and in one."""
    reached = 0
    for start, stop in sorted(set(cloud.spans)):
        assert start <= reached
        reached = max(reached, stop)
    assert reached == cloud.users


def test_an_invocation_has_time_for_a_range_of_each_kind() -> None:
    seconds = {
        "allocation": sweeps.USERS_A_RANGE[SweepKind.ALLOCATION] * PAGE_SECONDS / 1000,
        "expiry": sweeps.USERS_A_RANGE[SweepKind.EXPIRY] * PAGE_SECONDS / 1000,
        "reminder": sweeps.USERS_A_RANGE[SweepKind.REMINDER] * SEND_SECONDS / 10,
        "count": completeness.USERS_A_RANGE * COUNT_SECONDS / 100,
        # A page of a scan is a megabyte: some 2,500 users, at a third of a second.
        "strangers": MILLIONS / 2**completeness.SEGMENT_BITS / 2500 / 3,
    }
    has = LAMBDA_SECONDS - sweeps.TIME_TO_HAND_OVER / 1000
    assert {what for what, takes in seconds.items() if takes > has / 2} == set()


def test_ten_million_users_of_a_zone_are_handed_on_within_a_minute_in_two_hops() -> None:
    cloud = Cloud(MILLIONS)
    course = swept(cloud)
    gone_through(cloud)
    assert course.hops == 2
    assert course.invocations == 1 + 256
    assert course.longest < 10
    assert course.over_after < 60
    # One page is read twice: what the zone's own invocation had begun of its first range.
    assert sum(stop - start for start, stop in cloud.spans) <= MILLIONS + 1000


def test_a_zone_that_one_invocation_is_enough_for_is_swept_by_one() -> None:
    course = swept(Cloud(49_000))
    assert (course.hops, course.invocations) == (1, 1)


@pytest.mark.parametrize("slowness", [20.0, 200.0])
def test_however_slow_the_index_is_no_chain_is_longer_than_five(slowness: float) -> None:
    """A page of a thousand users takes half a minute at last, and no range is too narrow for it."""
    cloud = Cloud(MILLIONS // 10, slowness=slowness)
    course = swept(cloud)
    gone_through(cloud)
    assert course.hops <= MOST_HOPS < LAMBDA_ENDS_A_CHAIN_AT


def test_a_million_users_of_a_zone_are_counted_in_two_hops_and_add_up() -> None:
    """Ten million take a minute to try (`python -m bench.very_many`), and as many hops."""
    users = MILLIONS // 10
    cloud = Cloud(users)
    course = counted(cloud)
    gone_through(cloud)
    assert course.hops == 2
    assert course.longest < LAMBDA_SECONDS - sweeps.TIME_TO_HAND_OVER / 1000
    (summary,) = [text for key, text in cloud.reports.items() if key.endswith("summary.json")]
    assert json.loads(summary)["due"] == json.loads(summary)["allocated"] == users


def test_the_reminders_of_ten_million_users_whose_credits_end_at_one_midnight_take_few_hops() -> (
    None
):
    of_shard = MILLIONS // EXPIRY_SHARDS
    cloud = Cloud(of_shard)
    course = reminded(cloud)
    assert of_shard <= cloud.handed_on < 1.01 * of_shard
    assert course.hops == 3 < MOST_HOPS
    assert course.longest < LAMBDA_SECONDS
