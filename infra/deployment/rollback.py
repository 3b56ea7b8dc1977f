"""Which alarms roll a deployment back, and for how long they are watched."""

from __future__ import annotations

from typing import Any

from infra.deployment import alarms
from infra.deployment.stack_facts import Json, stack_name
from infra.terminal import Say

# For how many minutes after an update CloudFormation watches the alarms that roll it back. In
# `prod` it is a little longer than the quarter of an hour in which everything runs once. In the
# other stages alarms roll an update back only while it is being made.
MONITORING_MINUTES = {"prod": 20}

# A RollbackConfiguration without alarms. Without one, that of the last update would apply.
UNWATCHED: Json = {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}


def rollback_on_alarms(cloudwatch: Any, stage: str, say: Say) -> dict[str, Any]:
    """The alarms that roll an update back, in CloudFormation's form.

    Alarms that do not exist yet are left out, because they would fail the update. Alarms that ring
    already are left out, because they would roll back the very update that should end them.
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
    # Without triggers there is nothing to watch. An empty list removes those of the last update.
    minutes = MONITORING_MINUTES.get(stage, 0) if triggers else 0
    return {"RollbackTriggers": triggers, "MonitoringTimeInMinutes": minutes}
