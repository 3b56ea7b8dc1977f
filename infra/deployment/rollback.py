"""Which alarms take a deployment back, and for how long they are watched."""

from __future__ import annotations

from typing import Any

from infra.deployment import alarms
from infra.deployment.stack_facts import Json, stack_name
from infra.terminal import Say

# For how many minutes after an update CloudFormation waits for an alarm that takes it back. In
# `prod` a little longer than the quarter of an hour in which everything has run once. The other
# stages are not waited for: their alarms take an update back only while it is being made.
MONITORING_MINUTES = {"prod": 20}

# Of a RollbackConfiguration: no alarm takes the change back. Without it, those of the last would.
UNWATCHED: Json = {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}


def rollback_on_alarms(cloudwatch: Any, stage: str, say: Say) -> dict[str, Any]:
    """The alarms that take an update back, as CloudFormation takes them.

    Those that do not exist yet are left out, which would fail the update, and those that ring
    already, which would take back the very update that is to end them.
    """
    prefix = f"{stack_name(stage)}-"
    found = cloudwatch.describe_alarms(
        AlarmNames=[prefix + name for name in alarms.ROLLBACK_ALARMS], AlarmTypes=["MetricAlarm"]
    )["MetricAlarms"]
    ringing = sorted(alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM")
    if ringing:
        say(f"Ringing already, so they will not take this deployment back: {', '.join(ringing)}")
    triggers = [
        {"Arn": alarm["AlarmArn"], "Type": "AWS::CloudWatch::Alarm"}
        for alarm in sorted(found, key=lambda alarm: str(alarm["AlarmName"]))
        if alarm["AlarmName"] not in ringing
    ]
    # Without triggers it would wait for nothing. An empty list forgets those of the last update.
    minutes = MONITORING_MINUTES.get(stage, 0) if triggers else 0
    return {"RollbackTriggers": triggers, "MonitoringTimeInMinutes": minutes}
