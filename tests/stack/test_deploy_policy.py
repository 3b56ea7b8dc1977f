"""The deploy role: what `make deploy-policy` prints is enough to deploy, and nothing of it is too much."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from infra import deploy, deploy_policy, emulator, local
from infra.local import LocalStack
from infra.session import AwsError
from tests.stack.conftest import Packaged

STAGE = "dev"
ACCOUNT = "000000000000"
ROLE = "deployer"
DOMAIN = "credits.example.com"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def parameters(stack: LocalStack) -> dict[str, str]:
    """Those of a stage with everything: a domain name of its own, and its hosted zone."""
    zone = stack.client("route53").create_hosted_zone(Name="example.com", CallerReference="1")
    certificate = stack.client("acm").request_certificate(DomainName=DOMAIN)
    return local.parameters(stack.issuer, STAGE) | {
        "ApiDomain": DOMAIN,
        "ApiCertificateArn": certificate["CertificateArn"],
        "ApiHostedZoneId": zone["HostedZone"]["Id"].removeprefix("/hostedzone/"),
    }


@pytest.fixture(scope="module")
def policies(packaged: Packaged, parameters: dict[str, str]) -> dict[str, Json]:
    names = deploy_policy.names_of(STAGE, ACCOUNT, emulator.REGION, parameters)
    return deploy_policy.policies(packaged.package.template_for("s3://bucket/code.zip"), names)


@pytest.fixture
def deploy_with(
    stack: LocalStack, packaged: Packaged
) -> Iterator[Callable[..., deploy.Deployment]]:
    """Deploys as a role that has some policies and nothing else."""

    def deploy_with(policies: dict[str, Json], parameters: dict[str, str]) -> deploy.Deployment:
        return deploy.deploy(
            STAGE,
            as_role_with(stack, policies),
            region=emulator.REGION,
            parameters=parameters,
            say=deploy.say_nothing,
            make_package=packaged,
        )

    yield deploy_with
    cloudformation = stack.client("cloudformation")
    cloudformation.delete_stack(StackName=deploy.stack_name(STAGE))
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=deploy.stack_name(STAGE), WaiterConfig={"Delay": 1}
    )


def as_role_with(stack: LocalStack, policies: dict[str, Json]) -> deploy.ClientFactory:
    """Clients of a role that has these policies and no others."""
    iam = stack.client("iam")
    try:
        for name in iam.list_role_policies(RoleName=ROLE)["PolicyNames"]:
            iam.delete_role_policy(RoleName=ROLE, PolicyName=name)
    except iam.exceptions.NoSuchEntityException:
        trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
        iam.create_role(
            RoleName=ROLE,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
    for name, document in policies.items():
        iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=json.dumps(document))
    credentials = stack.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", RoleSessionName="test"
    )["Credentials"]

    def client(service: str) -> Any:
        return botocore.session.get_session().create_client(
            service,
            region_name=emulator.REGION,
            endpoint_url=stack.endpoint_url,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    return client


def without(policies: dict[str, Json], action: str) -> dict[str, Json]:
    """The policies with an action taken out."""
    left: dict[str, Json] = copy.deepcopy(policies)
    for document in left.values():
        for statement in document["Statement"]:
            statement["Action"] = [each for each in statement["Action"] if each != action]
        document["Statement"] = [each for each in document["Statement"] if each["Action"]]
    assert left != policies
    return left


def test_a_role_with_these_policies_and_nothing_else_creates_changes_and_deletes_a_stage(
    stack: LocalStack,
    deploy_with: Callable[..., deploy.Deployment],
    policies: dict[str, Json],
    parameters: dict[str, str],
) -> None:
    plain = {name: value for name, value in parameters.items() if not name.startswith("Api")}
    assert deploy_with(policies, plain).changed
    assert deploy_with(policies, parameters | {"Size": "small", "Tracing": "Active"}).changed
    assert not deploy_with(policies, parameters | {"Size": "small", "Tracing": "Active"}).changed
    assert deploy_with(policies, plain).changed
    as_role_with(stack, policies)("cloudformation").delete_stack(StackName=deploy.stack_name(STAGE))
