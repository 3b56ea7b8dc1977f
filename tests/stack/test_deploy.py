"""Deploying, tried on the emulator with the code that deploys to AWS."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from chalicelib.domain.plans import Plan, PlanCatalogue
from infra import terminal
from infra.deployment import deploy, packaging
from infra.deployment.deployed import Deployment, describe
from infra.deployment.errors import DeployError, StackFailedError
from infra.deployment.parameters import parameters_of
from infra.local import emulator, stacks
from infra.local.stacks import LocalStack
from infra.session import AwsError, CredentialsError
from tests.stack.conftest import Invoke, Packaged, client_with, wait_for

PAST = "2026-03-01T05:00:00Z"


BROKEN = {"Broken": {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": 43_201}}}

Deploy = Callable[..., tuple[Deployment, list[str]]]


@pytest.fixture
def deploy_again(stack: LocalStack, packaged: Packaged) -> Deploy:
    """Deploy to the emulator, with some resources added; the deployment and all that was said."""

    def deploy_again(
        resources: dict[str, Any] | None = None,
        *,
        stage: str = "local",
        confirm: terminal.Confirm = terminal.agree,
    ) -> tuple[Deployment, list[str]]:
        said: list[str] = []
        deployment = deploy.deploy(
            stage,
            stack.client,
            region=emulator.REGION,
            parameters=stacks.parameters(stack.issuer, stage),
            say=said.append,
            say_detail=said.append,
            confirm=confirm,
            make_package=replace(packaged, resources=resources or {}),
        )
        return deployment, said

    return deploy_again


def test_the_stack_comes_up_with_all_its_parts(stack: LocalStack) -> None:
    assert stack.stack == "credits-local"
    assert stack.functions["manual-allocate"] == "credits-local-manual-allocate"
    assert set(stack.functions) == {
        *("allocation-tick", "expiry-tick", "sweep-zone", "allocate-accounts"),
        *("expire-batches", "manual-allocate", "api", "authorizer"),
        *("queue-notifications", "send-notifications", "mail-events"),
        *("check-completeness", "check-zone", "audit-ledgers", "watch-ledger"),
        *("stripe-webhook", "publish-events"),
    }
    assert stack.tables == {
        "ledger": "credits-local-ledger",
        "subscriptions": "credits-local-subscriptions",
        "edits": "credits-local-edits",
        "mails": "credits-local-mails",
        "stripe": "credits-local-stripe",
    }
    assert set(stack.queues) == {
        *("sweeps", "allocations", "expiries"),
        *("sweeps-dlq", "allocations-dlq", "expiries-dlq"),
        *("notifications", "notifications-dlq", "ledger-stream-dlq", "mail-events-dlq"),
        *("checks", "checks-dlq"),
        *("events", "events-dlq", "webhook-dlq"),
    }


def test_the_api_answers(stack: LocalStack) -> None:
    with urllib.request.urlopen(f"{stack.api_url}/api/health", timeout=30) as answer:
        assert json.load(answer)["status"] == "ok"


@pytest.mark.parametrize("tick", ["allocation-tick", "expiry-tick"])
def test_an_admin_replays_a_tick_and_gets_its_answer(invoke: Invoke, tick: str) -> None:
    answer = invoke(tick, {"time": PAST, "zones": ["America/New_York"]})
    assert answer.error is None
    assert answer.payload["success"] is True


def test_a_tick_takes_the_event_that_the_schedule_sends(invoke: Invoke) -> None:
    event = {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:00:00Z}",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/credits-local-allocation-tick"],
        "detail": {},
    }
    answer = invoke("allocation-tick", event)
    assert answer.error is None
    assert answer.payload["success"] is True


def test_what_a_tick_enqueues_is_consumed(stack: LocalStack, invoke: Invoke) -> None:
    invoke("allocation-tick", {"time": PAST})
    sqs = stack.client("sqs")

    def is_empty() -> bool:
        attributes = sqs.get_queue_attributes(
            QueueUrl=stack.queues["sweeps"], AttributeNames=["All"]
        )["Attributes"]
        waiting = int(attributes["ApproximateNumberOfMessages"])
        return waiting + int(attributes["ApproximateNumberOfMessagesNotVisible"]) == 0

    wait_for(is_empty, "the sweeps to be done")


def as_role_of(stack: LocalStack, function: str, service: str) -> Any:
    """A client for `service` that may do what a function of the stack may do."""
    configuration = stack.client("lambda").get_function_configuration(
        FunctionName=stack.functions[function]
    )
    credentials = stack.client("sts").assume_role(
        RoleArn=configuration["Role"], RoleSessionName="test"
    )["Credentials"]
    return client_with(stack, credentials, service)


def refusal(call: Callable[[], object]) -> str:
    """The error code a call is refused with."""
    with pytest.raises(ClientError) as refused:
        call()
    return str(refused.value.response["Error"]["Code"])


@pytest.mark.parametrize("tick", ["allocation-tick", "expiry-tick"])
def test_a_tick_is_refused_every_table(stack: LocalStack, tick: str) -> None:
    dynamodb = as_role_of(stack, tick, "dynamodb")
    item = {"user_id": {"S": "1"}}
    for table in stack.tables.values():
        for call in (
            partial(dynamodb.scan, TableName=table),
            partial(dynamodb.get_item, TableName=table, Key=item),
            partial(dynamodb.put_item, TableName=table, Item=item),
        ):
            assert refusal(call) == "AccessDeniedException"


def test_a_tick_may_enqueue_sweeps_and_nothing_else(stack: LocalStack) -> None:
    sqs = as_role_of(stack, "allocation-tick", "sqs")
    for name in ("allocations", "expiries"):
        send = partial(sqs.send_message, QueueUrl=stack.queues[name], MessageBody="{}")
        assert refusal(send).startswith("AccessDenied")
    receive = partial(sqs.receive_message, QueueUrl=stack.queues["sweeps"])
    assert refusal(receive).startswith("AccessDenied")


def test_a_sweep_may_read_the_indexes_but_not_the_tables(stack: LocalStack) -> None:
    dynamodb = as_role_of(stack, "sweep-zone", "dynamodb")
    query = {
        "TableName": stack.tables["subscriptions"],
        "KeyConditionExpression": "#key = :value",
        "ExpressionAttributeValues": {":value": {"S": "Antarctica/Vostok"}},
    }
    of_zone = query | {
        "IndexName": "by_timezone",
        "ExpressionAttributeNames": {"#key": "allocation_timezone"},
    }
    assert dynamodb.query(**of_zone)["Items"] == []
    of_user = query | {"ExpressionAttributeNames": {"#key": "user_id"}}
    assert refusal(partial(dynamodb.query, **of_user)) == "AccessDeniedException"


@pytest.mark.parametrize(
    "worker",
    ["allocate-accounts", "expire-batches", "manual-allocate", "api", "stripe-webhook"],
)
def test_a_writer_who_appends_to_the_ledger_cannot_change_or_delete_what_is_in_it(
    stack: LocalStack, worker: str
) -> None:
    dynamodb = as_role_of(stack, worker, "dynamodb")
    place = {
        "TableName": stack.tables["ledger"],
        "Key": {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}},
    }
    change = {
        "UpdateExpression": "SET balance = :value",
        "ExpressionAttributeValues": {":value": {"N": "1"}},
    }
    of_user = {
        "KeyConditionExpression": "user_id = :user",
        "ExpressionAttributeValues": {":user": {"S": "nobody"}},
    }
    assert dynamodb.query(TableName=stack.tables["ledger"], **of_user)["Items"] == []
    assert refusal(partial(dynamodb.update_item, **place, **change)) == "AccessDeniedException"
    assert refusal(partial(dynamodb.delete_item, **place)) == "AccessDeniedException"


def test_a_second_deployment_has_nothing_to_change(deploy_again: Deploy) -> None:
    deployment, said = deploy_again()
    assert not deployment.changed
    assert "No changes: stack credits-local is up to date." in said


def test_the_plans_are_compared_with_those_in_the_deployed_code(
    deploy_again: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = packaging.catalogue().plans
    gold = Plan("gold", "Gold", 10, None, lowest=False)
    monkeypatch.setattr(packaging, "catalogue", lambda: PlanCatalogue((*plans, gold)))
    with pytest.raises(DeployError, match=r"Plan 'gold' begins to grant .* grants_since = "):
        deploy_again()
    gold = replace(gold, grants_since=date(2099, 1, 1))
    cheap = replace(plans[0], monthly_credits=1)
    after = PlanCatalogue((cheap, *plans[2:], gold))
    monkeypatch.setattr(packaging, "catalogue", lambda: after)
    _, said = deploy_again()
    assert [line.partition(":")[0] for line in said if line.startswith("Plan ")] == [
        f"Plan {plans[1].id!r} is removed",
        f"Plan {cheap.id!r} grants 1 credits a month, not {plans[0].monthly_credits}, from now on",
        "Plan 'gold' is new",
    ]


def test_a_change_is_shown_and_made_only_when_it_is_confirmed(deploy_again: Deploy) -> None:
    extra = {"Extra": {"Type": "AWS::SQS::Queue"}}
    with pytest.raises(DeployError, match="declined"):
        deploy_again(extra, confirm=lambda: False)
    assert not deploy_again()[0].changed

    deployment, said = deploy_again(extra)
    assert deployment.changed
    assert "  Add     Extra (AWS::SQS::Queue)" in said
    assert said[-1].split()[1:] == [
        "UPDATE_COMPLETE",
        "credits-local",
        "(AWS::CloudFormation::Stack)",
    ]

    _, said = deploy_again()
    assert "  Remove  Extra (AWS::SQS::Queue)" in said


def test_a_stack_that_fails_names_the_first_resource_that_failed_and_why(
    deploy_again: Deploy,
) -> None:
    with pytest.raises(StackFailedError) as failed:
        deploy_again(BROKEN)
    assert failed.value.status == "UPDATE_ROLLBACK_COMPLETE"
    assert failed.value.failure is not None
    assert failed.value.failure.logical_id == "Broken"
    assert "VisibilityTimeout" in failed.value.failure.reason
    assert "Broken (AWS::SQS::Queue)" in str(failed.value)
    assert not deploy_again()[0].changed


def test_a_template_that_makes_no_sense_is_refused_before_anything_changes(
    deploy_again: Deploy,
) -> None:
    nonsense = {"Broken": {"Type": "AWS::Serverless::Function", "Properties": {"Events": 1}}}
    with pytest.raises(AwsError, match="Broken"):
        deploy_again(nonsense)
    assert not deploy_again()[0].changed


def test_a_stage_that_is_not_deployed_is_named(stack: LocalStack) -> None:
    with pytest.raises(DeployError, match="no stack credits-prod"):
        describe("prod", stack.client)


def test_the_artifacts_are_encrypted_and_private(stack: LocalStack) -> None:
    s3 = stack.client("s3")
    bucket = f"credits-artifacts-000000000000-{emulator.REGION}"
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    access = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(access.values()) == {True}


def test_without_credentials_nothing_is_packaged_and_the_caller_is_told() -> None:
    def no_client(_service: str) -> Any:
        raise NoCredentialsError

    with pytest.raises(CredentialsError):
        deploy.deploy("prod", no_client, region="eu-west-1", parameters={}, say=print)


def test_a_stage_that_takes_nobodys_tokens_is_not_deployed_and_the_caller_is_told_what_to_set(
    stack: LocalStack,
) -> None:
    for parameters in ({}, {"TokenIssuer": "https://issuer.example.com", "TokenAudience": ""}):
        with pytest.raises(DeployError, match=r"TokenAudience under \[prod\] in infra/par"):
            deploy.deploy(
                "prod", stack.client, region=emulator.REGION, parameters=parameters, say=print
            )


def test_every_stage_but_the_local_one_has_its_parameters_in_the_file(template: Any) -> None:
    for stage in set(packaging.stages()) - {"local"}:
        assert set(parameters_of(stage)) <= set(template["Parameters"])
    assert set(stacks.parameters("http://127.0.0.1:1")) <= set(template["Parameters"])
    with pytest.raises(DeployError, match=r"\[test\]"):
        parameters_of("test")


def run_deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environment |= {"HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "infra", "deploy", *arguments]
    return subprocess.run(
        command, env=environment, cwd=packaging.ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_says_what_to_do_without_credentials() -> None:
    run = run_deploy("--stage", "prod", "--region", "eu-west-1", "--yes")
    assert run.returncode == 1
    assert "aws sso login" in run.stderr
    assert "make run" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_command_asks_for_a_region() -> None:
    run = run_deploy("--stage", "prod")
    assert run.returncode == 1
    assert "REGION=" in run.stderr


def test_the_command_names_the_stages_there_are() -> None:
    run = run_deploy("--stage", "production")
    assert run.returncode == 2
    assert "dev" in run.stderr
    assert "prod" in run.stderr


def processes(*columns: str) -> list[list[str]]:
    """The living processes (zombies do not count), with the given columns of `ps`."""
    formats = ",".join(f"{column}=" for column in (*columns, "stat"))
    command = ["ps", "-A", "-o", formats]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return [row for row in rows if "Z" not in row[-1]]


def processes_of_group(group: int) -> list[int]:
    return [int(pid) for pid, pgid, _ in processes("pid", "pgid") if int(pgid) == group]


def children_of(process: int) -> list[int]:
    return [int(pid) for pid, parent, _ in processes("pid", "ppid") if int(parent) == process]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_make_up_leaves_nothing_behind_however_it_ends(how: signal.Signals, tmp_path: Path) -> None:
    state_file = tmp_path / "local.json"
    starter = subprocess.Popen(
        [sys.executable, "-m", "infra", "up"],
        cwd=packaging.ROOT,
        env=os.environ | {"CREDITS_STATE_FILE": str(state_file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        printed = json.loads(starter.stdout.readline())
        assert json.loads(state_file.read_text()) == printed
        # A function that has run is a process of its own.
        with urllib.request.urlopen(f"{printed['api_url']}/api/health", timeout=30) as answer:
            assert answer.status == 200
        (group,) = children_of(starter.pid)
        assert len(processes_of_group(group)) >= 2
        starter.send_signal(how)
        status = starter.wait(timeout=30)
    assert status == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    wait_for(lambda: not processes_of_group(group), "the emulator's processes to end")
    assert state_file.exists() == (how is signal.SIGKILL)
    assert not emulator.is_healthy(printed["endpoint_url"])
