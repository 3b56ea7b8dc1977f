"""The monthly count: that everybody who was due was allocated, and once.

    check-completeness ─► queue `checks` ─► check-zone ─► completeness/<period>/<run>/zones/<zone>
                          one per timezone                 the last one: …/summary.json and .txt

A zone that has left the database of timezones is swept by no tick and would be counted by nobody:
one check more goes through all users and counts those who live in such a zone.

Counting changes nothing but reports, and a message that comes again writes the same ones. Users are
counted where they live now, those who can receive credits now.
"""

import json
import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.allocations import zones_of_run
from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally, tally_of
from chalicelib.domain.errors import CreditsError, InvalidInput, LedgerCorrupt, TimezoneUnknown
from chalicelib.domain.fields import FieldReader
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import LedgerEntry
from chalicelib.domain.subscriptions import Subscription
from chalicelib.messages import UNKNOWN_ZONES, ZoneCheck
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlation_id, logger
from chalicelib.refusals import refusal
from chalicelib.services import Services

from .records import Answer, Event, handle_records, in_this_context
from .sweeps import TIME_TO_HAND_OVER

USERS_A_PAGE = 100

ENTRIES_A_READ = 25
"""How many entries one query reads: most users have fewer since their month began."""


def start_checks(services: Services, event: object) -> dict[str, Any]:
    """Enqueues the count of a period in every timezone where it has begun, or in those given.

    ``event``: EventBridge's, for the month of its time, or ``{"period": "2026-07", "zones": […]}``.
    Answers how many zones are counted, and where the summary will be; or the refusal.
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
    checked = zones if chosen else [*zones, UNKNOWN_ZONES]
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
    """Counts the zones in an SQS event; answers those that failed."""

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
    if isinstance(event, dict) and "detail-type" in event:
        time = parse_instant("time", event.get("time"))
        return calendar.period_at("UTC", time), None
    fields = FieldReader(event, "event")
    period = fields.required("period", lambda field, value: Period.parse(value, field))
    zones = fields.optional("zones", calendar.parse_timezones)
    fields.finish()
    return period, zones


def _check(services: Services, check: ZoneCheck, is_time_up: Callable[[], bool]) -> None:
    count_page = _count_strangers if check.timezone == UNKNOWN_ZONES else _count_users
    tally, after = check.tally, check.after
    while True:
        counted_now, after = count_page(services, check, after)
        tally += counted_now
        if after is None:
            break
        if is_time_up():
            services.queues.send_checks([replace(check, after=after, tally=tally).body()])
            return
    if check.timezone == UNKNOWN_ZONES:
        count(Metric.TIMEZONE_UNKNOWN, tally.unchecked)
    folder = f"{_folder(check.period, check.run)}/zones/"
    counted = {"period": str(check.period), "timezone": check.timezone, **tally.values()}
    services.reports.put(f"{folder}{check.timezone}.json", json.dumps(counted))
    # Whoever is last sees all of them; two at once write the same summary.
    keys = services.reports.keys(folder)
    if len(keys) >= check.zones:
        _summarize(services, check, keys)


def _count_users(
    services: Services, check: ZoneCheck, after: str | None
) -> tuple[Tally, str | None]:
    """A page of the users of a zone, and after whom to go on."""
    page = services.subscriptions.users_of(check.timezone, after, USERS_A_PAGE)
    return sum(_tallies(services, check.period, page.user_ids), Tally()), page.last_user_id


def _count_strangers(
    services: Services, _check: ZoneCheck, after: str | None
) -> tuple[Tally, str | None]:
    """Those of a page of all users whose zone is unknown, and after whom to go on."""
    page = services.subscriptions.timezones(after)
    lost = {user: zone for user, zone in page.timezones.items() if not calendar.is_known(zone)}
    if lost:
        logger().error("timezones unknown", users=len(lost), zones=dict(Counter(lost.values())))
    return Tally.unchecked_of(*lost), page.last_user_id


def _tallies(services: Services, period: Period, user_ids: list[str]) -> list[Tally]:
    now = services.now()
    subscriptions = services.subscriptions.get_many(user_ids).values()

    def tally(subscription: Subscription) -> Tally:
        user_id = subscription.user_id
        try:
            entries = _entries_since(services, user_id, period)
            return tally_of(subscription, services.catalogue, period, entries, now)
        except (LedgerCorrupt, InvalidInput, TimezoneUnknown) as error:
            logger().error("user not checked", user_id=user_id, error=str(error))
            return Tally.unchecked_of(user_id)

    with ThreadPoolExecutor(services.threads) as pool:
        return list(pool.map(in_this_context(tally), subscriptions))


def _entries_since(services: Services, user_id: str, period: Period) -> list[LedgerEntry]:
    """A user's entries, newest first: all since the period began anywhere, and the last one."""
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
    # The table first: who waits for the summary finds both.
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
    for metric, users in (
        (Metric.DUE, total.due),
        (Metric.MISSING, total.missing),
        (Metric.DUPLICATE, total.duplicate),
    ):
        count(metric, users)
    logger().info("checked", period=str(check.period), complete=total.is_complete, due=total.due)


def _table(period: Period, by_zone: dict[str, Tally], total: Tally) -> str:
    """The summary for people: zones with users, the sum, and who is wrong."""
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
