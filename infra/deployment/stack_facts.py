"""Facts that a deployment and the doctor share: required parameters, and the states of a stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from botocore.exceptions import ClientError

Json = dict[str, Any]

APP_NAME = "credits"

REQUIRED_PARAMETERS = ("TokenIssuer", "TokenAudience")
"""The required parameters: the template has no default for the issuer of tokens."""

_CREATION_FAILED = "its first creation failed"

UNMADE: Mapping[str, str] = {
    "CREATE_FAILED": _CREATION_FAILED,
    "ROLLBACK_COMPLETE": _CREATION_FAILED,
    "ROLLBACK_FAILED": _CREATION_FAILED,
    "DELETE_FAILED": "something of it could not be deleted",
}
"""The states in which a stack can only be deleted, and the cause of each."""


def stack_name(stage: str) -> str:
    """The name of a stage's stack."""
    return f"{APP_NAME}-{stage}"


def describe_stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """CloudFormation's description of a stack; None when there is no such stack."""
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    description: dict[str, Any] = stacks[0]
    return description


def is_under_way(description: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a stack is being changed. A stack in review is not being changed yet."""
    status = description["StackStatus"] if description else ""
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def resources_of(cloudformation: Any, stack: str) -> Iterator[Json]:
    """The resources of a stack, by CloudFormation; without those kept by a deletion."""
    pages = cloudformation.get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
                yield resource
