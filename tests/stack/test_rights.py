"""Every call that a function makes has its right, and every right its call."""

from collections.abc import Iterator

import pytest
from ministack.core.iam_evaluator import (
    EvalContext,
    evaluate,
    evaluate_resource_policy,
    parse_policy_document,
)

from tests.stack.resolved import Json, Stack, Template, resolve
from tests.stack.rights import Right, asked_by_services, own_policies, recorded, used_by_aws
from tests.stack.test_template import as_list

STAGE = "dev"


@pytest.fixture(scope="module")
def stack_of_aws(selling: Template) -> Stack:
    """The stage whose names the workflows go by."""
    return resolve(selling, STAGE)


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


def context_of(right: Right) -> EvalContext:
    return EvalContext(
        principal_arn="arn:aws:sts::000000000000:assumed-role/function/session",
        principal_type="AssumedRole",
        principal_account="000000000000",
        action=right.action,
        resource_arn=right.resource,
        region="us-east-1",
        service_context={
            name: [*value] if isinstance(value, tuple) else value for name, value in right.context
        },
        # The SDK and the services of AWS speak nothing else.
        secure_transport=True,
    )


def allows(statements: list[Json], right: Right) -> bool:
    """What IAM would say, as the emulator evaluates it."""
    parsed = parse_policy_document({"Statement": statements})
    return bool(evaluate(context_of(right), [parsed]).decision == "Allow")


def allows_service(statements: list[Json], service: str, right: Right) -> bool:
    """What the policy of a resource says to a service of AWS."""
    document, principal = {"Statement": statements}, f"{service}.amazonaws.com"
    decided = evaluate_resource_policy(document, context_of(right), service=principal)
    return bool(decided.decision == "Allow")


def single(statements: list[Json]) -> Iterator[Json]:
    """Each action on each resource, as a statement by itself."""
    for statement in statements:
        for action in as_list(statement["Action"]):
            for resource in as_list(statement["Resource"]):
                yield {**statement, "Action": action, "Resource": resource}


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


def test_every_call_of_a_service_of_aws_has_its_right(stack_of_aws: Stack) -> None:
    statements: dict[str, list[Json]] = {}
    for resource, found in own_policies(stack_of_aws):
        statements.setdefault(resource, []).extend(found)
    refused = [
        f"{service}: {right}"
        for service, right in sorted(asked_by_services(stack_of_aws), key=str)
        if not allows_service(statements.get(right.resource, []), service, right)
    ]
    assert refused == []


ADMINISTERS = "AccountAdministers"
"""The account itself: without that nobody could mend the key (AWS KMS Developer Guide)."""


def test_every_right_that_a_resource_gives_has_its_call(stack_of_aws: Stack) -> None:
    asked = asked_by_services(stack_of_aws)
    unused = [
        f"{statement['Principal']}: {statement['Action']} on {resource}"
        for resource, statements in own_policies(stack_of_aws)
        for statement in single(statements)
        if statement["Effect"] == "Allow"
        and statement.get("Sid") != ADMINISTERS
        and not any(allows_service([statement], service, right) for service, right in asked)
    ]
    assert unused == []


def test_a_call_without_a_right_and_a_right_without_a_call_are_noticed(
    stack_of_aws: Stack, needs: dict[str, set[Right]]
) -> None:
    """Each action on each resource of each role, taken away by itself, is missed by some call."""
    for function, statements in policies(stack_of_aws).items():
        alone = list(single(statements))
        for place, statement in enumerate(alone):
            others = alone[:place] + alone[place + 1 :]
            missed = [right for right in needs[function] if not allows(others, right)]
            assert missed, f"{function}: {statement['Action']} on {statement['Resource']} is double"
