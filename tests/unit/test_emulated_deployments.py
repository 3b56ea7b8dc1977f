"""The emulator's CloudFormation refuses, keeps and imports what AWS's does."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ministack.services import (
    acm,
    apigateway_v1,
    cloudwatch,
    cloudwatch_logs,
    dynamodb,
    eventbridge,
    iam,
    lambda_svc,
    s3,
    secretsmanager,
    ses_v2,
    sns,
    sqs,
)
from ministack.services.cloudformation import changesets, engine, provisioners, stacks

from infra.local import emulated_deployments

Json = dict[str, Any]


class Handlers:
    """In place of what the emulator has for a type of resource: it notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        self.done: list[Any] = []
        self.of: dict[str, Any] = {
            name: self._doing(name) for name in ("create", "update", "delete")
        }
        monkeypatch.setitem(provisioners._RESOURCE_HANDLERS, kind, self.of)

    def _doing(self, what: str) -> Callable[..., tuple[str, Json]]:
        def do(*asked: Any) -> tuple[str, Json]:
            self.done.append((what, *asked))
            return "id", {"did": what}

        return do


def test_an_api_takes_a_domain_name_only_with_a_certificate_of_its_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acm, "_certificates", {"arn:there": {}})
    monkeypatch.setattr(apigateway_v1, "_create_domain_name", lambda data: (201, data, b"made"))
    emulated_deployments._ask_for_a_certificate_of_the_region()
    asked = {"regionalCertificateArn": "arn:there", "domainName": "api.example.com"}
    assert apigateway_v1._create_domain_name(asked) == (201, asked, b"made")
    for wrong in ({"regionalCertificateArn": "arn:elsewhere"}, {}):
        status, headers, body = apigateway_v1._create_domain_name(wrong)
        assert (status, headers) == (400, {"Content-Type": "application/json"})
        named = wrong.get("regionalCertificateArn", "")
        assert json.loads(body) == {
            "message": f"there is no certificate {named} in this region",
            "__type": "BadRequestException",
        }


def test_no_stack_deletes_a_table_that_is_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {
        "kept": {"DeletionProtectionEnabled": True},
        "open": {"DeletionProtectionEnabled": False},
    }
    monkeypatch.setattr(dynamodb, "_tables", tables)
    handlers = Handlers(monkeypatch, "AWS::DynamoDB::Table")
    emulated_deployments._keep_protected_tables()
    with pytest.raises(ValueError, match="currently protected against deletion"):
        handlers.of["delete"]("kept", {"x": 1})
    for name in ("open", "gone"):
        handlers.of["delete"](name, {"x": 1})
    assert handlers.done == [("delete", "open", {"x": 1}), ("delete", "gone", {"x": 1})]


def test_a_bucket_has_the_lock_of_its_template(monkeypatch: pytest.MonkeyPatch) -> None:
    locks: Json = {}
    monkeypatch.setattr(s3, "_bucket_object_lock", locks)
    handlers = Handlers(monkeypatch, "AWS::S3::Bucket")
    emulated_deployments._lock_what_a_bucket_is_to_lock()

    def locked(days: object) -> Json:
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
        return {"ObjectLockEnabled": True, "ObjectLockConfiguration": {"Rule": rule}}

    assert handlers.of["create"]("Id", {}, "stack") == ("id", {"did": "create"})
    assert locks == {}
    assert handlers.of["create"]("Id", locked("400"), "stack") == ("id", {"did": "create"})
    retention = {"Mode": "COMPLIANCE", "Days": 400}
    assert locks == {"id": {"enabled": True, "default_retention": retention}}
    assert handlers.of["update"]("name", locked(1), locked(2), "stack") == ("id", {"did": "update"})
    assert locks["id"]["default_retention"]["Days"] == 2
    handlers.of["update"]("name", locked(1), {"ObjectLockEnabled": True}, "stack")
    assert locks == {"id": {"enabled": True, "default_retention": None}}
    assert [asked[1:] for asked in handlers.done[-2:]] == [
        ("name", locked(1), locked(2), "stack"),
        ("name", locked(1), {"ObjectLockEnabled": True}, "stack"),
    ]


TAKEN: list[tuple[str, str, Any, str, Any]] = [
    ("CloudWatch::Alarm", "AlarmName", cloudwatch, "_alarms", {"one": {}}),
    ("CloudWatch::Dashboard", "DashboardName", cloudwatch, "_dashboards", {"one": {}}),
    ("DynamoDB::Table", "TableName", dynamodb, "_tables", {"one": {}}),
    ("Events::EventBus", "Name", eventbridge, "_event_buses", {"one": {}}),
    ("Events::Rule", "Name", eventbridge, "_rules", {"bus|one": {"Name": "one"}}),
    ("IAM::Role", "RoleName", iam, "_roles", {"one": {}}),
    ("Lambda::Function", "FunctionName", lambda_svc, "_functions", {"one": {}}),
    ("Logs::LogGroup", "LogGroupName", cloudwatch_logs, "_log_groups", {"one": {}}),
    ("SES::ConfigurationSet", "Name", ses_v2, "_config_sets", {"one": {}}),
    ("SES::EmailIdentity", "EmailIdentity", ses_v2, "_identities", {"one": {}}),
    ("SecretsManager::Secret", "Name", secretsmanager, "_secrets", {"one": {}}),
    ("SNS::Topic", "TopicName", sns, "_topics", {"arn:aws:sns:eu-west-1:1:one": {}}),
    ("SQS::Queue", "QueueName", sqs, "_queue_name_to_url", {"one": "http://one"}),
]
"""By type: the property that is its name, and where the emulator keeps those that are taken."""


@pytest.mark.parametrize(("kind", "named", "module", "kept", "there"), TAKEN)
def test_nothing_is_created_under_a_name_that_is_taken(
    kind: str, named: str, module: Any, kept: str, there: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, kept, there)
    monkeypatch.setattr(stacks, "_provision_resource", lambda *asked: asked)
    emulated_deployments._refuse_taken_names()
    with pytest.raises(ValueError, match=f"type 'AWS::{kind}' with identifier 'one' already exist"):
        stacks._provision_resource(f"AWS::{kind}", "Id", {named: "one"}, "stack")
    for kind_, properties in (
        (kind, {named: "two"}),
        (kind, {"Other": "one"}),
        ("Other::Type", {named: "one"}),
    ):
        asked = (f"AWS::{kind_}", "Id", properties, "stack")
        assert stacks._provision_resource(*asked) == asked


def test_the_name_of_a_queue_rests_for_a_minute_of_the_stacks_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("")
    monkeypatch.setenv("CLOCK_FILE", str(clock))
    now = [10.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    handlers = Handlers(monkeypatch, "AWS::SQS::Queue")
    emulated_deployments._rest_names_of_queues()
    one, two = {"QueueName": "one"}, {"QueueName": "two"}
    create, delete = handlers.of["create"], handlers.of["delete"]
    create("One", one, "stack")
    delete("http://one", one)
    delete("http://unnamed", {})
    for late in ("", "0", "59.9"):
        clock.write_text(late)
        with pytest.raises(ValueError, match="You must wait 60 seconds"):
            create("One", one, "stack")
    create("Two", two, "stack")
    create("Unnamed", {}, "stack")
    clock.write_text("30")
    now[0] = 40.0
    assert create("One", one, "stack") == ("id", {"did": "create"})
    assert [asked[:2] for asked in handlers.done] == [
        ("create", "One"),
        ("delete", "http://one"),
        ("delete", "http://unnamed"),
        ("create", "Two"),
        ("create", "Unnamed"),
        ("create", "One"),
    ]


def test_a_queue_that_could_not_be_deleted_keeps_its_name_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clock").write_text("0")
    monkeypatch.setenv("CLOCK_FILE", str(tmp_path / "clock"))
    handlers = Handlers(monkeypatch, "AWS::SQS::Queue")

    def fail(*_: Any) -> None:
        raise LookupError

    handlers.of["delete"] = fail
    emulated_deployments._rest_names_of_queues()
    with pytest.raises(LookupError):
        handlers.of["delete"]("http://one", {"QueueName": "one"})
    assert handlers.of["create"]("One", {"QueueName": "one"}, "stack")[0] == "id"


@pytest.mark.parametrize(
    "status", ["ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"]
)
def test_a_stack_keeps_what_its_rollback_could_not_delete(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def known(name: str, _id: str, stack: Json, operation: Json, *rest: Any) -> None:
        seen.append((name, _id, operation, rest))
        stack["StackStatus"] = status
        stack["_resources"].clear()
        stack["_rollback_failed"] = ["Kept", "Too"]

    monkeypatch.setattr(stacks, "_roll_back_operation", known)
    monkeypatch.setattr(
        engine, "_evaluate_conditions", lambda template, parameters: {"of": (template, parameters)}
    )
    emulated_deployments._keep_what_a_rollback_cannot_delete()
    made = {"PhysicalResourceId": "p", "ResourceStatus": "CREATE_COMPLETE"}
    stack: Json = {"_resources": {"Kept": made, "Gone": made, "Too": made}}
    operation = {"template": {"t": 1}, "param_values": {"p": 1}}
    asyncio.run(stacks._roll_back_operation("name", "id", stack, operation, "more"))
    assert seen == [("name", "id", operation, ("more",))]
    if status != "ROLLBACK_FAILED":
        assert (stack["_resources"], "_template" in stack) == ({}, False)
        return
    kept = {"PhysicalResourceId": "p", "ResourceStatus": "DELETE_FAILED"}
    assert stack["_resources"] == {"Kept": kept, "Too": kept}
    assert stack["_template"] == {"t": 1}
    assert stack["_resolved_params"] == {"p": 1}
    assert stack["_conditions"] == {"of": ({"t": 1}, {"p": 1})}


def test_a_secret_is_imported_by_its_arn(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "AWS::SecretsManager::Secret"
    handlers = Handlers(monkeypatch, kind)
    secrets = {"a": {"ARN": "arn:a-AbCdEf"}, "b": {"ARN": "arn:b-AbCdEf"}}
    monkeypatch.setattr(secretsmanager, "_secrets", secrets)
    monkeypatch.setitem(changesets._IMPORT_LOOKUPS, kind, None)
    emulated_deployments._import_secrets()
    arn = "arn:b-AbCdEf"
    assert handlers.of["import"]({"Id": arn}) == ("b", {"Id": arn, "Arn": arn})
    keys, problem = changesets._IMPORT_LOOKUPS[kind]
    assert (keys, problem(arn), problem("b")) == (("Id",), None, "b was not found.")
    assert problem("arn:b") == "arn:b was not found.", "a part of an ARN is not an ARN"
