"""The stage to examine, in an account and a region, and clients for reading its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from chalicelib.settings import LOCAL_STAGE
from infra.doctor.finding import Finding, bad, warning
from infra.doctor.resolver import resolve
from infra.session import AwsError, ClientFactory, Session

Json = dict[str, Any]

Resolve = Callable[[str, str], list[str]]
"""Finds the DNS entries of a name and a type; may be empty. Raises `DNSException`."""

QUICK: Mapping[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
"""How long AWS may take to answer a question of the doctor."""

TRIALS = (LOCAL_STAGE, "dev")
"""The stages without users."""

_ABSENT = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
"""AWS's codes for missing things: each service spells them differently."""


@dataclass(frozen=True)
class Site:
    """A stage, its present or future place, and the parameters of its deployment.

    ``place`` is the account and the region, in words.
    """

    stage: str
    stack: str
    account: str
    region: str
    place: str
    parameters: Mapping[str, str]
    client: ClientFactory
    now: datetime
    resolve: Resolve = resolve
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def of(cls, stage: str, stack: str, parameters: Mapping[str, str], aws: Session) -> Site:
        """A stage in an account and a region of AWS."""
        return cls(
            stage, stack, aws.account, aws.region.name, str(aws), parameters, aws.client, _now()
        )

    @classmethod
    def without_account(cls, stage: str, stack: str, parameters: Mapping[str, str]) -> Site:
        """A stage without access to AWS: only checks outside AWS are possible."""

        def client(service: str, **_: Any) -> NoReturn:
            raise AwsError(f"There is no account to ask about {service}.")

        return cls(stage, stack, "", "", "no account", parameters, client, _now())

    @property
    def is_local(self) -> bool:
        """Whether the stage is on this machine."""
        return self.stage == LOCAL_STAGE

    def ask(self, service: str) -> Any:
        """A client for a service, with short timeouts. Checks run side by side and share it."""
        # Threads may share botocore's clients, but not the sessions that make them.
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self.client(service, **QUICK)
            return self._clients[service]

    @cached_property
    def description(self) -> Json | None:
        """CloudFormation's description of the stack; None if it does not exist."""
        answer = found(lambda: self.ask("cloudformation").describe_stacks(StackName=self.stack))
        return answer["Stacks"][0] if answer else None

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        items = (self.description or {}).get("Outputs", [])
        return {item["OutputKey"]: item["OutputValue"] for item in items}

    @property
    def made_at(self) -> datetime | None:
        """When the stack was created; None if it does not exist."""
        return (self.description or {}).get("CreationTime")

    def make(self, target: str, words: str = "") -> str:
        """A `make` command for this stage."""
        stage = "" if self.is_local else f" STAGE={self.stage}"
        return f"make {target}{stage}{' ' if words else ''}{words}"

    def needed(self, check: str, says: str, fix: str, *, stops: bool = False) -> Finding:
        """A finding about something that users would miss; without users, only a warning."""
        if self.stage in TRIALS:
            return warning(check, says, fix)
        return bad(check, says, fix, stops=stops)


def found(call: Callable[[], Json]) -> Json | None:
    """AWS's answer; None if it says that the thing does not exist."""
    try:
        return call()
    except ClientError as error:
        # CloudFormation has no separate code for a missing stack.
        if error.response["Error"]["Code"] in _ABSENT or "does not exist" in str(error):
            return None
        raise


def _now() -> datetime:
    return datetime.now(UTC)
