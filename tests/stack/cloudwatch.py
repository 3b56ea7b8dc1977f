"""In which state an alarm is, given its metric: what CloudWatch documents, and the emulator lacks.

The emulator keeps alarms, but takes all dimensions of a metric for one, treats no missing data, and
counts no periods. So the alarms are read from it, as they were deployed, and evaluated here. The
tables of CloudWatch's documentation are the tests of this file (test_alarms.py).
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# CloudWatch looks at more periods than it needs, so that a late value is not a missing one. Its
# documentation says how many for three periods only: five.
MORE_PERIODS = 2

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
}


@dataclass(frozen=True)
class Series:
    """What was published of one metric: values, and how many minutes ago."""

    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    values: Sequence[tuple[float, float]]


def state_of(alarm: Mapping[str, Any], published: Iterable[Series], before: str = "OK") -> str:
    """The state of an alarm, as `describe_alarms` has it; `before` is the one it was in."""
    dimensions = {item["Name"]: item["Value"] for item in alarm["Dimensions"]}
    values = [
        value
        for series in published
        if (series.namespace, series.metric) == (alarm["Namespace"], alarm["MetricName"])
        and series.dimensions == dimensions
        for value in series.values
    ]
    minutes = alarm["Period"] / 60
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    is_breached = COMPARISONS[alarm["ComparisonOperator"]]
    periods: list[bool | None] = []
    for period in reversed(range(alarm["EvaluationPeriods"] + MORE_PERIODS)):
        within = [v for ago, v in values if period * minutes <= ago < (period + 1) * minutes]
        periods.append(
            is_breached(_statistic(statistic, within), alarm["Threshold"]) if within else None
        )
    return evaluate(
        periods,
        needed=alarm["EvaluationPeriods"],
        to_alarm=alarm["DatapointsToAlarm"],
        missing=alarm["TreatMissingData"],
        before=before,
    )


def _statistic(name: str, values: list[float]) -> float:
    match name:
        case "Sum":
            return sum(values)
        case "Maximum":
            return max(values)
        case "Average":
            return sum(values) / len(values)
        case "p99":
            return sorted(values)[int(0.99 * (len(values) - 1))]
    raise AssertionError(f"no alarm is made of {name}")


def evaluate(
    periods: Sequence[bool | None], *, needed: int, to_alarm: int, missing: str, before: str
) -> str:
    """The state after the periods, oldest first: breached, not breached, or without data."""
    found = [period for period in periods if period is not None]
    if len(found) >= needed:
        return "ALARM" if sum(found[-needed:]) >= to_alarm else "OK"
    breached = sum(found)
    filled_in = needed - len(found) if missing == "breaching" else 0
    if breached + filled_in >= to_alarm:
        return "ALARM"
    if breached < len(found) or missing in ("breaching", "notBreaching"):
        return "OK"
    if missing == "ignore":
        return before
    is_old_enough = bool(found) and len(periods) - list(periods).index(True) >= to_alarm
    return "ALARM" if is_old_enough else "INSUFFICIENT_DATA"
