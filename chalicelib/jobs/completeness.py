"""The monthly count: checks that every user who was due was allocated, once.

    check-completeness ─► queue `checks` ─► check-zone ─► completeness/<period>/<run>/
                          one per timezone                ├─ ranges/<zone>/<range>, of large zones
                                                          ├─ zones/<zone>
                                                          └─ summary.json and .txt, by the last one

The newest summary of all zones is also stored as `completeness/<period>/newest.json`, for the API.

A zone of many users is divided into ranges, like a sweep, and the last range adds them up. A range
that proves too large is divided again, and its count starts again. If a message comes twice, a
range may be reported as a whole and in parts: then the whole counts.

No tick sweeps a zone that has left the database of timezones, so it would not be counted. One more
check goes through all users and counts those who live in such a zone.

Counting changes only reports, and a repeated message writes the same ones. It counts the users who
can receive credits now, in the zone where they live now.

A user whose months begin on an anniversary is due once their month has begun. On the 2nd, when the
schedule counts a month, most of its anniversaries have not come yet. So if months of any plan begin
on anniversaries, the schedule also counts the month before, whose last months are over.
"""

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally, tally_of
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import CreditsError, InvalidInput
from chalicelib.domain.fields import FieldReader
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.plans import AllocateOn
from chalicelib.domain.ranges import Range, bits_for, tiling
from chalicelib.invocations import is_from_eventbridge
from chalicelib.jobs.answers import refusal
from chalicelib.messages.checks import UNKNOWN_ZONES, ZoneCheck
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlation_id, logger
from chalicelib.operations import months
from chalicelib.operations.allocations import zones_of_run
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.subscriptions import read_subscription

from .errors import describe_failure, passing
from .records import (
    Answer,
    Event,
    handle_records,
    in_this_context,
    note,
)
from .sweeps import TIME_TO_HAND_OVER

USERS_A_PAGE = 100

USERS_A_RANGE = 5_000
"""What one invocation counts in some twenty seconds: larger zones are divided."""

SEGMENT_BITS = 8
"""A table that is too large for one invocation is scanned in 256 segments: with ten million users,
a segment has 40,000 users on sixteen pages. Segments are not divided again, because DynamoDB's
segments need not lie within each other."""

ENTRIES_A_READ = 25
"""How many entries one query reads: most users had fewer since their month began."""


def start_checks(services: Services, event: object) -> dict[str, Any]:
    """Enqueues the count of a period in every timezone where it has begun, or in those given.

    ``event``: EventBridge's, for the month of its time, or ``{"period": "2026-07", "zones": […]}``.
    Returns how many zones are counted, and where the summary will be; or the refusal.
    """
    try:
        period, chosen = _parse(event)
        zones = zones_of_run(services, period, chosen).begun
        if not zones:
            raise InvalidInput.of("period", f"{period} has not begun in any of the zones")
    except CreditsError as error:
        logger().warning("check refused", code=error.code, detail=str(error))
        return refusal(error)
    run = correlation_id() or secrets.token_hex(8)
    if is_from_eventbridge(event) and services.catalogue.allocates_on(AllocateOn.ANNIVERSARY):
        # Users of unknown zones are counted once.
        _start(services, run, period.previous(), zones)
    return _start(services, run, period, zones if chosen else [*zones, UNKNOWN_ZONES])


def _start(services: Services, run: str, period: Period, checked: list[str]) -> dict[str, Any]:
    zones = [zone for zone in checked if zone != UNKNOWN_ZONES]
    services.queues.send_checks(
        ZoneCheck(run, period, zone, len(checked), correlation_id=correlation_id()).body()
        for zone in checked
    )
    logger().info("check", period=str(period), zones=len(zones))
    return {
        "success": True,
        "period": str(period),
        "zones": len(zones),
        "bucket": services.settings.reports_bucket,
        "summary": f"{_folder(period, run)}/summary",
    }


def check_zones(services: Services, event: Event, context: Any) -> Answer:
    """Counts the zones in an SQS event; returns those that failed."""

    def is_time_up() -> bool:
        return bool(context.get_remaining_time_in_millis() < TIME_TO_HAND_OVER)

    return handle_records(
        services,
        services.settings.checks_queue_url,
        event,
        context,
        ZoneCheck.parse,
        lambda check: _check(services, check, is_time_up),
    )


def _parse(event: object) -> tuple[Period, list[str] | None]:
    if is_from_eventbridge(event):
        time = parse_instant("time", event.get("time"))
        return calendar.period_at("UTC", time), None
    fields = FieldReader(event, "event")
    period = fields.required("period", lambda field, value: Period.parse(value, field))
    zones = fields.optional("zones", calendar.parse_timezones)
    fields.finish()
    return period, zones


def _check(services: Services, check: ZoneCheck, is_time_up: Callable[[], bool]) -> None:
    count_all = _count_strangers if check.timezone == UNKNOWN_ZONES else _count_users
    counted = count_all(services, check, is_time_up)
    if isinstance(counted, Tally):
        _report(services, check, counted)
    else:
        services.queues.send_checks(replace(check, range=part).body() for part in counted)


def _count_users(
    services: Services, check: ZoneCheck, is_time_up: Callable[[], bool]
) -> Tally | list[Range]:
    """Counts the users of a range; or returns the parts in which to count it."""
    pages = services.subscriptions.pages_of(check.timezone, USERS_A_PAGE, range_=check.range)
    tally, users = Tally(), 0
    for user_ids, last in pages:
        users += len(user_ids)
        if last is not None:
            expected = check.range.expected(users, last)
            if check.range.is_whole and expected > USERS_A_RANGE:
                return check.range.parts(bits_for(expected, USERS_A_RANGE))
            if check.range.is_divisible and is_time_up():
                return check.range.parts()
        tally += sum(_tallies(services, check.period, user_ids), Tally())
    return tally


def _count_strangers(
    services: Services, check: ZoneCheck, is_time_up: Callable[[], bool]
) -> Tally | list[Range]:
    """The same for the users of the whole table whose zone is unknown."""
    tally, after = Tally(), None
    while True:
        page = services.subscriptions.timezones(after, check.range)
        lost = {
            user: zone
            for user, zone in page.timezones.items()
            if zone is None or not calendar.is_known(zone)
        }
        if lost:
            logger().error("timezones unknown", users=len(lost), zones=_counted(lost.values()))
        tally += Tally.unchecked_of(*lost)
        after = page.last_user_id
        if after is None:
            return tally
        if check.range.is_whole and is_time_up():
            return check.range.parts(SEGMENT_BITS)


def _counted(zones: Iterable[str | None]) -> dict[str, int]:
    """How many users live in each zone, for the logs."""
    return dict(Counter(zone or "unreadable" for zone in zones))


def _report(services: Services, check: ZoneCheck, tally: Tally) -> None:
    """Writes a count and what it completes: the zone's count, and the summary of all zones."""
    if not check.range.is_whole:
        whole = _added_up(services, check, tally)
        if whole is None:
            return
        tally = whole
    if check.timezone == UNKNOWN_ZONES:
        count(Metric.TIMEZONE_UNKNOWN, tally.unchecked)
    folder = f"{_folder(check.period, check.run)}/zones/"
    counted = {"period": str(check.period), "timezone": check.timezone, **tally.values()}
    services.reports.put(f"{folder}{check.timezone}.json", json.dumps(counted))
    # The last check sees all of them; two at once write the same summary.
    keys = services.reports.keys(folder)
    if len(keys) >= check.zones:
        _summarize(services, check, keys)


def _added_up(services: Services, check: ZoneCheck, tally: Tally) -> Tally | None:
    """Reports a range; returns the tally of its zone if all of its ranges are reported now."""
    folder = f"{_folder(check.period, check.run)}/ranges/{check.timezone}/"
    services.reports.put(f"{folder}{check.range.bits}.json", json.dumps(tally.values()))
    keys = services.reports.keys(folder)
    ranges = tiling(Range(key.removeprefix(folder).removesuffix(".json")) for key in keys)
    if ranges is None:
        return None
    with ThreadPoolExecutor(services.threads) as pool:
        texts = pool.map(services.reports.get, (f"{folder}{each.bits}.json" for each in ranges))
        return sum((Tally.parse("report", json.loads(text)) for text in texts), Tally())


def _tallies(services: Services, period: Period, user_ids: list[str]) -> list[Tally]:
    now = services.now()
    subscriptions = services.subscriptions.get_many(user_ids)

    def tally(stored: tuple[str, Item]) -> Tally:
        user_id, item = stored
        try:
            subscription = read_subscription(item)
            entries = _entries_since(services, user_id, period)
            return tally_of(subscription, services.catalogue, period, entries, now)
        except passing():
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are counted
            note(error, user_id=user_id)
            logger().error("user not checked", user_id=user_id, error=describe_failure(error))
            return Tally.unchecked_of(user_id)

    with ThreadPoolExecutor(services.threads) as pool:
        return list(pool.map(in_this_context(tally), subscriptions.items()))


def _entries_since(services: Services, user_id: str, period: Period) -> list[LedgerEntry]:
    """A user's entries, newest first: all since the period's earliest start, and the last one."""
    # No zone is ahead of UTC by a day.
    since = datetime(period.year, period.month, 1, tzinfo=UTC) - timedelta(days=1)
    entries: list[LedgerEntry] = []
    for entry in services.ledger.newest_first(user_id, page=ENTRIES_A_READ):
        entries.append(entry)
        if entry.posted_at < since:
            break
    return entries


def _summarize(services: Services, check: ZoneCheck, keys: list[str]) -> None:
    with ThreadPoolExecutor(services.threads) as pool:
        zones = [json.loads(text) for text in pool.map(services.reports.get, keys)]
    by_zone: dict[str, Tally] = {}
    for counted in zones:
        del counted["period"]
        zone = counted.pop("timezone")
        by_zone[zone] = Tally.parse("report", counted)
    total = sum(by_zone.values(), Tally())
    folder = _folder(check.period, check.run)
    # The table first: so if the summary exists, both do.
    services.reports.put(
        f"{folder}/summary.txt", _table(check.period, by_zone, total), "text/plain; charset=utf-8"
    )
    summary = {
        "period": str(check.period),
        "zones": len(by_zone.keys() - {UNKNOWN_ZONES}),
        "complete": total.is_complete,
        **total.values(),
        "by_zone": {zone: tally.values() for zone, tally in by_zone.items() if tally != Tally()},
    }
    services.reports.put(f"{folder}/summary.json", json.dumps(summary))
    if check.zones >= len(calendar.zone_names()):
        counted = summary | {"counted_at": format_instant(services.now())}
        services.reports.put(months.key_of(check.period), json.dumps(counted))
    for metric, users in (
        (Metric.DUE, total.due),
        (Metric.MISSING, total.missing),
        (Metric.DUPLICATE, total.duplicate),
    ):
        count(metric, users)
    logger().info("checked", period=str(check.period), complete=total.is_complete, due=total.due)


def _table(period: Period, by_zone: dict[str, Tally], total: Tally) -> str:
    """The summary for people: zones with users, the sum, and the users with mistakes."""
    heads = ("zone", "due", "allocated", "missing", "duplicate", "unchecked")
    rows = [(zone, tally) for zone, tally in sorted(by_zone.items()) if tally != Tally()]
    zones = len(by_zone.keys() - {UNKNOWN_ZONES})
    lines = [f"Allocations of {period}, {zones} zones", "", _row(heads)]
    lines += [
        _row((zone, *(str(getattr(tally, head)) for head in heads[1:])))
        for zone, tally in [*rows, ("all", total)]
    ]
    for what in ("missing", "duplicate", "unchecked"):
        if users := getattr(total, f"{what}_users"):
            more = getattr(total, what) - len(users)
            lines.append(f"{what}: {', '.join(users)}" + (f" and {more} more" if more else ""))
    if strangers := by_zone.get(UNKNOWN_ZONES, Tally()).unchecked:
        lines.append(
            f"{UNKNOWN_ZONES}: {strangers} users live in a timezone that is no longer in the "
            'database; give each another: PATCH /api/subscriptions/{user_id} {"timezone": "..."}'
        )
    verdict = "complete" if total.due else "nobody was due"
    lines.append(verdict if total.is_complete else "NOT complete")
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"{cells[0]:<32}" + "".join(f"{cell:>11}" for cell in cells[1:])


def _folder(period: Period, run: str) -> str:
    return f"completeness/{period}/{run}"
