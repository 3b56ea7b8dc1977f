"""The errors of a deployment."""

from __future__ import annotations

from dataclasses import dataclass

from infra.session import AwsError


class DeployError(AwsError):
    """The deployment did not start or did not succeed; the message says why and what to do."""


@dataclass(frozen=True)
class ResourceFailure:
    """The first resource of a stack that CloudFormation could not create or change."""

    logical_id: str
    resource_type: str
    status: str
    reason: str

    def __str__(self) -> str:
        return f"{self.logical_id} ({self.resource_type}) {self.status}: {self.reason}"


class StackFailedError(DeployError):
    """CloudFormation could not create or change the stack, and rolled it back."""

    def __init__(self, stack: str, status: str, failure: ResourceFailure | None) -> None:
        cause = (
            f"The first resource that failed:\n  {failure}" if failure else "No resource failed."
        )
        super().__init__(f"Stack {stack} ended in {status}. {cause}")
        self.stack = stack
        self.status = status
        self.failure = failure
