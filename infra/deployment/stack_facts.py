"""What both a deployment and the doctor go by: what a stack takes, and what its state means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from botocore.exceptions import ClientError

Json = dict[str, Any]

APP_NAME = "credits"

REQUIRED_PARAMETERS = ("TokenIssuer", "TokenAudience")
"""What a stage must say: the template has no defaults for whose tokens the API takes."""

_CREATION_FAILED = "its first creation failed"

UNMADE: Mapping[str, str] = {
    "CREATE_FAILED": _CREATION_FAILED,
    "ROLLBACK_COMPLETE": _CREATION_FAILED,
    "ROLLBACK_FAILED": _CREATION_FAILED,
    "DELETE_FAILED": "something of it could not be deleted",
}
"""The states in which nothing but a deletion can be done with a stack, and what led to each."""


def stack_name(stage: str) -> str:
    """The name of a stage's stack."""
    return f"{APP_NAME}-{stage}"


def describe_stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """What CloudFormation says of a stack; None when there is no such stack."""
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    description: dict[str, Any] = stacks[0]
    return description


def is_under_way(description: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a stack is being changed. One that awaits a review is only about to be."""
    status = description["StackStatus"] if description else ""
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def resources_of(cloudformation: Any, stack: str) -> Iterator[Json]:
    """What a stack has, as CloudFormation describes it; what a deletion left behind is not its."""
    pages = cloudformation.get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
                yield resource
