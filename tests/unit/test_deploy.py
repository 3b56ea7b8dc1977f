"""Deploying, against a CloudFormation that answers as the test says."""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from chalicelib.domain.plans import PlanCatalogue, parse_catalogue
from chalicelib.settings import Settings
from infra import alarms, deploy, emulator, local, packaging, plan_changes, stacks

PARAMETERS = {"TokenIssuer": "https://issuer.example.com", "TokenAudience": "credits"}
STACK_ID = "arn:aws:cloudformation:eu-west-1:000000000000:stack/credits-prod/1"


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
    code: str | None = None
    uploaded: bool = False

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

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        if self.status is None:
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": "credits-prod does not exist"}},
                "DescribeStacks",
            )
        status = self.events[-1]["ResourceStatus"] if self.executed else self.status
        outputs = {"RestAPIId": "1", "EndpointURL": "https://api.example.com/v1/"}
        listed = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        return {"Stacks": [{"StackStatus": status, "Outputs": listed}]}

    def delete_stack(self, **_: Any) -> None:
        self.deleted = True

    def get_waiter(self, _name: str) -> Any:
        return SimpleNamespace(wait=lambda **_: None)

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
            else:
                yield {"StackEvents": self.events[::-1] if self.executed else []}

        return SimpleNamespace(paginate=paginate)

    def deploy(self) -> list[str]:
        """Deploys to it; what was said."""

        def make_package(_stage: str, output: Path, /, *, region: str) -> packaging.Package:
            assert region == "eu-west-1"
            archive = output / "credits.zip"
            archive.write_bytes(b"code")
            return packaging.Package(template={"Resources": {}}, archive=archive)

        said: list[str] = []
        deploy.deploy(
            "prod",
            self.client,
            region="eu-west-1",
            parameters=PARAMETERS,
            say=said.append,
            make_package=make_package,
        )
        return said


def test_a_stack_that_stays_failed_ends_the_deployment_at_once_with_the_failure() -> None:
    aws = Aws(
        status=None,
        events=[
            event(1, "SweepsQueue", "CREATE_FAILED", "there is one of that name"),
            event(2, "credits-prod", "CREATE_FAILED", "SweepsQueue failed"),
        ],
    )
    with pytest.raises(deploy.StackFailedError, match=r"SweepsQueue .* there is one") as failed:
        aws.deploy()
    assert failed.value.status == "CREATE_FAILED"


def test_a_stack_that_failed_and_is_then_rolled_back_is_waited_for() -> None:
    aws = Aws(
        status=None,
        events=[
            event(1, "credits-prod", "CREATE_FAILED", "1 error"),
            event(2, "credits-prod", "ROLLBACK_IN_PROGRESS"),
            event(3, "credits-prod", "ROLLBACK_COMPLETE"),
        ],
    )
    with pytest.raises(deploy.StackFailedError) as failed:
        aws.deploy()
    assert failed.value.status == "ROLLBACK_COMPLETE"


def test_a_stack_whose_creation_failed_is_removed_before_the_next_deployment() -> None:
    aws = Aws(status="CREATE_FAILED", events=[event(1, "credits-prod", "CREATE_COMPLETE")])
    aws.deploy()
    assert aws.deleted
    assert aws.sent["ChangeSetType"] == "CREATE"


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
            "credits-prod-function-errors-sweep-zone": "INSUFFICIENT_DATA",
            "credits-prod-dead-letters-sweeps": "OK",
        }
    )
    said = aws.deploy()
    assert aws.sent["RollbackConfiguration"] == {
        "RollbackTriggers": [
            {"Arn": "arn:credits-prod-api-5xx", "Type": "AWS::CloudWatch::Alarm"},
            {
                "Arn": "arn:credits-prod-function-errors-sweep-zone",
                "Type": "AWS::CloudWatch::Alarm",
            },
        ],
        "MonitoringTimeInMinutes": 20,
    }
    (ringing,) = [line for line in said if "Ringing already" in line]
    assert ringing.endswith(": credits-prod-api-latency")


def test_an_update_that_no_alarm_watches_waits_for_nothing_and_forgets_earlier_alarms() -> None:
    aws = Aws(alarm_states={f"credits-prod-{name}": "ALARM" for name in alarms.ROLLBACK_ALARMS})
    aws.deploy()
    nothing = {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}
    assert aws.sent["RollbackConfiguration"] == nothing


def test_what_is_created_is_watched_by_no_alarm_for_there_are_none_yet() -> None:
    aws = Aws(status=None, events=[event(1, "credits-prod", "CREATE_COMPLETE")])
    aws.deploy()
    assert "RollbackConfiguration" not in aws.sent


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
    to_deploy(monkeypatch, FREE.replace("= 0", "= 10"))
    with pytest.raises(deploy.DeployError) as refused:
        aws.deploy()
    said = str(refused.value)
    assert "Plan 'free' begins to grant 10 credits a month and does not say since when." in said
    assert 'Add to the table with id = "free" in chalicelib/plans.toml: grants_since = 20' in said
    assert not aws.uploaded
    assert not aws.sent


def test_what_changes_about_the_plans_is_told_before_anybody_is_asked(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_deploy(monkeypatch, FREE.replace("= 0", "= 10\ngrants_since = 2099-12-01"))
    said = aws.deploy()
    assert "Plan 'free' grants 10 credits a month since 2099-12-01, not 0, from now on" in said
    assert aws.executed


def test_deployed_plans_with_a_mistake_do_not_stop_who_mends_them(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_changes, "_download", lambda _: packed("[[plans]"))
    to_deploy(monkeypatch, FREE)
    said = aws.deploy()
    assert any(line.startswith("The deployed plans have a mistake, so nothing is") for line in said)
    assert aws.executed


def test_a_mistake_in_the_plans_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "chalicelib").mkdir()
    file = tmp_path / "chalicelib" / "plans.toml"
    for text, line in ((FREE.replace("= 0", "= -1"), 4), (FREE + "[[plans]", 6)):
        file.write_text(text)
        with pytest.raises(packaging.PackagingError, match=rf"^chalicelib/plans.toml, line {line}"):
            packaging.catalogue(tmp_path)
        with pytest.raises(packaging.PackagingError, match=r"^chalicelib/plans.toml, line"):
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
    with pytest.raises(packaging.PackagingError, match="line 4"), local.local_stack():
        pass
    with pytest.raises(packaging.PackagingError, match="line 4"):
        deploy.deploy("prod", nobody, region="eu-west-1", parameters=PARAMETERS, say=print)


def test_a_command_goes_by_the_plans_that_are_deployed_not_by_those_of_the_checkout(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_deploy(monkeypatch, FREE.replace("= 0", "= 10"))
    settings = cast("Settings", SimpleNamespace(stage="prod", is_local=False))

    def services() -> stacks.StageServices:
        return stacks.StageServices(settings, lambda *_, **__: aws, cast("Any", None))

    assert services().catalogue == parse_catalogue(FREE)
    newer = FREE + "colour = 1\n"
    monkeypatch.setattr(plan_changes, "_download", lambda _: packed(newer))
    with pytest.raises(deploy.DeployError, match=r"the deployed chalicelib/plans.toml, line 6: .*"):
        services().catalogue  # noqa: B018 - reading it is what is refused
    aws.code = None
    with pytest.raises(deploy.DeployError, match="has no plans"):
        services().catalogue  # noqa: B018 - reading it is what is refused


# --- The parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'TokenIsuer = "https://a.example"',
            "TokenIsuer is no parameter; did you mean TokenIssuer",
        ),
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
    ],
)
def test_a_parameter_that_the_template_would_not_take_is_named_first(
    line: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parameters.toml"
    monkeypatch.setattr(deploy, "PARAMETERS_FILE", file)
    file.write_text(f"[prod]\n{line}\n")
    with pytest.raises(deploy.DeployError) as refused:
        deploy.parameters_of("prod")
    assert str(refused.value).startswith(f"infra/parameters.toml, [prod]: {problem}")


def test_parameters_at_the_limits_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parameters.toml"
    monkeypatch.setattr(deploy, "PARAMETERS_FILE", file)
    file.write_text(
        '[prod]\nMailsASecond = 0\nExpiringSoonDays = 60\nTokenIssuer = ""\nTracing = "Active"\n'
    )
    assert deploy.parameters_of("prod") == {
        "MailsASecond": "0",
        "ExpiringSoonDays": "60",
        "TokenIssuer": "",
        "Tracing": "Active",
    }
