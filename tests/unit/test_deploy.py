"""Deploying, against a CloudFormation that answers as the test says."""

import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import botocore.session
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib.api.lanes import LANES
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.plans_file import parse_catalogue
from chalicelib.settings import Settings
from infra import terminal
from infra.commands import deploy as command
from infra.deployment import (
    alarms,
    caller_limits,
    deploy,
    packaging,
    plan_changes,
    retained,
    rollback,
    shadows,
    stack,
)
from infra.deployment.deployed import describe
from infra.deployment.errors import DeployError, StackFailedError
from infra.deployment.events import event_line, failure_in
from infra.deployment.parameters import check_parameters, parameters_of
from infra.deployment.stack import NETWORK_PATIENCE
from infra.deployment.stack_facts import describe_stack
from infra.deployment.stage_services import StageServices, settings_of
from infra.local import emulator, stacks
from infra.local.services import services_of_local
from infra.session import AwsError

PARAMETERS = {"TokenIssuer": "https://issuer.example.com", "TokenAudience": "credits"}
STACK_ID = "arn:aws:cloudformation:eu-west-1:000000000000:stack/credits-prod/1"
ARTIFACTS = "credits-artifacts-000000000000-eu-west-1"
FUNCTION: dict[str, Any] = {"Type": "AWS::Serverless::Function", "Properties": {}}


def event(number: int, name: str, status: str, reason: str = "") -> dict[str, Any]:
    is_stack = name == "credits-prod"
    return {
        "EventId": str(number),
        "StackId": STACK_ID,
        "PhysicalResourceId": STACK_ID if is_stack else name,
        "LogicalResourceId": name,
        "ResourceType": "AWS::CloudFormation::Stack" if is_stack else "AWS::SQS::Queue",
        "ResourceStatus": status,
        "Timestamp": datetime(2026, 11, 23, tzinfo=UTC),
        **({"ResourceStatusReason": reason} if reason else {}),
    }


def packager(
    stage: str, region: str, resources: Mapping[str, Any] | None = None, code: bytes = b"code"
) -> Callable[..., packaging.Package]:
    """Packages these resources, and only for this stage and region."""

    wanted = stage, region

    def make_package(stage: str, output: Path, /, *, region: str) -> packaging.Package:
        assert (stage, region) == wanted
        archive = output / "credits.zip"
        archive.write_bytes(code)
        return packaging.Package(template={"Resources": dict(resources or {})}, archive=archive)

    return make_package


@dataclass
class Aws:
    """An account with one stack, `credits-prod`, which becomes what `events` say."""

    status: str | None = "UPDATE_COMPLETE"
    events: list[dict[str, Any]] = field(
        default_factory=lambda: [event(1, "credits-prod", "UPDATE_COMPLETE")]
    )
    alarm_states: dict[str, str] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    sent_to_execute: dict[str, Any] = field(default_factory=dict)
    executed: bool = False
    deleted: bool = False
    # What a deletion comes to, and what it would be of.
    deletion: str = "DELETE_COMPLETE"
    resources: list[str] = field(default_factory=list)
    code: str | None = None
    uploaded: bool = False
    # What the last deployments left, newest first, and how many events a page of them has.
    history: list[dict[str, Any]] = field(default_factory=list)
    page: int = 100
    pages_read: int = 0
    # What the network does at each request from the execution on: an error, or nothing.
    network: list[Exception | None] = field(default_factory=list)
    has_changed: bool | None = None

    meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")

    def client(self, _service: str) -> Any:
        return self

    def get_caller_identity(self) -> dict[str, Any]:
        return {"Account": "000000000000"}

    def head_bucket(self, **_: Any) -> None: ...

    def head_object(self, **_: Any) -> None: ...

    def put_object(self, **_: Any) -> None:
        self.uploaded = True

    def get_function(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "credits-prod-allocate-accounts"
        if self.code is None:
            error = {"Error": {"Code": "ResourceNotFoundException", "Message": "there is none"}}
            raise ClientError(error, "GetFunction")  # type: ignore[arg-type]
        return {"Code": {"Location": self.code}}

    def describe_alarms(self, AlarmNames: list[str], AlarmTypes: list[str]) -> dict[str, Any]:  # noqa: N803
        assert AlarmTypes == ["MetricAlarm"]
        assert len(AlarmNames) <= 5
        return {
            "MetricAlarms": [
                {
                    "AlarmName": name,
                    "AlarmArn": f"arn:{name}",
                    "StateValue": self.alarm_states[name],
                }
                for name in AlarmNames
                if name in self.alarm_states
            ]
        }

    def reach(self) -> None:
        """Raises what the network does now; the last of it lasts."""
        if self.network:
            error = self.network[0] if len(self.network) == 1 else self.network.pop(0)
            if error is not None:
                raise error

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        if self.status is None:
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": "credits-prod does not exist"}},
                "DescribeStacks",
            )
        status = self.events[-1]["ResourceStatus"] if self.executed else self.status
        outputs = {"RestAPIId": "1", "EndpointURL": "https://api.example.com/v1/"}
        listed = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        return {"Stacks": [{"StackId": STACK_ID, "StackStatus": status, "Outputs": listed}]}

    def delete_stack(self, **_: Any) -> None:
        self.deleted = True
        self.history.insert(0, event(0, "credits-prod", self.deletion))
        self.status = None if self.deletion == "DELETE_COMPLETE" else self.deletion

    def create_change_set(self, **sent: Any) -> dict[str, Any]:
        self.sent = sent
        return {"Id": "1"}

    def describe_change_set(self, **_: Any) -> dict[str, Any]:
        return {"Status": "CREATE_COMPLETE"}

    def execute_change_set(self, **sent: Any) -> None:
        self.sent_to_execute = sent
        self.executed = True
        self.status = self.status or "CREATE_IN_PROGRESS"

    def get_paginator(self, name: str) -> Any:
        def paginate(**_: Any) -> Iterator[dict[str, Any]]:
            if name == "describe_change_set":
                yield {"Changes": []}
                return
            if name == "list_stack_resources":
                made = {"ResourceType": "AWS::SQS::Queue", "ResourceStatus": "CREATE_COMPLETE"}
                for each in self.resources:  # one a page
                    yield {"StackResourceSummaries": [{"LogicalResourceId": each} | made]}
                return
            if self.executed:
                self.reach()
            found = (self.events[::-1] if self.executed else []) + self.history
            for first in range(0, max(len(found), 1), self.page):
                self.pages_read += 1
                yield {"StackEvents": found[first : first + self.page]}

        return SimpleNamespace(paginate=paginate)

    def deploy(
        self,
        say_detail: terminal.Say = terminal.say_nothing,
        confirm: terminal.Confirm = terminal.agree,
    ) -> list[str]:
        """Deploys to it; what was said."""

        said: list[str] = []
        deployed = deploy.deploy(
            "prod",
            self.client,
            region="eu-west-1",
            parameters=PARAMETERS,
            say=said.append,
            say_detail=say_detail,
            confirm=confirm,
            make_package=packager("prod", "eu-west-1", {"Api": FUNCTION}),
        )
        self.has_changed = deployed.changed
        return said


def agreeing(asked: list[Any], what: Callable[[], Any]) -> terminal.Confirm:
    """Agrees each time, and keeps what was so when it was asked."""

    def confirm() -> bool:
        asked.append(what())
        return True

    return confirm


class Clock:
    """A clock that passes only while something sleeps; it cuts off who sleeps for ever."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 24 * 3600, "this has no bound"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("infra.deployment.stack.time", clock)
    return clock


def test_a_stack_that_stays_failed_ends_the_deployment_at_once_with_the_failure() -> None:
    aws = Aws(
        status=None,
        events=[
            event(1, "SweepsQueue", "CREATE_FAILED", "there is one of that name"),
            event(2, "credits-prod", "CREATE_FAILED", "SweepsQueue failed"),
        ],
    )
    with pytest.raises(StackFailedError, match=r"SweepsQueue .* there is one") as failed:
        aws.deploy()
    assert failed.value.status == "CREATE_FAILED"


def test_a_stack_that_failed_and_is_gone_ends_the_deployment_at_once(clock: Clock) -> None:
    class Gone(Aws):
        def execute_change_set(self, **sent: Any) -> None:
            super().execute_change_set(**sent)
            self.status = None

    with pytest.raises(StackFailedError, match="ended in UPDATE_FAILED"):
        Gone(events=[event(1, "credits-prod", "UPDATE_FAILED")]).deploy()
    assert clock.now < 60


def test_an_update_is_over_only_when_what_it_replaced_is_removed() -> None:
    aws = Aws(events=[event(1, "credits-prod", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")])
    aws.events.append(event(2, "credits-prod", "UPDATE_COMPLETE"))
    aws.deploy()
    assert aws.has_changed


@pytest.mark.parametrize("status", ["CREATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS"])
def test_an_event_is_a_line_with_its_reason_if_it_has_one(status: str) -> None:
    line = f"00:00:00  {status:<28}  Sweeps (AWS::SQS::Queue)"
    assert event_line(event(1, "Sweeps", status)) == line
    assert event_line(event(1, "Sweeps", status, "[Mails] failed")) == f"{line}: [Mails] failed"


def test_a_stack_that_failed_and_is_then_rolled_back_is_waited_for() -> None:
    aws = Aws(
        status=None,
        events=[
            event(1, "credits-prod", "CREATE_FAILED", "1 error"),
            event(2, "credits-prod", "ROLLBACK_IN_PROGRESS"),
            event(3, "credits-prod", "ROLLBACK_COMPLETE"),
        ],
    )
    with pytest.raises(StackFailedError) as failed:
        aws.deploy()
    assert failed.value.status == "ROLLBACK_COMPLETE"
    assert str(failed.value).endswith("ROLLBACK_COMPLETE. No resource failed.")


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ("CREATE_FAILED", "first creation"),
        ("ROLLBACK_COMPLETE", "first creation"),
        ("ROLLBACK_FAILED", "first creation"),
        ("DELETE_FAILED", "deletion"),
    ],
)
def test_a_stack_that_was_never_made_or_is_half_gone_is_removed_before_the_next_deployment(
    status: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = Aws(status=status, events=[event(1, "credits-prod", "CREATE_COMPLETE")])
    asked: list[bool] = []
    leftovers = Mock(return_value=[])
    monkeypatch.setattr(retained, "leftovers", leftovers)
    said = aws.deploy(confirm=agreeing(asked, lambda: aws.deleted))
    assert asked == [True], "nothing is left, so only the changes are asked about"
    assert f"Removing stack credits-prod, whose {what} failed ..." in said
    assert aws.deleted
    assert leftovers.call_count == 1, "what it kept has to be taken over"
    assert aws.sent["ChangeSetType"] == "CREATE"


@pytest.mark.parametrize(("seconds_ago", "waited"), [(20, 40), (61, 0), (-300, 60)])
def test_a_queue_is_made_anew_when_its_name_has_rested_for_a_minute(
    clock: Clock, seconds_ago: int, waited: int
) -> None:
    """SQS refuses it before, and the creation would fail once more. A clock may be wrong."""
    deleted_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    aws = Aws(
        status="ROLLBACK_COMPLETE",
        history=[
            event(-3, "Sweeps", "DELETE_IN_PROGRESS") | {"Timestamp": datetime.now(UTC)},
            event(-1, "Sweeps", "DELETE_COMPLETE") | {"Timestamp": deleted_at},
            event(-2, "Allocations", "DELETE_COMPLETE"),
        ],
        events=[event(1, "credits-prod", "CREATE_COMPLETE")],
    )
    said = aws.deploy()
    assert waited - 5 <= clock.now <= waited + 1
    assert any(line.startswith("Waiting") for line in said) == bool(waited)


def test_an_update_that_could_not_be_taken_back_is_named_with_what_to_type() -> None:
    aws = Aws(status="UPDATE_ROLLBACK_FAILED")
    with pytest.raises(DeployError) as refused:
        aws.deploy()
    command = "continue-update-rollback --stack-name credits-prod --region eu-west-1"
    assert command in str(refused.value)
    assert not aws.deleted
    assert not aws.sent


def test_what_is_left_of_a_stack_is_shown_and_removed_only_when_that_is_confirmed() -> None:
    aws = Aws(status="ROLLBACK_FAILED", resources=["SweepsQueue"])
    details: list[str] = []
    with pytest.raises(DeployError, match="nothing was changed"):
        aws.deploy(details.append, confirm=lambda: False)
    (line,) = details
    assert "SweepsQueue (AWS::SQS::Queue)" in line
    assert not aws.deleted


def test_what_keeps_a_stack_from_being_removed_is_named() -> None:
    aws = Aws(
        status="DELETE_FAILED",
        history=[event(-1, "ReportsBucket", "DELETE_FAILED", "it was not empty then")],
        deletion="DELETE_FAILED",
    )
    delete = aws.delete_stack

    def fail(**given: Any) -> None:
        delete(**given)
        aws.history.insert(1, event(-2, "ReportsBucket", "DELETE_FAILED", "it is not empty"))

    aws.delete_stack = fail  # type: ignore[method-assign]
    with pytest.raises(StackFailedError, match=r"ReportsBucket .*: it is not empty$"):
        aws.deploy()
    assert not aws.sent


def test_a_request_that_the_sdk_sends_again_is_known_to_be_the_same() -> None:
    """Otherwise a lost answer would be followed by the refusal of a second change set."""
    tokens = []
    for _ in range(2):
        aws = Aws()
        aws.deploy()
        tokens += [aws.sent["ClientToken"], aws.sent_to_execute["ClientRequestToken"]]
    assert aws.sent["ClientToken"] == aws.sent["ChangeSetName"]
    assert len({*tokens}) == 4
    assert all(re.fullmatch("[A-Za-z0-9][-A-Za-z0-9]{0,127}", token) for token in tokens)


def test_an_update_is_taken_back_by_the_alarms_that_exist_and_are_silent() -> None:
    aws = Aws(
        alarm_states={
            "credits-prod-api-5xx": "OK",
            "credits-prod-api-latency": "ALARM",
            "credits-prod-function-errors-queue-notifications": "OK",
            "credits-prod-function-errors-sweep-zone": "INSUFFICIENT_DATA",
            "credits-prod-dead-letters-sweeps": "OK",
        }
    )
    said = aws.deploy()
    assert aws.sent["RollbackConfiguration"] == {
        "RollbackTriggers": [
            {"Arn": f"arn:credits-prod-{name}", "Type": "AWS::CloudWatch::Alarm"}
            for name in (
                "api-5xx",
                "function-errors-queue-notifications",
                "function-errors-sweep-zone",
            )
        ],
        "MonitoringTimeInMinutes": 20,
    }
    (ringing,) = [line for line in said if "Ringing already" in line]
    assert ringing.endswith(": credits-prod-api-latency")
    assert "Watched for 20 minutes after that; Ctrl-C ends nothing but this." in said
    # Alarms take an update of a trial back only while it is being made.
    errors = [f"credits-dev-function-errors-{it}" for it in ("queue-notifications", "sweep-zone")]
    dev = Aws(alarm_states=dict.fromkeys(errors, "ALARM") | {"credits-dev-api-5xx": "OK"})
    trial = rollback.rollback_on_alarms(dev, "dev", said.append)
    assert said[-1].endswith(f": {', '.join(errors)}")
    assert [len(trial["RollbackTriggers"]), trial["MonitoringTimeInMinutes"]] == [1, 0]


def test_an_update_that_no_alarm_watches_waits_for_nothing_and_forgets_earlier_alarms() -> None:
    aws = Aws(alarm_states={f"credits-prod-{name}": "ALARM" for name in alarms.ROLLBACK_ALARMS})
    aws.deploy()
    nothing = {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}
    assert aws.sent["RollbackConfiguration"] == nothing


def test_what_is_created_is_watched_by_no_alarm_for_there_are_none_yet() -> None:
    left_behind = {"credits-prod-api-5xx": "OK"}
    created = [event(1, "credits-prod", "CREATE_COMPLETE")]
    aws = Aws(status=None, events=created, alarm_states=left_behind)
    said = aws.deploy()
    assert "RollbackConfiguration" not in aws.sent
    assert not [line for line in said if "Watched" in line]


# --- While AWS is at it -------------------------------------------------------------------------

NO_NETWORK = EndpointConnectionError(endpoint_url="https://cloudformation.eu-west-1.amazonaws.com/")
GOES_ON = "The deployment of stack credits-prod goes on in AWS all the same"
LOOK = (
    "aws cloudformation describe-stack-events --stack-name credits-prod --region eu-west-1 "
    "--max-items 20"
)


def test_of_a_stacks_events_only_those_not_seen_yet_are_read() -> None:
    """A stack keeps the events of all its deployments; this one's are at the top."""
    aws = Aws(history=[event(-n, "SweepsQueue", "UPDATE_COMPLETE") for n in range(1, 2_000)])
    aws.deploy()
    assert aws.pages_read == 2, "one before the change, one at the first look"


def test_more_events_than_a_page_has_are_all_read_and_none_of_the_past() -> None:
    aws = Aws(
        events=[
            event(1, "SweepsQueue", "CREATE_FAILED", "there is one of that name"),
            *(event(n, f"Queue{n}", "UPDATE_COMPLETE") for n in range(2, 9)),
            event(9, "credits-prod", "UPDATE_ROLLBACK_COMPLETE"),
        ],
        history=[event(-n, f"Old{n}", "CREATE_FAILED", "long ago") for n in range(1, 50)],
        page=4,
    )
    with pytest.raises(StackFailedError, match=r"SweepsQueue .* there is one") as failed:
        aws.deploy()
    assert "Old" not in str(failed.value)
    assert aws.pages_read == 4


def test_an_event_that_comes_late_between_those_seen_is_not_lost(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = Aws(events=[event(1, "A", "UPDATE_IN_PROGRESS"), event(3, "C", "UPDATE_IN_PROGRESS")])
    said: list[str] = []
    told: Iterator[Callable[[], None]] = iter(
        [
            lambda: aws.events.insert(1, event(2, "B", "CREATE_FAILED", "the cause")),
            lambda: aws.events.append(event(4, "credits-prod", "UPDATE_ROLLBACK_COMPLETE")),
        ]
    )
    monkeypatch.setattr(clock, "sleep", lambda _: next(told)())
    with pytest.raises(StackFailedError, match="the cause"):
        aws.deploy(said.append)
    assert [line.split()[2] for line in said] == ["A", "C", "B", "credits-prod"]
    assert said[2] == f"  00:00:00  {'CREATE_FAILED':<28}  B (AWS::SQS::Queue): the cause"


def test_a_network_that_is_lost_for_a_while_ends_no_deployment() -> None:
    aws = Aws(network=[NO_NETWORK, NO_NETWORK, NO_NETWORK, None])
    said = aws.deploy()
    (lost,) = [line for line in said if "AWS cannot be reached" in line]
    assert "Trying again for 120 s" in lost


def test_a_network_that_stays_lost_ends_the_watching_and_the_deployment_is_said_to_go_on(
    clock: Clock,
) -> None:
    aws = Aws(network=[NO_NETWORK])
    with pytest.raises(DeployError) as ended:
        aws.deploy()
    for words in ("AWS cannot be reached", GOES_ON, "Run the same command again", LOOK):
        assert words in str(ended.value)
    assert NETWORK_PATIENCE < clock.now < NETWORK_PATIENCE + 10


def test_a_network_that_comes_and_goes_is_given_all_its_time_each_time() -> None:
    lost = [NO_NETWORK] * 30
    aws = Aws(
        network=[*lost, None, *lost, None, *lost, None],
        events=[event(1, "A", "UPDATE_IN_PROGRESS")],
    )
    with pytest.raises(DeployError, match=r"Waited 1800 s .*\n.*goes on in AWS"):
        aws.deploy()


EXPIRED = ClientError({"Error": {"Code": "ExpiredToken", "Message": "so it says"}}, "Describe")


class Expiring(Aws):
    """The login ends when a stack that has failed is looked at."""

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        if self.executed:
            raise EXPIRED
        return super().describe_stacks()


@pytest.mark.parametrize(
    "aws",
    [
        Aws(network=[EXPIRED]),
        Expiring(events=[event(1, "credits-prod", "UPDATE_ROLLBACK_FAILED", "1 error")]),
    ],
    ids=["by its events", "by its state"],
)
def test_a_login_that_expires_meanwhile_ends_the_watching_only(aws: Aws, clock: Clock) -> None:
    with pytest.raises(DeployError) as ended:
        aws.deploy()
    for words in ("your login has expired", "Log in: aws sso login", GOES_ON, LOOK):
        assert words in str(ended.value)
    assert clock.now < 1


def test_a_stack_that_failed_is_not_said_to_go_on() -> None:
    aws = Aws(events=[event(1, "credits-prod", "UPDATE_ROLLBACK_COMPLETE")])
    with pytest.raises(StackFailedError) as failed:
        aws.deploy()
    assert "goes on" not in str(failed.value)


def test_when_it_is_not_known_whether_aws_has_begun_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise NO_NETWORK

    monkeypatch.setattr(Aws, "execute_change_set", lost)
    other = stack.Stack(Aws(), "credits-dev", "us-east-2", print, print)
    with pytest.raises(DeployError) as ended:
        other.apply("https://template", {}, rollback.UNWATCHED, terminal.agree)
    assert str(ended.value).startswith("AWS cannot be reached: ")
    assert "It is not known whether AWS has begun to change stack credits-dev" in str(ended.value)
    assert "Run the same command again" in str(ended.value)
    assert "--stack-name credits-dev --region us-east-2" in str(ended.value)


def test_what_is_under_way_is_waited_for_and_the_deployment_goes_on_from_there(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What failed in an earlier deployment is not told again.
    aws = Aws(status="UPDATE_IN_PROGRESS", history=[event(-9, "Old", "UPDATE_FAILED", "long ago")])

    def pass_time(seconds: float) -> None:
        clock.now += seconds
        if clock.now > 60 and len(aws.history) == 1:
            aws.history.insert(0, event(-1, "A", "UPDATE_FAILED", "no such key"))
        elif clock.now > 70 and not aws.uploaded:
            aws.status = "UPDATE_ROLLBACK_COMPLETE"
            aws.history.insert(0, event(-2, "B", "UPDATE_FAILED", "A failed"))

    monkeypatch.setattr(clock, "sleep", pass_time)
    said = aws.deploy()
    assert said[0] == "Stack credits-prod is UPDATE_IN_PROGRESS: waiting for it to end ..."
    assert said[1].startswith("It ended in UPDATE_ROLLBACK_COMPLETE. What failed first: A ")
    assert said[2] == "Packaging stage prod ..."
    assert aws.executed


def test_what_is_under_way_is_waited_for_as_long_as_it_may_take_and_no_longer(clock: Clock) -> None:
    with pytest.raises(DeployError, match=r"^Waited 3000 s for stack credits-prod, in vain\.\n"):
        Aws(status="UPDATE_IN_PROGRESS").deploy()
    assert 3000 <= clock.now < 3004


def test_a_stack_whose_deletion_is_under_way_is_made_anew_once_it_is_gone() -> None:
    class Going(Aws):
        """Gone at the second look; of a stack that is gone nobody can ask by its name."""

        looks = 0

        def describe_stacks(self, **_: Any) -> dict[str, Any]:
            self.looks += 1
            if self.looks == 2:
                self.status = None
            return super().describe_stacks()

        def get_paginator(self, name: str) -> Any:
            assert self.status or self.sent, "what is gone was asked about"
            return super().get_paginator(name)

    aws = Going("DELETE_IN_PROGRESS", [event(1, "credits-prod", "CREATE_COMPLETE")])
    assert "It ended in DELETE_COMPLETE." in aws.deploy()
    assert aws.sent["ChangeSetType"] == "CREATE"


def test_a_stack_that_only_awaits_a_review_is_not_waited_for() -> None:
    aws = Aws(status="REVIEW_IN_PROGRESS", events=[event(1, "credits-prod", "CREATE_COMPLETE")])
    assert aws.deploy()[0] == "Packaging stage prod ..."
    assert aws.sent["ChangeSetType"] == "CREATE"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("UPDATE_IN_PROGRESS", "wait for it to end, then try again"),
        ("UPDATE_ROLLBACK_FAILED", "--stack-name credits-dev --region us-east-2"),
    ],
)
def test_a_stack_that_somebody_else_changes_meanwhile_is_left_alone(status: str, says: str) -> None:
    aws = Aws(status=status)
    with pytest.raises(DeployError, match=f"Stack credits-dev is {status}: .*") as refused:
        stack.Stack(aws, "credits-dev", "us-east-2", print, print).make_way(terminal.agree)
    assert says in str(refused.value)
    assert not aws.deleted


def test_a_refusal_to_tell_of_a_stack_is_not_taken_for_its_absence() -> None:
    class Secretive(Aws):
        def describe_stacks(self, **_: Any) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Describe")

    with pytest.raises(ClientError, match="AccessDenied"):
        describe_stack(Secretive(), "credits-prod")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (None, "There is no stack credits-prod. Deploy it first: make deploy STAGE=prod"),
        ("ROLLBACK_COMPLETE", "Stack credits-prod is ROLLBACK_COMPLETE. Deploy it first: make"),
    ],
)
def test_a_stage_that_was_never_made_is_to_be_deployed_first(status: str | None, says: str) -> None:
    class Unmade(Aws):
        def describe_stacks(self, **asked: Any) -> dict[str, Any]:
            (found,) = super().describe_stacks(**asked)["Stacks"]
            return {"Stacks": [{key: found[key] for key in found if key != "Outputs"}]}

    with pytest.raises(DeployError, match=f"^{re.escape(says)}"):
        describe("prod", Unmade(status=status).client)


def test_the_parts_of_a_stage_are_named_by_its_outputs() -> None:
    outputs = {
        "SweepsQueueUrl": "https://sqs/sweeps",
        "SweepsDlqQueueUrl": "https://sqs/sweeps-dlq",
        "LedgerTableName": "the ledger",
        "SweepZoneFunctionName": "the sweeper",
        "ReportsBucketName": "the reports",
        "RestAPIId": "1",
        "EndpointURL": "https://aws.example.com/v1/",
    }

    def cloudformation(more: dict[str, str]) -> Any:
        listed = [{"OutputKey": k, "OutputValue": v} for k, v in (outputs | more).items()]
        return SimpleNamespace(describe_stacks=lambda StackName: {"Stacks": [{"Outputs": listed}]})  # noqa: ARG005, N803

    found = describe("dev", lambda _: cloudformation({"ApiUrl": "https://own.example.com/v1/"}))
    assert (found.stack, found.stage, found.changed, found.api_id) == (
        "credits-dev",
        "dev",
        False,
        "1",
    )
    assert found.api_url == "https://own.example.com/v1"
    # A stack of an earlier release.
    assert describe("dev", lambda _: cloudformation({})).api_url == "https://aws.example.com/v1"
    assert list(found.queues.items()) == [
        ("sweeps-dlq", "https://sqs/sweeps-dlq"),
        ("sweeps", "https://sqs/sweeps"),
    ]
    assert found.tables == {"ledger": "the ledger"}
    assert found.functions == {"sweep-zone": "the sweeper"}
    assert found.buckets == {"reports": "the reports"}
    with pytest.raises(DeployError, match=r"no stack credits-dev\. .*: make deploy STAGE=dev$"):
        describe("dev", Aws(status=None).client)


# --- The Python of the functions ----------------------------------------------------------------


def test_a_python_that_was_never_tested_is_refused_before_aws_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(*_: object) -> Any:
        pytest.fail("AWS was asked")

    monkeypatch.setattr(packaging, "TESTED_PYTHONS", ("3.10",))
    monkeypatch.setattr(packaging, "LAMBDA_PYTHONS", ("3.10", "3.11", "3.12", "3.13", "3.14"))
    monkeypatch.setattr(command, "open_session", nobody)
    monkeypatch.setattr(sys, "argv", ["deploy", "--stage", "prod"])
    assert command.main() == 1
    said = capsys.readouterr().err
    assert "Credits was never tested with it: deploy with 3.10." in said
    assert "make clean, then: make PYTHON=python3.10 deploy STAGE=" in said


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ((3, 12), "was never tested with it"),
        ((3, 10), "cannot run it on Lambda"),
        ((3, 99), "cannot run it on Lambda"),
        ((4, 11), "cannot run it on Lambda"),
    ],
)
def test_the_error_says_whether_lambda_or_the_tests_lack_a_python(
    version: tuple[int, int], why: str
) -> None:
    with pytest.raises(packaging.PackagingError, match=f"This is Python {version[0]}") as refused:
        packaging.check_python(version)
    assert why in str(refused.value)
    assert "PYTHON=python3.11" in str(refused.value)


def test_what_is_tested_may_be_deployed_and_is_what_the_workflows_run() -> None:
    for python in packaging.TESTED_PYTHONS:
        major, minor = map(int, python.split("."))
        packaging.check_python((major, minor))
    run: set[str] = set()
    for workflow in (packaging.ROOT / ".github" / "workflows").glob("*.yml"):
        run |= {*re.findall(r'python-version: "([^"]+)"', workflow.read_text())}
    assert run == {*packaging.TESTED_PYTHONS}


def test_the_pythons_of_lambda_are_those_of_its_api() -> None:
    lambda_ = botocore.session.Session().get_service_model("lambda")
    runtimes = cast("Any", lambda_.shape_for("Runtime")).enum
    pythons = [name.removeprefix("python") for name in runtimes if name.startswith("python3.")]
    known = {name for name in pythons if int(name.partition(".")[2]) >= 11}
    assert known == {*packaging.LAMBDA_PYTHONS}
    assert {*packaging.TESTED_PYTHONS} <= known


# --- The plans ----------------------------------------------------------------------------------

FREE = '[[plans]]\nid = "free"\nname = "Free"\nmonthly_credits = 0\nlowest = true\n'


def packed(plans: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("chalicelib/plans.toml", plans)
    return archive.getvalue()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An account in which a plan is deployed that grants nothing."""
    monkeypatch.setattr(plan_changes, "_download", {"free": packed(FREE)}.get)
    return Aws(code="free")


def to_deploy(monkeypatch: pytest.MonkeyPatch, plans: str) -> None:
    monkeypatch.setattr(packaging, "catalogue", lambda: parse_catalogue(plans))


def test_a_plan_that_begins_to_grant_without_a_date_is_refused_before_anything_is_made(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    pro = '[[plans]]\nid = "pro"\nname = "Pro"\nmonthly_credits = 20\n'
    to_deploy(monkeypatch, FREE.replace("= 0", "= 10") + pro)
    with pytest.raises(DeployError) as refused:
        aws.deploy()
    said = str(refused.value)
    _, second, why = said.splitlines()
    assert second.startswith("Plan 'pro' begins to grant 20 credits a month")
    assert why == "Nobody is granted anything for the time before a deployment."
    assert "Plan 'free' begins to grant 10 credits a month and does not say since when." in said
    assert 'Add to the table with id = "free" in chalicelib/plans.toml: grants_since = 20' in said
    to_deploy(monkeypatch, FREE.replace("= 0", "= 10"))
    with pytest.raises(DeployError, match="begins to grant 10 credits"):
        aws.deploy()
    assert not aws.uploaded
    assert not aws.sent


def test_what_changes_about_the_plans_is_told_before_anybody_is_asked(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = "monthly_credits = 10\ngrants_since = 2099-12-01\n"
    pro = f'[[plans]]\nid = "pro"\nname = "Pro"\n{since}'
    to_deploy(monkeypatch, FREE.replace("monthly_credits = 0\n", since) + pro)
    said = aws.deploy()
    first = said.index("Plan 'free' grants 10 credits a month since 2099-12-01, not 0, from now on")
    assert said[first + 1] == "Plan 'pro' is new: 10 credits a month since 2099-12-01"
    assert aws.executed


def test_deployed_plans_with_a_mistake_do_not_stop_who_mends_them(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_changes, "_download", lambda _: packed("[[plans]"))
    to_deploy(monkeypatch, FREE)
    said = aws.deploy()
    assert any(line.startswith("The deployed plans have a mistake, so nothing is") for line in said)
    assert aws.executed


def test_a_first_deployment_tells_its_steps_and_that_it_makes_a_shadow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PARAMETERS, "Shadow", "on")
    made = [event(1, "credits-prod", "CREATE_COMPLETE")]
    assert Aws(status=None, events=made).deploy() == [
        f"Stage prod becomes a shadow: {shadows.IS_ONE}",
        "Packaging stage prod ...",
        "Uploading the Lambda archive (0.0 MB) ...",
        "Changing stack credits-prod: 0 resources ...",
    ]


def test_a_mistake_in_the_plans_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "chalicelib").mkdir()
    file = tmp_path / "chalicelib" / "plans.toml"
    for text, line in ((FREE.replace("= 0", "= -1"), 4), (FREE + "[[plans]", 6)):
        file.write_text(text)
        with pytest.raises(packaging.PackagingError, match=rf"^chalicelib/plans.toml, line {line}"):
            packaging.catalogue(tmp_path)
        with pytest.raises(packaging.PackagingError, match=r"^chalicelib/plans.toml, line"):
            packaging.package("local", tmp_path / "output", region="eu-west-1", root=tmp_path)
    file.write_text(FREE)
    prices = tmp_path / "chalicelib" / "stripe.toml"
    for content, says in (
        (b"[[prices]]\n", ", line 1"),
        (b"\xff", " cannot be read"),
        (None, " cannot"),
    ):
        prices.write_bytes(content) if content is not None else prices.unlink()
        with pytest.raises(packaging.PackagingError, match=rf"^chalicelib/stripe.toml{says}"):
            packaging.package("local", tmp_path / "output", region="eu-west-1", root=tmp_path)
    file.write_bytes(b"\xff")
    with pytest.raises(packaging.PackagingError, match=r"plans.toml cannot be read"):
        packaging.catalogue(tmp_path)
    file.unlink()
    with pytest.raises(packaging.PackagingError, match=r"plans.toml cannot be read"):
        packaging.catalogue(tmp_path)


def test_with_a_mistake_in_the_plans_nothing_is_started_and_nobody_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mistaken() -> PlanCatalogue:
        raise packaging.PackagingError("chalicelib/plans.toml, line 4: ...")

    def nobody(*_: object) -> Any:
        pytest.fail("something was started or called")

    monkeypatch.setattr(packaging, "catalogue", mistaken)
    monkeypatch.setattr(emulator, "emulator", nobody)
    with pytest.raises(packaging.PackagingError, match="line 4"), stacks.local_stack():
        pass
    with pytest.raises(packaging.PackagingError, match="line 4"):
        deploy.deploy("prod", nobody, region="eu-west-1", parameters=PARAMETERS, say=print)


def test_a_command_goes_by_the_plans_that_are_deployed_not_by_those_of_the_checkout(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_deploy(monkeypatch, FREE.replace("= 0", "= 10"))
    settings = cast("Settings", SimpleNamespace(stage="prod", is_local=False, anchors_bucket="a"))

    def services() -> StageServices:
        return StageServices(settings, lambda *_, **__: aws, cast("Any", None))

    found = services()
    assert found.catalogue == parse_catalogue(FREE)
    assert found.catalogue is found.catalogue, "they are downloaded once"
    refusing = StageServices(settings, Mock(side_effect=answered(403)), cast("Any", None))
    for part in ("catalogue", "anchors", "reports"):
        with pytest.raises(AwsError, match="AWS refuses"):
            getattr(refusing, part)
    newer = FREE + "colour = 1\n"
    monkeypatch.setattr(plan_changes, "_download", lambda _: packed(newer))
    with pytest.raises(DeployError, match=r"the deployed chalicelib/plans.toml, line 6: .*"):
        services().catalogue  # noqa: B018 - reading it is what is refused
    aws.code = None
    with pytest.raises(DeployError, match="has no plans"):
        services().catalogue  # noqa: B018 - reading it is what is refused


# --- The parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'TokenIsuer = "https://a.example"',
            "TokenIsuer is no parameter; did you mean TokenIssuer",
        ),
        ("RunbookURL = 1", "RunbookURL is no parameter; did you mean RunbookUrl?"),
        ("Stage = 1", "Stage is no parameter; "),
        ('Zzz = ""', "Zzz is no parameter; the parameters are TokenIssuer, TokenAudience, "),
        ('TokenIssuer = "a.example"', "TokenIssuer must be of the form https?://\\S+; is 'a.exam"),
        ("TokenAudience = ['a']", "TokenAudience must be a text, in quotes; is ['a']"),
        ("AlarmEmail = true", "AlarmEmail must be a text, in quotes; is True"),
        ('AlarmEmail = "a"', "AlarmEmail must be of the form"),
        ('MailsASecond = "14"', "MailsASecond must be a number from 0 to 1,000,000, without quo"),
        ("MailsASecond = true", "MailsASecond must be a number"),
        ("MailsASecond = -1", "MailsASecond must be a number"),
        ("MailsASecond = inf", "MailsASecond must be a number"),
        ("MailsASecond = nan", "MailsASecond must be a number"),
        ("ExpiringSoonDays = 61", "ExpiringSoonDays must be a number from 0 to 60"),
        ('Tracing = "on"', "Tracing must be one of Active, PassThrough; is 'on'"),
        ('ProductUrl = "http://app.example.com"', "ProductUrl must be of the form (https://"),
        ('ProductUrl = "javascript:alert(1)"', "ProductUrl must be"),
        ('ProductLogoUrl = "https://example.com"', "ProductLogoUrl must be"),
        ("ProductLogoUrl = \"https://a.example;script-src 'x'/y.png\"", "ProductLogoUrl must be"),
        ('ProductName = "Light\\nhouse"', "ProductName must be"),
        ('ProductName = "Lighthouse <b>"', "ProductName must be"),
        ('ProductSupport = "ask us"', "ProductSupport must be"),
        ('ProductAddress = "One\\nTwo"', "ProductAddress must be"),
    ],
)
def test_a_parameter_that_the_template_would_not_take_is_named_first(
    line: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parameters.toml"
    monkeypatch.setattr("infra.deployment.parameters.PARAMETERS_FILE", file)
    file.write_text(f"[prod]\n{line}\n")
    with pytest.raises(DeployError) as refused:
        parameters_of("prod")
    assert str(refused.value).startswith(f"infra/parameters.toml, [prod]: {problem}")


def test_every_mistake_in_the_parameters_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parameters.toml"
    monkeypatch.setattr("infra.deployment.parameters.PARAMETERS_FILE", file)
    file.write_text(f'[prod]\nAlarmEmail = "{"a" * 500}"\nMailsASecond = -1\n')
    with pytest.raises(DeployError) as refused:
        parameters_of("prod")
    first, second = str(refused.value).splitlines()
    assert "[prod]: AlarmEmail must be of the form" in first
    assert first.endswith("; is '" + "a" * 79), "a long value is cut off"
    assert second.startswith("infra/parameters.toml, [prod]: MailsASecond must be a number")
    for text, says in (
        ("[dev]\n", "There is no [prod] in"),
        ("prod = 1\n", "There is no [prod] in"),
    ):
        file.write_text(text)
        with pytest.raises(DeployError, match=re.escape(says)):
            parameters_of("prod")
    for text in ("[prod", "prod = " + "[" * 20_000):
        file.write_text(text)
        with pytest.raises(DeployError, match="is not TOML"):
            parameters_of("prod")


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "TokenIssuer and TokenAudience"),
        ({"TokenIssuer": "", "TokenAudience": "a"}, "TokenIssuer"),
    ],
)
def test_whose_tokens_to_take_is_asked_for_before_anything_is_made(
    given: dict[str, str], missing: str
) -> None:
    with pytest.raises(DeployError, match=rf"Set {missing} under \[dev\] in infra/parameters.toml"):
        check_parameters("dev", given, "eu-west-1")


def test_parameters_at_the_limits_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parameters.toml"
    monkeypatch.setattr("infra.deployment.parameters.PARAMETERS_FILE", file)
    file.write_text(
        '[prod]\nMailsASecond = 0\nExpiringSoonDays = 60\nTokenIssuer = ""\nTracing = "Active"\n'
        'ProductName = "Café & Co"\nProductLogoUrl = "https://example.com/a/logo.png?v=2"\n'
        'ProductSupport = "help@example.com"\nProductUrl = ""\n'
    )
    assert parameters_of("prod") == {
        "MailsASecond": "0",
        "ExpiringSoonDays": "60",
        "TokenIssuer": "",
        "Tracing": "Active",
        "ProductName": "Café & Co",
        "ProductLogoUrl": "https://example.com/a/logo.png?v=2",
        "ProductSupport": "help@example.com",
        "ProductUrl": "",
    }


# --- What is sent, and what only AWS shows --------------------------------------------------------


@dataclass
class Recorder(Aws):
    """The same account; every request that changes something is kept, in order."""

    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    # How S3 answers a HEAD of the bucket and of objects; None: they are there.
    bucket: int | None = None
    objects: int | None = None
    # What a change set has come to, and the pages of its changes.
    change_set: dict[str, Any] = field(default_factory=lambda: {"Status": "CREATE_COMPLETE"})
    changes: list[list[str]] = field(default_factory=list)

    def _keep(self, name: str, request: dict[str, Any]) -> None:
        self.requests.append((name, request))

    def sent_as(self, name: str) -> list[dict[str, Any]]:
        return [request for kept, request in self.requests if kept == name]

    def head_bucket(self, **request: Any) -> None:
        self._keep("head_bucket", request)
        if self.bucket is not None:
            raise answered(self.bucket)

    def head_object(self, **request: Any) -> None:
        self._keep("head_object", request)
        if self.objects is not None:
            raise answered(self.objects)

    def put_object(self, **request: Any) -> None:
        self._keep("put_object", request)

    def create_bucket(self, **request: Any) -> None:
        self._keep("create_bucket", request)

    def put_public_access_block(self, **request: Any) -> None:
        self._keep("put_public_access_block", request)

    def put_bucket_encryption(self, **request: Any) -> None:
        self._keep("put_bucket_encryption", request)

    def create_change_set(self, **sent: Any) -> dict[str, Any]:
        self._keep("create_change_set", sent)
        return super().create_change_set(**sent)

    def describe_change_set(self, **request: Any) -> dict[str, Any]:
        self._keep("describe_change_set", request)
        return self.change_set

    def execute_change_set(self, **sent: Any) -> None:
        self._keep("execute_change_set", sent)
        super().execute_change_set(**sent)

    def delete_change_set(self, **request: Any) -> None:
        self._keep("delete_change_set", request)

    def delete_stack(self, **request: Any) -> None:
        self._keep("delete_stack", request)
        super().delete_stack(**request)

    def get_paginator(self, name: str) -> Any:
        if name != "describe_change_set":
            return super().get_paginator(name)
        made = {"Action": "Add", "ResourceType": "AWS::SQS::Queue"}
        replaced = {
            name: {"Action": "Modify", "Replacement": word}
            for name, word in (("Mails", "True"), ("Ledger", "Conditional"), ("Edits", "False"))
        }
        pages = [
            {
                "Changes": [
                    {
                        "ResourceChange": {
                            **made,
                            **replaced.get(each, {}),
                            "LogicalResourceId": each,
                        }
                    }
                    for each in page
                ]
            }
            for page in self.changes or [[]]
        ]
        return SimpleNamespace(paginate=lambda **_: pages)


def answered(status: int) -> ClientError:
    error = {"Error": {"Code": str(status), "Message": ""}}
    return ClientError({**error, "ResponseMetadata": {"HTTPStatusCode": status}}, "Head")  # type: ignore[typeddict-item]


def made() -> list[dict[str, Any]]:
    return [event(1, "credits-prod", "UPDATE_COMPLETE")]


def test_the_bucket_of_the_artifacts_is_used_only_if_it_is_ours() -> None:
    """Names of buckets are shared by all of AWS: who has this one could put other code into it."""
    aws = Recorder()
    aws.deploy()
    (request,) = aws.sent_as("head_bucket")
    assert request == {"Bucket": ARTIFACTS, "ExpectedBucketOwner": "000000000000"}
    assert not aws.sent_as("create_bucket")
    for status in (403, 500):
        other = Recorder(bucket=status)
        with pytest.raises(AwsError):
            other.deploy()
        assert not other.sent_as("put_object"), f"uploaded after an answer {status}"


@pytest.mark.parametrize(
    ("region", "location"),
    [
        ("eu-west-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}),
        # The one region that must not be named.
        ("us-east-1", {}),
    ],
)
def test_a_new_bucket_of_artifacts_is_private_and_encrypted(
    region: str, location: dict[str, Any]
) -> None:
    aws = Recorder(bucket=404)
    bucket = f"credits-artifacts-000000000000-{region}"

    deploy.deploy(
        "prod",
        aws.client,
        region=region,
        parameters=PARAMETERS,
        say=terminal.say_nothing,
        make_package=packager("prod", region),
    )
    assert aws.sent_as("create_bucket") == [{"Bucket": bucket, **location}]
    assert [name for name, _ in aws.requests][:4] == [
        *("head_bucket", "create_bucket", "put_public_access_block", "put_bucket_encryption")
    ], "what is uploaded before that may be public"
    (access,) = aws.sent_as("put_public_access_block")
    (encryption,) = aws.sent_as("put_bucket_encryption")
    assert access["Bucket"] == encryption["Bucket"] == bucket
    assert access["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    assert encryption["ServerSideEncryptionConfiguration"]["Rules"] == [
        {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    ]


@pytest.mark.parametrize("there", [None, 404, 403])
def test_code_is_uploaded_under_the_name_of_its_content_unless_it_is_there(
    there: int | None,
) -> None:
    aws = Recorder(objects=there)
    aws.deploy()
    digest = hashlib.sha256(b"code").hexdigest()
    (asked,) = aws.sent_as("head_object")
    assert asked["Key"] == f"{digest}.zip", "other code under this name would be deployed"
    archives = [put for put in aws.sent_as("put_object") if put["Key"].endswith(".zip")]
    uploaded = [(put["Bucket"], put["Key"], put["Body"]) for put in archives]
    assert uploaded == ([] if there is None else [(ARTIFACTS, f"{digest}.zip", b"code")])
    with pytest.raises(AwsError):
        Recorder(objects=500).deploy()


def test_cloudformation_is_told_what_sam_needs_and_every_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PARAMETERS, "ProductName", "")  # which is not the template's default
    aws = Recorder()
    aws.deploy()
    (sent,) = aws.sent_as("create_change_set")
    assert sent["Capabilities"] == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    assert sent["Tags"] == [{"Key": "app", "Value": "credits"}]
    given = {each["ParameterKey"]: each["ParameterValue"] for each in sent["Parameters"]}
    assert given == {**PARAMETERS, "Stage": "prod"}
    assert sent["StackName"] == "credits-prod"
    (put,) = [put for put in aws.sent_as("put_object") if put["Key"].endswith(".json")]
    assert put["Bucket"] == ARTIFACTS
    assert sent["TemplateURL"] == f"https://s3.eu-west-1.amazonaws.com/{ARTIFACTS}/{put['Key']}"
    code = f"s3://{ARTIFACTS}/{hashlib.sha256(b'code').hexdigest()}.zip"
    assert json.loads(put["Body"])["Resources"]["Api"]["Properties"]["CodeUri"] == code
    assert aws.has_changed


def test_another_stage_in_another_account_and_region_is_deployed_under_its_own_names() -> None:
    class Other(Recorder):
        def get_caller_identity(self) -> dict[str, Any]:
            return {"Account": "111122223333"}

        def get_function(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
            assert FunctionName == "credits-dev-allocate-accounts"
            return super().get_function("credits-prod-allocate-accounts")

        def describe_stacks(self, **asked: Any) -> dict[str, Any]:
            assert asked == {"StackName": "credits-dev"}
            return super().describe_stacks()

    aws = Other(alarm_states={"credits-dev-api-5xx": "OK", "credits-prod-api-latency": "OK"})
    make_package = Mock(side_effect=packager("dev", "us-east-2"))
    found = deploy.deploy(
        "dev",
        aws.client,
        region="us-east-2",
        parameters=PARAMETERS,
        say=terminal.say_nothing,
        make_package=make_package,
    )
    assert make_package.call_count == 1
    assert (found.stack, found.stage) == ("credits-dev", "dev")
    bucket = "credits-artifacts-111122223333-us-east-2"
    owned = {"Bucket": bucket, "ExpectedBucketOwner": "111122223333"}
    assert aws.sent_as("head_bucket") == [owned]
    assert {put["Bucket"] for put in aws.sent_as("put_object")} == {bucket}
    assert aws.sent["StackName"] == aws.sent_to_execute["StackName"] == "credits-dev"
    assert {"ParameterKey": "Stage", "ParameterValue": "dev"} in aws.sent["Parameters"]
    triggers = aws.sent["RollbackConfiguration"]["RollbackTriggers"]
    assert [each["Arn"] for each in triggers] == ["arn:credits-dev-api-5xx"]


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"),
        ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_FAILED"),
        ("UPDATE_COMPLETE", "UPDATE_FAILED"),
        (None, "ROLLBACK_COMPLETE"),
        (None, "ROLLBACK_FAILED"),
        (None, "DELETE_COMPLETE"),
        (None, "IMPORT_ROLLBACK_COMPLETE"),
    ],
)
def test_what_was_taken_back_is_no_success(before: str | None, status: str) -> None:
    aws = Recorder(status=before, events=[event(1, "credits-prod", status)])
    with pytest.raises(StackFailedError) as failed:
        aws.deploy()
    assert failed.value.status == status


def test_of_many_failures_the_first_real_one_is_named() -> None:
    aws = Recorder(
        events=[
            event(0, "Inner", "CREATE_COMPLETE") | {"ResourceType": "AWS::CloudFormation::Stack"},
            event(1, "Echo", "CREATE_FAILED", "Resource creation cancelled"),
            event(2, "Cause", "CREATE_FAILED", "the name is taken"),
            event(3, "Later", "DELETE_FAILED", "it is not empty"),
            event(4, "credits-prod", "UPDATE_ROLLBACK_COMPLETE"),
        ]
    )
    with pytest.raises(StackFailedError) as failed:
        aws.deploy()
    cause = "Cause (AWS::SQS::Queue) CREATE_FAILED: the name is taken"
    assert str(failed.value).splitlines() == [
        "Stack credits-prod ended in UPDATE_ROLLBACK_COMPLETE. The first resource that failed:",
        f"  {cause}",
    ]
    assert str(failed.value.failure) == cause
    assert str(failure_in(event(1, "It", "CREATE_FAILED"))).endswith("FAILED: no reason given")


def test_a_failure_that_follows_later_does_not_hide_the_first() -> None:
    class Slow(Aws):
        later = iter(
            [
                event(2, "Consequence", "CREATE_FAILED", "the other is not there"),
                event(3, "credits-prod", "UPDATE_ROLLBACK_COMPLETE"),
            ]
        )

        def get_paginator(self, name: str) -> Any:
            found = super().get_paginator(name)
            if name == "describe_stack_events" and self.pages_read > 1:
                self.events.extend(islice(self.later, 1))
            return found

    aws = Slow(events=[event(1, "Cause", "CREATE_FAILED", "the name is taken")])
    with pytest.raises(StackFailedError, match=r"Cause .*: the name is taken$"):
        aws.deploy()


def test_a_stack_that_is_removed_is_followed_by_its_id_for_it_has_no_name_any_more() -> None:
    class Nameless(Aws):
        def get_paginator(self, name: str) -> Any:
            found = super().get_paginator(name)

            def paginate(StackName: str) -> Iterator[dict[str, Any]]:  # noqa: N803
                if self.deleted and not self.sent and StackName == "credits-prod":
                    error = {"Error": {"Code": "ValidationError", "Message": "does not exist"}}
                    raise ClientError(error, name)  # type: ignore[arg-type]
                yield from found.paginate(StackName=StackName)

            return SimpleNamespace(paginate=paginate) if name == "describe_stack_events" else found

    aws = Nameless(status="ROLLBACK_COMPLETE", events=[event(1, "credits-prod", "CREATE_COMPLETE")])
    aws.deploy()
    assert aws.sent["ChangeSetType"] == "CREATE"


@pytest.mark.parametrize("made_before", [0, len(LANES) - 1, len(LANES)])
@pytest.mark.parametrize("wanted", ["on", "off", None])
def test_limits_are_asked_for_only_once_every_key_is_in_its_plan(
    monkeypatch: pytest.MonkeyPatch, made_before: int, wanted: str | None
) -> None:
    """A method that asks for a key that is not there yet answers everybody 403."""
    required: list[object] = []
    monkeypatch.setattr(caller_limits, "require", required.append)
    if wanted is not None:
        monkeypatch.setitem(PARAMETERS, "CallerLimits", wanted)
    keys = [f"{lane.title()}LaneInPlan" for lane in LANES]
    said = Aws(resources=keys[:made_before]).deploy()
    is_on, is_ready = wanted == "on", made_before == len(LANES)
    assert len(required) == (is_on and is_ready)
    assert (caller_limits.NOT_YET in said) is (is_on and not is_ready)
    assert caller_limits.NOT_YET.endswith("Deploy again in five minutes.")


def test_an_update_is_watched_for_as_long_as_its_alarms_may_take_it_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "STACK_DEADLINE", 60.0)

    class Slow(Recorder):
        def get_paginator(self, name: str) -> Any:
            if name == "describe_stack_events" and clock.now < 15 * 60:
                return SimpleNamespace(paginate=lambda **_: iter([{"StackEvents": []}]))
            return super().get_paginator(name)

    aws = Slow(alarm_states={"credits-prod-api-5xx": "OK"}, events=made())
    aws.deploy()
    assert clock.now >= 15 * 60


def test_every_page_of_the_changes_is_shown() -> None:
    aws = Recorder(changes=[["Sweeps", "Checks"], ["Mails", "Ledger", "Edits"]])
    details: list[str] = []
    said = aws.deploy(details.append)
    assert "Changing stack credits-prod: 5 resources ..." in said
    assert details[:5] == [
        "  Add     Sweeps (AWS::SQS::Queue)",
        "  Add     Checks (AWS::SQS::Queue)",
        "  Modify  Mails (AWS::SQS::Queue)  REPLACES IT",
        "  Modify  Ledger (AWS::SQS::Queue)  MAY REPLACE IT",
        "  Modify  Edits (AWS::SQS::Queue)",
    ]


@pytest.mark.parametrize("reason", ["Template error: no such resource", None])
def test_a_template_that_cloudformation_refuses_is_told_with_its_reason(reason: str | None) -> None:
    aws = Recorder(change_set={"Status": "FAILED"} | ({"StatusReason": reason} if reason else {}))
    says = f"CloudFormation refused the template: {reason or 'no reason given'}"
    with pytest.raises(DeployError, match=f"^{says}$"):
        aws.deploy()
    assert not aws.executed


def test_changes_are_shown_once_they_are_computed() -> None:
    states = ["CREATE_PENDING", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"]

    class Slow(Recorder):
        def describe_change_set(self, **_: Any) -> dict[str, Any]:
            return {"Status": states.pop(0)}

    aws = Slow(changes=[["Sweeps"]])
    aws.deploy()
    assert (states, aws.executed) == ([], True)


def test_changes_that_are_never_computed_are_waited_for_a_while_and_asked_for_seldom(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = clock.sleep

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", pause)
    aws = Recorder(change_set={"Status": "CREATE_IN_PROGRESS"})
    says = r"^Waited 300 s for the change set of stack credits-prod, in vain\.$"
    with pytest.raises(DeployError, match=says):
        aws.deploy()
    assert 300 <= clock.now < 304
    last = pauses[-50:]
    assert 1.5 <= min(last) < 2, "many that began together ask together"
    assert 2.5 < max(last) <= 3
    assert 100 <= len(aws.sent_as("describe_change_set")) < 250
    assert not aws.executed


@pytest.mark.parametrize(
    "reason",
    [
        "The submitted information didn't contain changes. Submit different information to create",
        "No updates are to be performed.",
    ],
)
def test_a_change_set_without_changes_is_removed_and_is_no_failure(reason: str) -> None:
    aws = Recorder(change_set={"Status": "FAILED", "StatusReason": reason})
    assert "No changes: stack credits-prod is up to date." in aws.deploy()
    named = {"StackName": "credits-prod", "ChangeSetName": "1"}
    assert aws.sent_as("delete_change_set") == [named]
    assert not aws.executed
    assert aws.has_changed is False


@pytest.mark.parametrize("before", ["UPDATE_COMPLETE", None])
def test_changes_that_are_declined_leave_a_stack_as_it_was_and_none_where_there_was_none(
    before: str | None,
) -> None:
    aws = Recorder(status=before, changes=[["Sweeps"]])
    with pytest.raises(DeployError, match="none of them was made"):
        aws.deploy(confirm=lambda: False)
    assert len(aws.sent_as("delete_change_set")) == 1
    assert not aws.executed
    deleted = [request["StackName"] for request in aws.sent_as("delete_stack")]
    assert deleted == ([] if before else ["credits-prod"]), "a stack was deleted by a no"


def test_what_was_left_is_taken_over_only_when_that_is_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = retained.Leftover("LedgerTable", "AWS::DynamoDB::Table", "credits-prod-ledger", {}, {})
    monkeypatch.setattr(retained, "leftovers", lambda *_, **__: [table])
    aws = Recorder(status=None)
    with pytest.raises(DeployError, match="nothing was changed"):
        aws.deploy(confirm=lambda: False)
    assert aws.sent_as("create_change_set") == aws.sent_as("execute_change_set") == []


def test_all_that_was_left_is_imported_and_then_brought_to_the_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = {"TableName": "credits-prod-ledger"}
    left = [
        retained.Leftover("Ledger", "AWS::DynamoDB::Table", "ledger", ledger, ledger, "3 items"),
        retained.Leftover("Reports", "AWS::S3::Bucket", "reports", {"BucketName": "r"}, {"a": 1}),
    ]
    looked: dict[str, Any] = {}

    def leftovers(_: object, stage: str, *_client: object, **named: str) -> Any:
        looked.update(named, stage=stage)
        return left

    monkeypatch.setattr(retained, "leftovers", leftovers)

    class Twice(Recorder):
        def execute_change_set(self, **sent: Any) -> None:
            super().execute_change_set(**sent)
            status = "UPDATE_COMPLETE" if self.events else "IMPORT_COMPLETE"
            self.events.append(event(len(self.events), "credits-prod", status))

    aws = Twice(status=None, events=[])
    asked: list[int] = []
    said = aws.deploy(confirm=agreeing(asked, lambda: len(aws.sent_as("execute_change_set"))))
    assert looked == {"stage": "prod", "account": "000000000000", "region": "eu-west-1"}
    first = said.index(
        "What an earlier stack credits-prod left is taken over, with all that is in it:"
    )
    assert said[first + 1 : first + 3] == [
        "  Ledger (AWS::DynamoDB::Table) ledger, 3 items",
        "  Reports (AWS::S3::Bucket) reports",
    ]
    assert asked == [0, 1], "before the import, and before the update"
    taking, updating = aws.sent_as("create_change_set")
    assert (taking["ChangeSetType"], updating["ChangeSetType"]) == ("IMPORT", "UPDATE")
    assert taking["Parameters"] == [{"ParameterKey": "Stage", "ParameterValue": "prod"}]
    assert json.loads(taking["TemplateBody"]) == retained.import_template(left)
    assert taking["ResourcesToImport"] == retained.resources_to_import(left)
    assert [each["LogicalResourceId"] for each in taking["ResourcesToImport"]] == [
        "Ledger",
        "Reports",
    ]
    # What is not computed yet cannot be executed.
    steps = [name.partition("_")[0] for name, _ in aws.requests if name.endswith("change_set")]
    assert steps == ["create", "describe", "execute"] * 2


@pytest.mark.parametrize(
    ("status", "there", "left"),
    [
        (None, [], []),
        ("UPDATE_COMPLETE", [], []),
        ("UPDATE_COMPLETE", ["Table"], []),
        (None, [], ["Table"]),
    ],
)
def test_new_tables_are_protected_in_a_second_step_and_not_while_they_are_made(
    monkeypatch: pytest.MonkeyPatch, status: str | None, there: list[str], left: list[str]
) -> None:
    """A creation that fails cannot delete a protected table, whose name is then taken."""
    found = [retained.Leftover(each, "AWS::DynamoDB::Table", each, {}, {}) for each in left]
    monkeypatch.setattr(retained, "leftovers", lambda *_, **__: found)
    table = {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "Retain",
        "Properties": {"DeletionProtectionEnabled": True},
    }

    make_package = packager("prod", "eu-west-1", {"Table": table}, b"c" * 2_500_000)

    class Twice(Recorder):
        def execute_change_set(self, **sent: Any) -> None:
            super().execute_change_set(**sent)
            self.events.append(event(len(self.events) + 1, "credits-prod", "UPDATE_COMPLETE"))
            self.resources = [*there, *left]

    is_new = status is None
    aws = Twice(status, [], alarm_states={"credits-prod-api-5xx": "OK"}, resources=there)
    said: list[str] = []
    asked: list[bool] = []
    deploy.deploy(
        "prod",
        aws.client,
        region="eu-west-1",
        parameters=PARAMETERS,
        say=said.append,
        confirm=agreeing(asked, lambda: True),
        make_package=make_package,
    )
    assert asked == [True, *map(bool, left)], "the second step is a part of what was agreed to"
    there = [*there, *left]
    assert "Uploading the Lambda archive (2.5 MB) ..." in said
    assert ("Protected from deletion as soon as they are made: Table" in said) is (not there)
    assert ("Protecting the new tables from deletion ..." in said) is (not there)
    of_stage = {"ParameterKey": "Stage", "ParameterValue": "prod"}
    assert all(of_stage in sent["Parameters"] for sent in aws.sent_as("create_change_set"))
    uploaded = {
        put["Key"]: json.loads(put["Body"])["Resources"]["Table"]["Properties"]
        for put in aws.sent_as("put_object")
        if put["Key"].endswith(".json")
    }
    applied = [
        uploaded[sent["TemplateURL"].rpartition("/")[2]]["DeletionProtectionEnabled"]
        for sent in aws.sent_as("create_change_set")
        if "TemplateURL" in sent
    ]
    assert applied == ([True] if there else [False, True])
    # The second step is not watched for another twenty minutes.
    rollbacks = [sent.get("RollbackConfiguration") for sent in aws.sent_as("create_change_set")]
    watched = [each and each["MonitoringTimeInMinutes"] for each in rollbacks]
    assert watched == ([*[None for _ in left], 20] if there else [None if is_new else 20, 0])
    # Without a list of triggers those of the last update would count.
    assert there or rollbacks[-1] == {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}


def test_a_command_reaches_each_table_queue_and_bucket_by_its_own_name() -> None:
    names = ("ledger", "subscriptions", "mails", "edits", "stripe")
    queues = ("sweeps", "allocations", "expiries", "notifications")
    stack = stacks.LocalStack(
        endpoint_url="http://127.0.0.1:1",
        api_url="http://127.0.0.1:1/v1",
        stack="credits-local",
        stage="local",
        functions={},
        tables={name: f"the {name} table" for name in names},
        queues={name: f"the {name} queue" for name in queues},
        buckets={"anchors": "the anchors bucket", "reports": "the reports bucket"},
        mail_url="",
        issuer="",
        clock_file="/clock",
    )
    found = services_of_local(stack).settings
    assert {name: getattr(found, f"{name}_table") for name in names} == stack.tables
    assert {name: getattr(found, f"{name}_queue_url") for name in queues} == stack.queues
    assert (found.anchors_bucket, found.stage) == ("the anchors bucket", "local")
    assert found.reports_bucket == "the reports bucket"
    other = SimpleNamespace(tables=stack.tables.copy(), queues=stack.queues, buckets={})
    del other.tables["stripe"]  # which a stack of an earlier release has not
    earlier = settings_of("prod", "us-east-2", other)
    assert (earlier.stage, earlier.region) == ("prod", "us-east-2")
    assert (earlier.stripe_table, earlier.anchors_bucket, earlier.reports_bucket) == ("", "", "")
    with pytest.raises(DeployError, match="Stage prod has no bucket of anchors: deploy it first"):
        StageServices(earlier, lambda *_, **__: Aws(), cast("Any", None)).anchors  # noqa: B018
    assert (found.region, found.clock_file) == (emulator.REGION, "/clock")
