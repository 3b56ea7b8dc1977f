"""The deploy role: what `make deploy-policy` prints is enough to deploy with, and is needed."""

import copy
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from bench import cost
from infra import terminal
from infra.deployment import deploy, deploy_policy, packaging
from infra.deployment.deployed import Deployment
from infra.deployment.errors import StackFailedError
from infra.deployment.stack_facts import stack_name
from infra.doctor.examination import ACCOUNT as BEFORE
from infra.doctor.examination import examine
from infra.doctor.finding import State
from infra.doctor.site import Site
from infra.local import emulator, stacks
from infra.local.stacks import LocalStack
from infra.session import AwsError, Clients
from tests.stack.conftest import Packaged, client_with

STAGE = "dev"
ACCOUNT = "000000000000"
ROLE = "deployer"
# One that leads to this machine: the local stack answers to no other (infra/local/guard.py).
DOMAIN = "credits.localhost"
WRITES_LOGS: Any = {
    "op": "replace",
    "path": "/cloudwatchRoleArn",
    "value": f"arn:aws:iam::{ACCOUNT}:role/api-gateway-writes-logs",
}

Json = dict[str, Any]
DeployWith = Callable[[dict[str, Json], dict[str, str]], Deployment]


@pytest.fixture(scope="module")
def parameters(stack: LocalStack) -> dict[str, str]:
    """Those of a stage with everything: a domain name, its hosted zone, and an access log."""
    zone = stack.client("route53").create_hosted_zone(Name="localhost", CallerReference="1")
    certificate = stack.client("acm").request_certificate(DomainName=DOMAIN)
    stack.client("apigateway").update_account(patchOperations=[WRITES_LOGS])
    return stacks.parameters(stack.issuer, STAGE) | {
        "ApiDomain": DOMAIN,
        "ApiCertificateArn": certificate["CertificateArn"],
        "ApiHostedZoneId": zone["HostedZone"]["Id"].removeprefix("/hostedzone/"),
        "AccessLogs": "on",
    }


@pytest.fixture(scope="module")
def policies(packaged: Packaged, parameters: dict[str, str]) -> dict[str, Json]:
    names = deploy_policy.names_of(STAGE, ACCOUNT, emulator.REGION, parameters)
    return deploy_policy.policies(packaged.package.template_for("s3://bucket/code.zip"), names)


@pytest.fixture(scope="module")
def deploy_with(stack: LocalStack, packaged: Packaged) -> DeployWith:
    """Deploys as a role that has some policies and nothing else."""

    def deploy_with(policies: dict[str, Json], parameters: dict[str, str]) -> Deployment:
        return deploy.deploy(
            STAGE,
            as_role_with(stack, policies),
            region=emulator.REGION,
            parameters=parameters,
            say=terminal.say_nothing,
            make_package=packaged,
        )

    return deploy_with


@pytest.fixture(scope="module")
def deployed(
    stack: LocalStack,
    deploy_with: DeployWith,
    policies: dict[str, Json],
    parameters: dict[str, str],
) -> Iterator[Deployment]:
    """The stage, created by the role, and deleted by it in the end."""
    deployment = deploy_with(policies, parameters)
    yield deployment
    as_role_with(stack, policies)("cloudformation").delete_stack(StackName=deployment.stack)
    waiter = stack.client("cloudformation").get_waiter("stack_delete_complete")
    # Raises if a right to delete is missing.
    waiter.wait(StackName=deployment.stack, WaiterConfig={"Delay": 1})


def as_role_with(stack: LocalStack, policies: dict[str, Json]) -> Clients:
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
    return partial(client_with, stack, credentials)


def without(policies: dict[str, Json], action: str) -> dict[str, Json]:
    """The policies with an action taken out."""
    left: dict[str, Json] = copy.deepcopy(policies)
    for document in left.values():
        for statement in document["Statement"]:
            statement["Action"] = [each for each in statement["Action"] if each != action]
        document["Statement"] = [each for each in document["Statement"] if each["Action"]]
    assert left != policies
    return left


def test_the_doctor_has_every_right_it_takes_before_a_first_deployment_and_before_another(
    stack: LocalStack,
    policies: dict[str, Json],
    parameters: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    client = as_role_with(stack, policies)

    def unknown() -> list[str]:
        site = Site(
            STAGE,
            stack_name(STAGE),
            ACCOUNT,
            emulator.REGION,
            "the emulator",
            parameters,
            lambda service, **_: client(service),
            datetime.now(UTC),
            resolve=lambda *_: [],
        )
        return [each.says for each in examine(BEFORE, site) if each.state is State.UNKNOWN]

    assert unknown() == []
    request.getfixturevalue("deployed")
    client = as_role_with(stack, policies)
    assert unknown() == []


def test_a_role_with_these_policies_and_nothing_else_creates_a_stage_and_deletes_it(
    deployed: Deployment,
) -> None:
    assert deployed.changed
    assert deployed.api_url == f"https://{DOMAIN}/v1"


def test_it_changes_the_stage_to_and_fro(
    stack: LocalStack,
    deployed: Deployment,
    deploy_with: DeployWith,
    policies: dict[str, Json],
    parameters: dict[str, str],
) -> None:
    small = parameters | {"Size": "small", "Tracing": "Active", "ApiHostedZoneId": ""}
    assert deploy_with(policies, small).changed
    assert not deploy_with(policies, small).changed
    alarms = stack.client("cloudwatch").get_paginator("describe_alarms")
    pages = alarms.paginate(AlarmNamePrefix=f"{deployed.stack}-")
    assert sum(len(page["MetricAlarms"]) for page in pages) == cost.ALARMS[cost.Size.SMALL]
    assert deploy_with(policies, parameters).changed


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    "action",
    [
        # What the command calls itself.
        "s3:PutObject",
        "s3:GetObject",
        "lambda:GetFunction",
        "cloudwatch:DescribeAlarms",
        "cloudformation:CreateChangeSet",
        "cloudformation:ExecuteChangeSet",
        # What CloudFormation calls: to change a function, give roles a policy, email an alarm.
        "lambda:UpdateFunctionConfiguration",
        "iam:PassRole",
        "iam:PutRolePolicy",
        "sns:Subscribe",
    ],
)
def test_with_a_right_taken_out_the_stage_stays_as_it_is_and_the_right_is_named(
    action: str,
    deploy_with: DeployWith,
    policies: dict[str, Json],
    parameters: dict[str, str],
) -> None:
    changed = parameters | {
        "AlarmEmail": "ops@example.com",
        "ExpiringSoonDays": "5",
        "Tracing": "Active",
    }
    with pytest.raises(AwsError, match=f"is not authorized to perform: {action}"):
        deploy_with(without(policies, action), changed)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("transform", ["LanguageExtensions", "Serverless-2016-10-31"])
def test_without_the_right_to_a_transform_of_the_template_there_is_no_change_set(
    transform: str,
    deploy_with: DeployWith,
    policies: dict[str, Json],
    parameters: dict[str, str],
) -> None:
    renamed = json.loads(json.dumps(policies).replace(f"transform/{transform}", "transform/Other"))
    assert renamed != policies
    with pytest.raises(AwsError, match=f"CreateChangeSet on resource: .*transform/{transform}"):
        deploy_with(renamed, parameters)


def test_the_domain_name_leads_to_the_api_and_its_authorizer(
    stack: LocalStack, deployed: Deployment
) -> None:
    port = urlsplit(stack.endpoint_url).port

    def ask(path: str, **headers: str) -> int:
        request = urllib.request.Request(
            f"{stack.endpoint_url}/v1/api/{path}", headers={"Host": f"{DOMAIN}:{port}", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    assert deployed.outputs["ApiDomainTarget"]
    assert ask("health") == 200
    assert ask("plans") == 401
    assert ask("plans", Authorization=f"Bearer {stack.token('1')}") == 200


def test_the_links_in_emails_lead_to_the_domain_name(
    stack: LocalStack, deployed: Deployment
) -> None:
    function = stack.client("lambda").get_function_configuration(
        FunctionName=deployed.functions["send-notifications"]
    )
    url = function["Environment"]["Variables"]["UNSUBSCRIBE_URL"]
    assert url == f"https://{DOMAIN}/v1/api/unsubscribe"


@pytest.mark.usefixtures("deployed")
def test_a_name_server_of_route_53_leads_there_by_either_address(
    stack: LocalStack, parameters: dict[str, str]
) -> None:
    records = stack.client("route53").list_resource_record_sets(
        HostedZoneId=parameters["ApiHostedZoneId"]
    )["ResourceRecordSets"]
    targets = {
        record["Type"]: record["AliasTarget"]["DNSName"]
        for record in records
        if record["Name"] == f"{DOMAIN}."
    }
    assert set(targets) == {"A", "AAAA"}
    assert len(set(targets.values())) == 1


@pytest.mark.usefixtures("deployed")
def test_a_certificate_that_the_region_does_not_have_is_refused_and_nothing_changes(
    deploy_with: DeployWith, policies: dict[str, Json], parameters: dict[str, str]
) -> None:
    unknown = f"arn:aws:acm:{emulator.REGION}:{ACCOUNT}:certificate/0"
    with pytest.raises(StackFailedError, match=r"ApiDomainName .* no certificate"):
        deploy_with(policies, parameters | {"ApiCertificateArn": unknown})


@pytest.mark.usefixtures("deployed")
def test_by_itself_the_role_reads_no_table_and_makes_nothing(
    stack: LocalStack, policies: dict[str, Json]
) -> None:
    client = as_role_with(stack, policies)
    for call in (
        partial(client("dynamodb").scan, TableName=f"credits-{STAGE}-ledger"),
        partial(client("dynamodb").delete_table, TableName=f"credits-{STAGE}-ledger"),
        partial(client("sqs").create_queue, QueueName=f"credits-{STAGE}-mine"),
        partial(client("iam").delete_role, RoleName=ROLE),
        partial(client("cloudformation").delete_stack, StackName=stack.stack),
    ):
        with pytest.raises(ClientError, match="not authorized"):
            call()


def test_the_page_shows_the_policies_of_the_example(template: Json) -> None:
    names = deploy_policy.names_of("prod", "123456789012", "eu-west-1", deploy_policy.EXAMPLE)
    page = (packaging.ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    made = deploy_policy.policies(template, names)
    assert deploy_policy.text_of(made) in page
    for document in made.values():
        assert len(json.dumps(document, separators=(",", ":"))) <= deploy_policy.LARGEST_POLICY
