"""Every call that a function makes has its right, and every right its call."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

from tests.crashes.world import functions
from tests.stack.resolved import Json, Stack, Template, resolve
from tests.stack.rights import Right, recorded, used_by_aws

STAGE = "dev"


@pytest.fixture(scope="module")
def stack_of_aws(template: Template) -> Stack:
    """The stage whose names the workflows go by."""
    return resolve(template, STAGE)


@pytest.fixture(scope="module")
def needs(stack_of_aws: Stack) -> dict[str, set[Right]]:
    """By the name of a function, what it needs to be allowed."""
    made = {f"credits-{STAGE}-{name}": rights for name, rights in recorded(stack_of_aws).items()}
    used = used_by_aws(stack_of_aws)
    return {name: made.get(name, set()) | used[name] for name in used}


def policies(stack: Stack) -> dict[str, list[Json]]:
    """By the name of a function, the statements of its role."""
    of_role: dict[str, list[Json]] = {}
    for name, role in stack.of_type("AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in role, "what AWS may change is no right of ours"
        attached = [policy["PolicyDocument"] for policy in role["Policies"]]
        attached += [
            policy["PolicyDocument"]
            for _, policy in stack.of_type("AWS::IAM::Policy")
            if stack.resources[name]["Ref"] in policy["Roles"]
        ]
        of_role[stack.arn(name)] = [s for document in attached for s in document["Statement"]]
    return {
        function["FunctionName"]: of_role[function["Role"]]
        for _, function in stack.of_type("AWS::Lambda::Function")
    }


def allows(statements: list[Json], right: Right) -> bool:
    """What IAM would say, as the emulator evaluates it."""
    context = EvalContext(
        principal_arn="arn:aws:sts::000000000000:assumed-role/function/session",
        principal_type="AssumedRole",
        principal_account="000000000000",
        action=right.action,
        resource_arn=right.resource,
        region="us-east-1",
        service_context=dict(right.context),
    )
    parsed = parse_policy_document({"Statement": statements})
    return bool(evaluate(context, [parsed]).decision == "Allow")


def single(statements: list[Json]) -> Iterator[Json]:
    """Each action on each resource, as a statement by itself."""
    for statement in statements:
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                yield {**statement, "Action": action, "Resource": resource}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_every_call_has_its_right(stack_of_aws: Stack, needs: dict[str, set[Right]]) -> None:
    statements = policies(stack_of_aws)
    refused = [
        f"{function}: {right}"
        for function, rights in needs.items()
        for right in sorted(rights, key=str)
        if not allows(statements[function], right)
    ]
    assert refused == []


def test_every_right_has_its_call(stack_of_aws: Stack, needs: dict[str, set[Right]]) -> None:
    unused = [
        f"{function}: {statement['Action']} on {statement['Resource']}"
        for function, statements in policies(stack_of_aws).items()
        for statement in single(statements)
        if not any(allows([statement], right) for right in needs[function])
    ]
    assert unused == []
