"""Reads the events of a CloudFormation stack."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from infra.deployment.errors import ResourceFailure


def event_line(event: dict[str, Any]) -> str:
    """An event as a line for people."""
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
    """The status of the stack, if this event reports one; else an empty text."""
    return str(event["ResourceStatus"]) if _is_of_stack(event) else ""


def failure_in(event: dict[str, Any]) -> ResourceFailure | None:
    """The failure that an event reports, unless an earlier failure caused it."""
    reason = event.get("ResourceStatusReason", "no reason given")
    if not event["ResourceStatus"].endswith("_FAILED") or _is_of_stack(event):
        return None
    # "Resource creation cancelled" means that another resource failed.
    if "cancelled" in reason:
        return None
    return ResourceFailure(
        logical_id=event["LogicalResourceId"],
        resource_type=event["ResourceType"],
        status=event["ResourceStatus"],
        reason=reason,
    )
