"""Changes one CloudFormation stack, and watches it until the change has ended."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from infra.deployment import retained
from infra.deployment.errors import DeployError, ResourceFailure, StackFailedError
from infra.deployment.events import event_line, failure_in, status_of_stack
from infra.deployment.rollback import MONITORING_MINUTES, UNWATCHED
from infra.deployment.stack_facts import (
    APP_NAME,
    UNMADE,
    describe_stack,
    is_under_way,
    resources_of,
)
from infra.session import AwsError, UnreachableError, told
from infra.terminal import Confirm, Say

# How long computing a change set, and changing a stack, may take, in seconds.
CHANGE_SET_DEADLINE = 300.0
STACK_DEADLINE = 1800.0

# How long to retry when the network is lost while a stack is watched, in seconds.
NETWORK_PATIENCE = 120.0
_LONGEST_PAUSE = 3.0

# How long SQS keeps the name of a deleted queue, in seconds: AWS::SQS::Queue in the
# CloudFormation Template Reference. A queue made sooner fails, and its stack with it.
QUEUE_NAME_REST = 60.0

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")

# By the word of a change set. "Conditional": it depends on a value that is known during the update.
_REPLACEMENTS = {"True": "  REPLACES IT", "Conditional": "  MAY REPLACE IT"}

T = TypeVar("T")


@dataclass(frozen=True)
class Change:
    """One line of a change set."""

    action: str
    logical_id: str
    resource_type: str
    replacement: str

    def __str__(self) -> str:
        text = f"{self.action:<7} {self.logical_id} ({self.resource_type})"
        return text + _REPLACEMENTS.get(self.replacement, "")


class Stack:
    """One CloudFormation stack, changed through change sets."""

    def __init__(
        self, cloudformation: Any, name: str, region: str, say: Say, say_detail: Say
    ) -> None:
        self._cloudformation = cloudformation
        self._name = name
        self._region = region
        self._say = say
        self._say_detail = say_detail

    def apply(
        self,
        template_url: str,
        parameters: dict[str, str],
        rollback: dict[str, Any],
        confirm: Confirm,
    ) -> bool:
        """Bring the stack to the template; return whether that changed anything.

        `rollback` is a RollbackConfiguration, only for updates: a stack under creation has no
        alarms yet.
        """
        exists = self._exists()
        only_for_updates = {"RollbackConfiguration": rollback} if exists else {}
        change_set = self._create_change_set(
            "UPDATE" if exists else "CREATE",
            TemplateURL=template_url,
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=CAPABILITIES,
            Tags=[{"Key": "app", "Value": APP_NAME}],
            **only_for_updates,
        )
        minutes = rollback["MonitoringTimeInMinutes"] if exists else 0
        return self._carry_out(change_set, confirm, exists=exists, minutes=minutes)

    def change_parameters(self, changed: Mapping[str, str], confirm: Confirm) -> bool:
        """Change some parameters and nothing else; return whether that changed anything.

        No alarm rolls it back.
        """
        description = describe_stack(self._cloudformation, self._name) or {}
        names = [each["ParameterKey"] for each in description.get("Parameters", ())]
        change_set = self._create_change_set(
            "UPDATE",
            UsePreviousTemplate=True,
            Parameters=[
                {"ParameterKey": name, "ParameterValue": changed[name]}
                if name in changed
                else {"ParameterKey": name, "UsePreviousValue": True}
                for name in names
            ],
            Capabilities=CAPABILITIES,
            RollbackConfiguration=UNWATCHED,
        )
        return self._carry_out(change_set, confirm, exists=True, minutes=0)

    def _carry_out(self, change_set: str, confirm: Confirm, *, exists: bool, minutes: int) -> bool:
        """Shows the changes, asks, and makes them; returns whether there were any.

        `minutes`: for how long alarms are watched afterwards.
        """
        changes = self._changes(change_set)
        if changes is None:
            self._cloudformation.delete_change_set(**self._named(change_set))
            self._say(f"No changes: stack {self._name} is up to date.")
            return False
        self._say(f"Changing stack {self._name}: {len(changes)} resources ...")
        for change in changes:
            self._say_detail(f"  {change}")
        if not confirm():
            self._discard(change_set, exists=exists)
            raise DeployError("Not deployed: the changes were declined and none of them was made.")
        if minutes:
            self._say(f"Watched for {minutes} minutes after that; Ctrl-C ends nothing but this.")
        self._execute(change_set, deadline=STACK_DEADLINE + 60 * minutes)
        return True

    def wait_for_what_is_under_way(self) -> None:
        """Watches a deployment that an earlier command began, until it ends.

        Reports its result; this deployment goes on from there.
        """
        description = describe_stack(self._cloudformation, self._name)
        if not is_under_way(description):
            return
        self._say(f"Stack {self._name} is {description['StackStatus']}: waiting for it to end ...")
        seen = self._newest_events()
        failure: ResourceFailure | None = None

        def look() -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
            found = describe_stack(self._cloudformation, self._name)
            return found, self._new_events(seen, self._name) if found else []

        deadline = STACK_DEADLINE + 60 * max(MONITORING_MINUTES.values())
        with self._under_way():
            for description, events in self._poll(
                look, deadline=deadline, what=f"stack {self._name}"
            ):
                told_of = self._tell(events)
                failure = failure or told_of
                if not is_under_way(description):
                    break
        status = description["StackStatus"] if description else "DELETE_COMPLETE"
        self._say(f"It ended in {status}." + (f" What failed first: {failure}" if failure else ""))

    def make_way(self, confirm: Confirm) -> bool:
        """Whether the stack exists and can be changed.

        Removes a stack whose creation or deletion failed: nothing else can be done with it. The
        resources that it retains stay. Asks `confirm` if the stack has any resources.
        """
        description = describe_stack(self._cloudformation, self._name)
        status = description["StackStatus"] if description else ""
        if description and status in UNMADE:
            self._remove(description, confirm)
            return False
        if is_under_way(description):
            raise DeployError(
                f"Stack {self._name} is {status}: wait for it to end, then try again."
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise DeployError(
                f"Stack {self._name} is {status}: an update could not be taken back. Mend what its "
                "events name, then deploy again after this:\n  aws cloudformation "
                f"continue-update-rollback --stack-name {self._name} --region {self._region}"
            )
        return self._exists()

    def take_over(self, stage: str, found: list[retained.Leftover], confirm: Confirm) -> None:
        """Make the stack from the resources in `found`: an import, which changes none of them."""
        if not found:
            return
        self._say(f"What an earlier stack {self._name} left is taken over, with all that is in it:")
        for each in found:
            self._say(f"  {each}")
        if not confirm():
            raise DeployError("Not deployed: this was declined and nothing was changed.")
        change_set = self._create_change_set(
            "IMPORT",
            TemplateBody=json.dumps(retained.import_template(found)),
            Parameters=[{"ParameterKey": "Stage", "ParameterValue": stage}],
            ResourcesToImport=retained.resources_to_import(found),
        )
        self._changes(change_set)
        self._execute(change_set, deadline=STACK_DEADLINE)

    def resources(self) -> dict[str, str]:
        """The types of the stack's resources, by their logical ids."""
        if not self._exists():
            return {}
        return {
            resource["LogicalResourceId"]: resource["ResourceType"]
            for resource in resources_of(self._cloudformation, self._name)
        }

    def _exists(self) -> bool:
        """Whether the stack exists. A stack in review does not exist yet."""
        description = describe_stack(self._cloudformation, self._name)
        return description is not None and description["StackStatus"] != "REVIEW_IN_PROGRESS"

    def _remove(self, description: dict[str, Any], confirm: Confirm) -> None:
        what = "deletion" if description["StackStatus"] == "DELETE_FAILED" else "first creation"
        self._say(f"Removing stack {self._name}, whose {what} failed ...")
        left = self.resources()
        for logical_id, resource_type in left.items():
            self._say_detail(f"  Remove  {logical_id} ({resource_type}), or leave it if it is kept")
        if left and not confirm():
            raise DeployError("Not deployed: this was declined and nothing was changed.")
        seen = self._newest_events()
        self._cloudformation.delete_stack(StackName=self._name)
        # By its id: a removed stack has no name.
        status, failure = self._watch(seen, deadline=STACK_DEADLINE, stack=description["StackId"])
        if status != "DELETE_COMPLETE":
            raise StackFailedError(self._name, status, failure)
        self._wait_for_queue_names(description["StackId"])

    def _wait_for_queue_names(self, stack: str) -> None:
        """Wait until SQS frees the names of the queues of a removed stack."""
        deleted_at = next(
            (
                event["Timestamp"]
                for page in self._pages_of_events(stack)
                for event in page
                if event["ResourceType"] == "AWS::SQS::Queue"
                and event["ResourceStatus"] == "DELETE_COMPLETE"
            ),
            None,
        )
        if deleted_at is None:
            return
        rest = QUEUE_NAME_REST - (datetime.now(UTC) - deleted_at).total_seconds()
        if rest > 0:
            rest = min(rest, QUEUE_NAME_REST)  # this machine's clock may be wrong
            self._say(f"Waiting {rest:.0f} s: SQS keeps the names of deleted queues for a minute.")
            time.sleep(rest)

    def _create_change_set(self, kind: str, **settings: Any) -> str:
        name = f"deploy-{int(time.time() * 1000)}-{secrets.token_hex(4)}"
        answer = self._cloudformation.create_change_set(
            StackName=self._name,
            ChangeSetName=name,
            # If the answer is lost, the SDK sends again. By this token AWS recognises the request.
            ClientToken=name,
            ChangeSetType=kind,
            **settings,
        )
        change_set: str = answer["Id"]
        return change_set

    def _named(self, change_set: str) -> dict[str, str]:
        """A change set and its stack: the right to a change set is bound to its stack."""
        return {"StackName": self._name, "ChangeSetName": change_set}

    def _changes(self, change_set: str) -> list[Change] | None:
        """Waits for the changes to be computed; an empty list if there is nothing to change."""
        for description in self._poll(
            lambda: self._cloudformation.describe_change_set(**self._named(change_set)),
            deadline=CHANGE_SET_DEADLINE,
            what=f"the change set of stack {self._name}",
        ):
            if description["Status"] == "FAILED":
                reason = description.get("StatusReason", "no reason given")
                if any(text in reason for text in _NO_CHANGES):
                    return None
                raise DeployError(f"CloudFormation refused the template: {reason}")
            if description["Status"] == "CREATE_COMPLETE":
                break
        pages = self._cloudformation.get_paginator("describe_change_set")
        return [
            Change(
                action=change["ResourceChange"]["Action"],
                logical_id=change["ResourceChange"]["LogicalResourceId"],
                resource_type=change["ResourceChange"]["ResourceType"],
                replacement=change["ResourceChange"].get("Replacement", "False"),
            )
            for page in pages.paginate(**self._named(change_set))
            for change in page["Changes"]
        ]

    def _discard(self, change_set: str, *, exists: bool) -> None:
        self._cloudformation.delete_change_set(**self._named(change_set))
        if not exists:
            self._cloudformation.delete_stack(StackName=self._name)

    def _execute(self, change_set: str, *, deadline: float) -> None:
        seen = self._newest_events()
        try:
            with told():
                self._cloudformation.execute_change_set(
                    **self._named(change_set), ClientRequestToken=secrets.token_hex(8)
                )
        except UnreachableError as error:
            raise DeployError(
                f"{error}\nIt is not known whether AWS has begun to change stack {self._name}. "
                f"{self._how_to_go_on()}"
            ) from error
        status, failure = self._watch(seen, deadline=deadline, stack=self._name)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            raise StackFailedError(self._name, status, failure)

    def _watch(
        self, seen: set[str], *, deadline: float, stack: str
    ) -> tuple[str, ResourceFailure | None]:
        """Reports a stack's events until the change ends; returns the status and the first failure.

        The stack's own events say when it ends. Its status does not help: for a moment it is still
        that of the previous deployment.
        """
        failure: ResourceFailure | None = None
        with self._under_way():
            for events in self._poll(
                lambda: self._new_events(seen, stack), deadline=deadline, what=f"stack {self._name}"
            ):
                told_of = self._tell(events)
                failure = failure or told_of
                for status in map(status_of_stack, events):
                    if status.endswith("_COMPLETE") or self._stays_failed(status):
                        return status, failure
        raise AssertionError("a stack is polled until it has ended, or an error ends that")

    def _tell(self, events: list[dict[str, Any]]) -> ResourceFailure | None:
        """Reports some events; returns the first failure among them."""
        for event in events:
            self._say_detail(f"  {event_line(event)}")
        return next(filter(None, map(failure_in, events)), None)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Makes every error say that the deployment goes on in AWS without this command."""
        try:
            with told():
                yield
        except AwsError as error:
            raise DeployError(
                f"{error}\nThe deployment of stack {self._name} goes on in AWS all the same. "
                f"{self._how_to_go_on()}"
            ) from error

    def _how_to_go_on(self) -> str:
        return (
            "Run the same command again: it waits for what is under way, and goes on from there. "
            "To look at it without:\n  aws cloudformation describe-stack-events "
            f"--stack-name {self._name} --region {self._region} --max-items 20"
        )

    def _stays_failed(self, status: str) -> bool:
        """Whether a failed stack keeps its state: a rollback may follow CREATE_FAILED."""
        if not status.endswith("_FAILED"):
            return False
        description = describe_stack(self._cloudformation, self._name)
        return description is None or description["StackStatus"] == status

    def _newest_events(self) -> set[str]:
        """The ids of the newest page of events."""
        return {event["EventId"] for event in next(self._pages_of_events(self._name))}

    def _new_events(self, seen: set[str], stack: str) -> list[dict[str, Any]]:
        """The events not seen before, oldest first.

        CloudFormation returns the whole history of a stack, newest first. The loop stops at the
        first page with an event that was seen before.
        """
        new: dict[str, dict[str, Any]] = {}  # by id: while pages are read, events move down
        for page in self._pages_of_events(stack):
            known = [place for place, event in enumerate(page) if event["EventId"] in seen]
            # A late event may come between events already seen, but never behind all of them.
            ahead = page[: known[-1]] if known else page
            new |= {event["EventId"]: event for event in ahead if event["EventId"] not in seen}
            if known:
                break
        seen.update(new)
        return [*new.values()][::-1]

    def _pages_of_events(self, stack: str) -> Iterator[list[dict[str, Any]]]:
        pages = self._cloudformation.get_paginator("describe_stack_events")
        for page in pages.paginate(StackName=stack):
            yield page["StackEvents"]

    def _poll(self, ask: Callable[[], T], *, deadline: float, what: str) -> Iterator[T]:
        """Ask again and again, a little less often each time, until the caller stops.

        When the network is lost, it keeps trying for a limited time.
        """
        end = time.monotonic() + deadline
        pause = 0.1
        lost_at: float | None = None
        while time.monotonic() < end:
            try:
                with told():
                    answer = ask()
            except UnreachableError as error:
                if lost_at is None:
                    lost_at = time.monotonic()
                    self._say(f"{error}\nTrying again for {NETWORK_PATIENCE:.0f} s ...")
                if time.monotonic() - lost_at > NETWORK_PATIENCE:
                    raise
            else:
                lost_at = None
                yield answer
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads requests, guards nothing
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        raise DeployError(f"Waited {deadline:.0f} s for {what}, in vain.")
