"""What the events of a CloudFormation stack say."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from infra.deployment.errors import ResourceFailure


def event_line(event: dict[str, Any]) -> str:
    """An event as it is shown."""
    moment: datetime = event["Timestamp"]
    line = (
        f"{moment:%H:%M:%S}  {event['ResourceStatus']:<28}  "
        f"{event['LogicalResourceId']} ({event['ResourceType']})"
    )
    reason = event.get("ResourceStatusReason")
    return f"{line}: {reason}" if reason else line


def _is_of_stack(event: dict[str, Any]) -> bool:
    """Whether an event is about the stack as a whole."""
    return bool(event.get("PhysicalResourceId") == event["StackId"])


def status_of_stack(event: dict[str, Any]) -> str:
    """What a stack came to by an event; empty for what is under way, and for its resources."""
    status: str = event["ResourceStatus"] if _is_of_stack(event) else ""
    return "" if status.endswith("_IN_PROGRESS") else status


def failure_in(event: dict[str, Any]) -> ResourceFailure | None:
    """The failure an event tells of, unless it is only the echo of an earlier one."""
    reason = event.get("ResourceStatusReason", "no reason given")
    if not event["ResourceStatus"].endswith("_FAILED") or _is_of_stack(event):
        return None
    # "Resource creation cancelled": because another one failed.
    if "cancelled" in reason:
        return None
    return ResourceFailure(
        logical_id=event["LogicalResourceId"],
        resource_type=event["ResourceType"],
        status=event["ResourceStatus"],
        reason=reason,
    )
