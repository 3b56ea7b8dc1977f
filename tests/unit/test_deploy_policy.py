"""The rights of a deploy role: derived from AWS's lists, bound to names, within IAM's limits."""

import json
import os
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from infra.commands.deploy_policy import main
from infra.deployment import deploy_calls, deploy_policy, packaging
from infra.deployment.deploy_calls import ARNS, NAMELESS, ONLY_WITH
from infra.deployment.deploy_policy import (
    HANDLERS,
    calls,
    documents,
    rights,
)
from infra.deployment.errors import DeployError

NAMES = deploy_policy.names_of("prod", "123456789012", "eu-west-1", deploy_policy.EXAMPLE)

Json = dict[str, Any]


def template(resource_type: str, **properties: object) -> Json:
    return {"Resources": {"It": {"Type": resource_type, "Properties": properties}}}


def statements(template: Json, names: deploy_policy.Names = NAMES) -> list[Json]:
    made = documents(rights(template, names))
    return [statement for document in made for statement in document["Statement"]]


def allowed(template: Json, names: deploy_policy.Names = NAMES) -> set[str]:
    return {action for statement in statements(template, names) for action in statement["Action"]}


def property_names(found: Mapping[str, Any]) -> set[str]:
    """Every property of a type, those of its parts included."""
    parts = [found, *found.get("definitions", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}


def test_what_is_called_for_a_property_is_a_right_only_where_the_property_is() -> None:
    function = "AWS::Lambda::Function"
    plain = allowed(template(function, FunctionName="credits-prod-api"))
    assert "lambda:CreateFunction" in plain
    assert not {action for action in plain if action.startswith(("ec2:", "kms:"))}
    bounded = allowed(template(function, ReservedConcurrentExecutions=5))
    assert bounded - plain == {
        "lambda:PutFunctionConcurrency",
        "lambda:DeleteFunctionConcurrency",
    }
    plain_table = allowed(template("AWS::DynamoDB::Table"))
    forgetting = allowed(template("AWS::DynamoDB::Table", TimeToLiveSpecification={}))
    assert forgetting - plain_table == {"dynamodb:UpdateTimeToLive"}
    in_a_network = allowed(template(function, VpcConfig={"SubnetIds": ["subnet-1"]}))
    assert "ec2:DescribeSubnets" in in_a_network - plain


@pytest.mark.parametrize("resource_type", ONLY_WITH)
def test_every_property_that_calls_for_more_is_one_and_what_it_calls_for_is_published(
    resource_type: str,
) -> None:
    """AWS changes its lists: what is named here and there no more would leave nothing out."""
    names = property_names(deploy_policy.published(resource_type))
    names.add("credentials")  # within the body of an API
    every = dict.fromkeys(names)
    called = {action for handler in HANDLERS for action in calls(resource_type, handler, every)}
    for name, patterns in ONLY_WITH[resource_type].items():
        if name is None:
            continue
        assert name in names
        for pattern in patterns.split():
            assert any(fnmatch(action, pattern) for action in called), pattern


@pytest.mark.parametrize("resource_type", ARNS)
def test_aws_says_what_is_called_for_every_type(resource_type: str) -> None:
    assert calls(resource_type, "create", {}), "without a list there would be no rights"


def test_a_type_that_nobody_has_named_is_not_passed_over() -> None:
    with pytest.raises(DeployError, match="AWS::EC2::Instance are called: add it to ARNS"):
        allowed(template("AWS::EC2::Instance"))


def test_a_deployment_reads_and_writes_no_item_of_a_table() -> None:
    table = allowed(template("AWS::DynamoDB::Table", TableName="credits-prod-ledger"))
    assert "dynamodb:CreateTable" in table
    for action in ("Scan", "Query", "GetItem", "PutItem", "UpdateItem", "DeleteItem"):
        assert f"dynamodb:{action}" not in table


def test_what_cloudformation_calls_the_role_cannot_call_itself() -> None:
    own = {action for _, actions in deploy_calls.OWN_CALLS for action in actions}
    for resource_type in ARNS:
        for statement in statements(template(resource_type)):
            if set(statement["Action"]) <= own:
                continue
            condition = statement["Condition"]["ForAnyValue:StringEquals"]
            assert condition == {"aws:CalledVia": "cloudformation.amazonaws.com"}


def test_the_page_shows_every_right_of_a_deployment_itself_and_where_each_type_is() -> None:
    """Of the stage with all that a stage can have; tests/stack compares the whole of it."""
    page = (packaging.ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n({\n  \"credits-prod-deploy-1.*?)```", page, re.DOTALL)
    shown = [each for it in json.loads(example).values() for each in it["Statement"]]
    own = [each for each in shown if "Condition" not in each]
    assert statements({"Resources": {}}) == own
    named = [each["Resource"] for each in shown]
    for resource_type, patterns in ARNS.items():
        assert list(NAMES.arns(patterns)) in named, resource_type


def test_every_right_is_bound_to_names_unless_iam_knows_none() -> None:
    for resource_type in ARNS:
        for statement in statements(template(resource_type)):
            if statement["Resource"] == ["*"]:
                assert set(statement["Action"]) <= NAMELESS | {"cloudwatch:DescribeAlarms"}
            else:
                assert all(arn.startswith("arn:aws:") for arn in statement["Resource"])


def test_a_role_is_passed_to_lambda_alone() -> None:
    found = statements(template("AWS::Lambda::Function"))
    (passing,) = [each for each in found if "iam:PassRole" in each["Action"]]
    assert passing["Action"] == ["iam:PassRole"]
    assert passing["Resource"] == ["arn:aws:iam::123456789012:role/credits-prod-*"]
    assert passing["Condition"]["StringEquals"] == {"iam:PassedToService": "lambda.amazonaws.com"}


def test_the_webhooks_rule_passes_its_role_to_eventbridge_alone() -> None:
    rule = template("AWS::Events::Rule", Targets=[{"RoleArn": "arn"}])
    (passing,) = [each for each in statements(rule) if "iam:PassRole" in each["Action"]]
    assert passing["Condition"]["StringEquals"] == {"iam:PassedToService": "events.amazonaws.com"}
    assert "iam:PassRole" not in allowed(template("AWS::Events::Rule"))


def test_a_webhook_reaches_its_own_secret_and_the_one_that_eventbridge_keeps_of_it() -> None:
    connection = template("AWS::Events::Connection")
    found = {
        arn
        for each in statements(connection)
        if "secretsmanager:CreateSecret" in each["Action"]
        for arn in each["Resource"]
    }
    ours = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
    assert found == {
        f"{ours}credits-prod-webhook-*",
        f"{ours}events!connection/credits-prod-webhook/*",
    }
    (linked,) = [
        each for each in statements(connection) if "iam:CreateServiceLinkedRole" in each["Action"]
    ]
    service = "apidestinations.events.amazonaws.com"
    assert linked["Condition"]["StringEquals"] == {"iam:AWSServiceName": service}
    roles = "arn:aws:iam::123456789012:role/aws-service-role"
    assert linked["Resource"] == [f"{roles}/{service}/*"]


def test_a_stage_without_a_webhook_gives_no_right_to_one() -> None:
    plain = deploy_policy.names_of("prod", "123456789012", "eu-west-1", {})
    for resource_type in ("AWS::Events::Connection", "AWS::Events::ApiDestination"):
        nothing = allowed({"Resources": {}}, plain)
        assert allowed(template(resource_type), plain) == nothing
        assert allowed(template(resource_type)) > nothing


def test_a_mapping_is_one_of_our_functions() -> None:
    found = statements(template("AWS::Lambda::EventSourceMapping"))
    (making,) = [each for each in found if "lambda:CreateEventSourceMapping" in each["Action"]]
    ours = "arn:aws:lambda:eu-west-1:123456789012:function:credits-prod-*"
    assert making["Condition"]["ArnLike"] == {"lambda:FunctionArn": ours}


def test_a_stage_without_a_domain_name_gives_no_right_to_any() -> None:
    plain = deploy_policy.names_of("prod", "123456789012", "eu-west-1", {})
    for resource_type in ("AWS::ApiGateway::DomainName", "AWS::Route53::RecordSet"):
        nothing = allowed({"Resources": {}}, plain)
        assert allowed(template(resource_type), plain) == nothing
        assert allowed(template(resource_type)) > nothing


def test_a_web_acl_is_given_to_the_stages_of_apis_and_no_other_acl_is() -> None:
    found = statements(template("AWS::WAFv2::WebACLAssociation"))
    (giving,) = [each for each in found if "wafv2:AssociateWebACL" in each["Action"]]
    acl = deploy_policy.EXAMPLE["WebAclArn"]
    assert giving["Resource"] == ["arn:aws:apigateway:eu-west-1::/restapis/*/stages/*", acl]


def test_other_partitions_have_other_arns() -> None:
    names = deploy_policy.names_of("prod", "123456789012", "cn-north-1", {})
    found = statements(template("AWS::SQS::Queue"), names)
    assert {arn[:11] for each in found for arn in each["Resource"] if arn != "*"} == {"arn:aws-cn:"}


@pytest.mark.parametrize("before", ["us-east-1", None])
def test_the_region_of_this_machine_is_what_it_was_after_a_template_was_transformed(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    if before:
        monkeypatch.setenv("AWS_DEFAULT_REGION", before)
    found = packaged()
    deploy_policy.transformed(found, "cn-north-1")
    assert found == packaged(), "it is still to be deployed"
    assert os.environ.get("AWS_DEFAULT_REGION") == before


def packaged() -> dict[str, Any]:
    properties = {"CodeUri": "s3://bucket/code.zip", "Handler": "app.api", "Runtime": "python3.11"}
    function = {"Type": "AWS::Serverless::Function", "Properties": properties}
    return {"Globals": {"Function": {"Timeout": 5}}, "Resources": {"Api": function}}


def test_the_policies_of_a_stage_are_numbered_from_one() -> None:
    found = deploy_policy.policies(packaged(), NAMES)
    assert [*found] == [f"{NAMES.stack}-deploy-{number}" for number in range(1, len(found) + 1)]


def test_policies_are_written_as_json_with_their_actions_in_order() -> None:
    many = {"Resources": {kind: {"Type": kind} for kind in ARNS}}
    made = {str(number): each for number, each in enumerate(documents(rights(many, NAMES)))}
    assert len(made) > 1
    assert json.loads(deploy_policy.text_of(made)) == made
    for document in made.values():
        for statement in document["Statement"]:
            assert statement["Action"] == sorted(statement["Action"])


def test_what_iam_takes_no_more_of_goes_into_another_document_and_nothing_is_lost() -> None:
    many = [
        deploy_policy.Right(f"sqs:Action{number}", (f"arn:aws:sqs:::{number}",))
        for number in range(200)
    ]
    made = documents(many)
    assert len(made) > 1
    for document in made:
        assert len(json.dumps(document, separators=(",", ":"))) <= deploy_policy.LARGEST_POLICY
    found = {action for each in made for part in each["Statement"] for action in part["Action"]}
    assert found == {right.action for right in many}


@pytest.mark.parametrize("account", ["12345", "abcdefghijkl", "1234567890123", ""])
def test_an_account_has_twelve_digits(account: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--stage", "prod", "--region", "eu-west-1", "--account", account])
    assert ended.value.code == 2
    assert "the twelve digits of an AWS account" in capsys.readouterr().err


def test_a_region_that_cannot_be_one_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--stage", "prod", "--region", "Ireland", "--account", "123456789012"]
    assert main(words) == 1
    assert "REGION must be a region of AWS" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_told_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policies"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["--stage", "prod", "--out", str(file)])
    assert ended.value.code == 2
    assert "--out: must be a folder" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "mine"
