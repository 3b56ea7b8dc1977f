"""What both a deployment and the doctor go by: what a stack takes, and what its state means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

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


def resources_of(cloudformation: Any, stack: str) -> Iterator[Json]:
    """What a stack has, as CloudFormation describes it; what a deletion left behind is not its."""
    pages = cloudformation.get_paginator("list_stack_resources")
    for page in pages.paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
                yield resource
