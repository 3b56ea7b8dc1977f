"""Checks that a deployed stack does its work: alarms, dead letters, ticks, audits and counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from chalicelib.domain.calendar import Period, period_at
from chalicelib.domain.instants import format_instant
from chalicelib.metrics import NAMESPACE, Metric
from infra.deployment import shadows
from infra.deployment.alarms import RUNBOOK
from infra.doctor.finding import Finding, bad, fine, plural, warning
from infra.doctor.site import Json, Site

TICKS = {"allocation": Metric.ALLOCATION_TICKS, "expiry": Metric.EXPIRY_TICKS}

TICK_AGE = timedelta(minutes=30)
"""How old the last tick may be: ticks come every quarter of an hour."""

AUDIT_AGE = timedelta(hours=26)
"""How old the last audit may be: it runs daily, and takes a while."""

COUNTED_ON = timedelta(days=1, hours=15)
"""When the first count of a month is done: it begins on the 2nd, at 13:30 UTC."""

# CloudWatch returns at most 1,440 values: we ask for far fewer, whatever the age.
_TICK_PERIOD, _AUDIT_PERIOD = 60, 3600


# --- Shadow ---------------------------------------------------------------------------------------


def shadow(site: Site) -> Iterator[Finding]:
    """Whether the stage is a shadow, which sends users nothing."""
    if shadows.shadow_in(site.description or {}) == shadows.ON:
        yield fine("shadow", shadows.IS_ONE)


# --- Alarms ---------------------------------------------------------------------------------------


def alarms(site: Site) -> Iterator[Finding]:
    """Which alarms ring, and which would alert nobody."""
    pages = site.ask("cloudwatch").get_paginator("describe_alarms")
    found = [
        alarm
        for page in pages.paginate(AlarmNamePrefix=f"{site.stack}-")
        for alarm in page["MetricAlarms"]
    ]
    yield from judge_alarms(site, found)


def judge_alarms(site: Site, found: Sequence[Json]) -> Iterator[Finding]:
    """``found``: CloudWatch's description of each alarm."""
    ringing = [alarm for alarm in found if alarm["StateValue"] == "ALARM"]
    for alarm in ringing:
        meaning, _, section = alarm.get("AlarmDescription", "").partition(" See ")
        name = alarm["AlarmName"].removeprefix(f"{site.stack}-")
        since = format_instant(alarm["StateUpdatedTimestamp"])
        yield bad("alarms", f"{name} rings since {since}. {meaning}", section or RUNBOOK)
    silent = [alarm["AlarmName"] for alarm in found if not alarm.get("ActionsEnabled", True)]
    if silent:
        yield warning(
            "alarms",
            f"{plural(len(silent), 'alarm')} would tell nobody: {', '.join(silent)}",
            f"aws cloudwatch enable-alarm-actions --region {site.region} "
            f"--alarm-names {' '.join(silent)}",
        )
    if not found:
        yield warning("alarms", "the stack has none", site.make("deploy"))
    elif not ringing:
        yield fine("alarms", f"none of {len(found)} rings")


# --- Dead letters ---------------------------------------------------------------------------------


def dead_letters(site: Site) -> Iterator[Finding]:
    """Which messages failed for good and wait."""
    urls = [url for name, url in site.outputs.items() if name.endswith("DlqQueueUrl")]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = {}
    for url in urls:
        answer = site.ask("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
        queue = url.rpartition("/")[2].removeprefix(f"{site.stack}-").removesuffix("-dlq")
        counts[queue] = sum(int(answer["Attributes"][name]) for name in names)
    yield from judge_dead_letters(site, counts)


BACK_TO_NO_QUEUE = ("ledger-stream", "mail-events", "webhook")
"""Dead letters that come from no queue, and so cannot be moved back to one."""


def judge_dead_letters(site: Site, counts: dict[str, int]) -> Iterator[Finding]:
    """``counts``: how many messages wait behind each queue."""
    for queue, waiting in counts.items():
        if waiting:
            again = site.make("redrive", f"QUEUE={queue}")
            yield bad(
                "dead letters",
                f"{plural(waiting, 'message')} of {queue} failed for good",
                f"{RUNBOOK}#dead-letters"
                if queue in BACK_TO_NO_QUEUE
                else f"{again}; {RUNBOOK}#dead-letters",
            )
    if not any(counts.values()):
        yield fine("dead letters", f"none in {plural(len(counts), 'queue')}")


# --- Recipients of alarms -------------------------------------------------------------------------


def subscriptions(site: Site) -> Iterator[Finding]:
    """Whether anybody gets the alarms."""
    pages = site.ask("sns").get_paginator("list_subscriptions_by_topic")
    found = [
        subscription
        for page in pages.paginate(TopicArn=site.outputs["AlarmsTopicArn"])
        for subscription in page["Subscriptions"]
    ]
    yield from judge_subscriptions(site, found)


PENDING = "PendingConfirmation"
"""SNS's text in place of the ARN of a subscription that nobody has confirmed."""


def judge_subscriptions(site: Site, found: Sequence[Json]) -> Iterator[Finding]:
    """``found``: the subscriptions of the alarms' topic."""
    pending = [each for each in found if each["SubscriptionArn"] == PENDING]
    for each in pending:
        # The address of a pager may contain its key.
        whom = each["Endpoint"] if each["Protocol"] == "email" else each["Protocol"]
        yield site.needed(
            "alarm topic",
            f"{whom} has not confirmed, and hears no alarm",
            "Follow the link that AWS has sent there within 48 hours; after that, subscribe again: "
            "docs/deploying.md#6-mail-and-alarms",
        )
    if len(found) > len(pending):
        yield fine("alarm topic", f"{plural(len(found) - len(pending), 'subscription')} confirmed")
    elif not pending:
        yield site.needed(
            "alarm topic",
            "nobody has subscribed: alarms ring unheard",
            f"Set AlarmEmail under [{site.stage}] in infra/parameters.toml; {site.make('deploy')}",
        )


# --- Ticks and audits -----------------------------------------------------------------------------


def ticks(site: Site) -> Iterator[Finding]:
    """When the schedules last started their sweeps."""
    for name, metric in TICKS.items():
        counted = _statistics(site, metric, TICK_AGE * 6, _TICK_PERIOD)
        yield judge_tick(site, name, max((at for at, sum_ in counted if sum_), default=None))


def judge_tick(site: Site, name: str, last: datetime | None) -> Finding:
    """``last``: when the last tick was; None if no tick came for hours."""
    check = f"{name} tick"
    if last is not None and site.now - last <= TICK_AGE:
        return fine(check, f"the last was {_ago(site.now - last)}")
    if last is None and _is_newer(site, TICK_AGE):
        return fine(
            check, "none yet: the stack is new, and the first comes at the quarter of an hour"
        )
    said = "none for hours" if last is None else f"the last was {_ago(site.now - last)}"
    return bad(check, f"{said}, and one is due every 15 minutes", f"{RUNBOOK}#{name}-ticks")


def audit(site: Site) -> Iterator[Finding]:
    """When ledgers were last audited, and the result."""
    # A small stage writes only one metric of audits: the one that its alarm reads.
    found = _statistics(site, Metric.LEDGERS_CORRUPT, AUDIT_AGE * 3, _AUDIT_PERIOD)
    walked = dict(_statistics(site, Metric.LEDGERS_VERIFIED, AUDIT_AGE * 3, _AUDIT_PERIOD))
    at, corrupt = max(found, default=(None, 0.0))
    yield judge_audit(site, at, int(corrupt), int(walked.get(at, 0)) if at else 0)


def judge_audit(site: Site, last: datetime | None, corrupt: int, walked: int = 0) -> Finding:
    """``last``: the hour of the last audit; ``walked``: how many ledgers, 0 if unknown."""
    if corrupt:
        says = f"{plural(corrupt, 'ledger')} did not verify in the last audit"
        return bad("audit", says, f"{RUNBOOK}#ledger-corrupt")
    if last is not None and site.now - last <= AUDIT_AGE:
        of = f" of {walked:,}" if walked else ""
        return fine("audit", f"no ledger{of} was wrong {_ago(site.now - last)}")
    if last is None and _is_newer(site, AUDIT_AGE):
        return fine("audit", "none yet: the stack is new, and the first comes at 13:40 UTC")
    said = "none for days" if last is None else f"the last was {_ago(site.now - last)}"
    return bad(
        "audit",
        f"{said}, and one is due every day",
        f"Why: aws logs tail /aws/lambda/{site.stack}-audit-ledgers --since 2d --region "
        f"{site.region}; by hand: {site.make('verify', 'SAMPLE=1000')}",
    )


def _statistics(
    site: Site, metric: Metric, back: timedelta, period: int
) -> list[tuple[datetime, float]]:
    """The sums of a metric of the stage, each with the start of its period."""
    answer = site.ask("cloudwatch").get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=metric.value,
        Dimensions=[{"Name": "service", "Value": site.stack}],
        StartTime=site.now - back,
        EndTime=site.now,
        Period=period,
        Statistics=["Sum"],
    )
    return [(point["Timestamp"], point["Sum"]) for point in answer["Datapoints"]]


def _is_newer(site: Site, age: timedelta) -> bool:
    """Whether the stack is younger than ``age``."""
    return site.made_at is not None and site.now - site.made_at < age


def _ago(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 120:
        return f"{plural(max(minutes, 0), 'minute')} ago"
    hours = minutes // 60
    return f"{hours} hours ago" if hours < 48 else f"{hours // 24} days ago"


# --- Completeness ---------------------------------------------------------------------------------


def completeness(site: Site) -> Iterator[Finding]:
    """The result of the last count of a month, and of the month before if it was counted, too.

    The schedule counts the month before, too, if months of any plan begin on anniversaries.
    """
    due = counted_period(site.now)
    # Somebody may have counted a month that has just begun.
    for period in dict.fromkeys((period_at("UTC", site.now), due)):
        report = _last_report(site, period)
        if report is not None:
            counted, written, run = report
            yield judge_completeness(site, period, counted, written)
            before = _last_report(site, period.previous(), run)
            if before is not None:
                yield judge_completeness(site, period.previous(), *before[:2])
            return
    yield judge_no_count(site, due)


def counted_period(now: datetime) -> Period:
    """The last month whose scheduled count is over by now."""
    return period_at("UTC", now - COUNTED_ON)


def _last_report(
    site: Site, period: Period, run: str | None = None
) -> tuple[Json, datetime, str] | None:
    """The newest summary of a month, of any run or of one; when it was written; and its run."""
    client, bucket = site.ask("s3"), site.outputs["ReportsBucketName"]
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"completeness/{period}/" + (f"{run}/" if run else "")
    )
    summaries = [
        (found["LastModified"], found["Key"])
        for page in pages
        for found in page.get("Contents", ())
        if found["Key"].endswith("/summary.json")
    ]
    if not summaries:
        return None
    written, key = max(summaries)
    body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return json.loads(body), written, key.split("/")[-2]


def judge_completeness(site: Site, period: Period, report: Json, written: datetime) -> Finding:
    """``report``: the summary of a count, as the count writes it."""
    counted = f"{period}, counted {_ago(site.now - written)}"
    if report["complete"]:
        return fine("completeness", f"{counted}: all {report['due']:,} who were due were allocated")
    wrong = [
        f"{report[what]:,} {what}" for what in ("missing", "duplicate", "unchecked") if report[what]
    ]
    sections = {"missing": "allocations-missing", "duplicate": "allocations-duplicate"}
    section = next((name for what, name in sections.items() if report[what]), "timezone-unknown")
    return bad(
        "completeness",
        f"{counted}: {', '.join(wrong)} of {report['due']:,} who were due",
        f"{site.make('completeness', f'PERIOD={period}')}; {RUNBOOK}#{section}",
    )


def judge_no_count(site: Site, due: Period) -> Finding:
    """``due``: the month that should have been counted."""
    if site.made_at is not None and counted_period(site.made_at) >= due:
        return fine("completeness", "none yet: the first count comes on the 2nd, at 13:30 UTC")
    return bad(
        "completeness",
        f"{due} was not counted",
        f"Count it now: {site.make('completeness', f'PERIOD={due}')}",
    )
