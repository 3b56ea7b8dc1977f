"""The first deployment of production fails somewhere, and the next one is not in its way."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import pytest

from infra import deploy, emulator, local, retained
from infra.local import LocalStack
from infra.session import AwsError
from tests.stack.conftest import Packaged

STACK = "credits-prod"
TABLES = {"LedgerTable", "SubscriptionsTable", "MailsTable"}

Template = dict[str, Any]

# With them, everything in the template is made.
OPTIONS = {"Tracing": "Active", "AlarmEmail": "ops@example.com"}

# What is in the template as SAM has transformed it; `types_of` holds this list to it.
TYPES = (
    *("AWS::ApiGateway::Deployment", "AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage"),
    *("AWS::ApiGateway::UsagePlan", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"),
    *("AWS::DynamoDB::Table", "AWS::Events::Rule", "AWS::IAM::Policy", "AWS::IAM::Role"),
    *("AWS::KMS::Key", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function"),
    *("AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::S3::Bucket"),
    *("AWS::SES::ConfigurationSet", "AWS::SES::ConfigurationSetEventDestination"),
    *("AWS::SES::EmailIdentity", "AWS::SNS::Subscription", "AWS::SNS::Topic"),
    *("AWS::SNS::TopicPolicy", "AWS::SQS::Queue", "AWS::SecretsManager::Secret"),
)


@dataclass
class Account:
    """An account of AWS into which production is deployed."""

    stack: LocalStack
    packaged: Packaged
    template: Template
    said: list[str] = field(default_factory=list)

    @cached_property
    def client(self) -> Callable[[str], Any]:
        return cache(self.stack.client)

    def deploy(
        self, template: Template | None = None, confirm: deploy.Confirm = deploy.agree
    ) -> deploy.Deployment:
        """What `make deploy STAGE=prod` does, by default with one resource of each type."""
        package = replace(self.packaged.package, template=template or self.template)
        self.said.clear()
        return deploy.deploy(
            "prod",
            self.client,
            region=emulator.REGION,
            parameters=local.parameters(self.stack.issuer, "prod") | OPTIONS,
            say=self.said.append,
            say_detail=self.said.append,
            confirm=confirm,
            make_package=replace(self.packaged, package=package),
        )

    def fail(self, template: Template) -> deploy.StackFailedError:
        with pytest.raises(deploy.StackFailedError) as failed:
            self.deploy(template)
        return failed.value

    def delete_stack(self) -> None:
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName=STACK)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 1}
        )

    def tables(self) -> dict[str, bool]:
        """The tables there are, and whether each is protected."""
        dynamodb = self.client("dynamodb")
        found = [name for name in dynamodb.list_tables()["TableNames"] if name.startswith(STACK)]
        return {
            name: dynamodb.describe_table(TableName=name)["Table"]["DeletionProtectionEnabled"]
            for name in found
        }

    def clear(self) -> None:
        """Everything of production goes."""
        self.delete_stack()
        dynamodb, s3 = self.client("dynamodb"), self.client("s3")
        for table, is_protected in self.tables().items():
            if is_protected:
                dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
            dynamodb.delete_table(TableName=table)
        for bucket in s3.list_buckets()["Buckets"]:
            if bucket["Name"].startswith(STACK):
                for version in s3.list_object_versions(Bucket=bucket["Name"]).get("Versions", []):
                    s3.delete_object(
                        Bucket=bucket["Name"], Key=version["Key"], VersionId=version["VersionId"]
                    )
                s3.delete_bucket(Bucket=bucket["Name"])
        secrets = self.client("secretsmanager")
        for secret in secrets.list_secrets()["SecretList"]:
            if secret["Name"].startswith(STACK):
                secrets.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)


@pytest.fixture(scope="module")
def transformed(stack: LocalStack, packaged: Packaged) -> Template:
    """The template of production as CloudFormation has transformed it."""
    account = Account(stack, packaged, packaged.package.template)
    cloudformation = stack.client("cloudformation")
    found: list[Template] = []

    def look() -> bool:
        (change_set,) = cloudformation.list_change_sets(StackName=STACK)["Summaries"]
        answer = cloudformation.get_template(
            StackName=STACK, ChangeSetName=change_set["ChangeSetName"], TemplateStage="Processed"
        )
        body = answer["TemplateBody"]
        found.append(json.loads(body) if isinstance(body, str) else body)
        return False

    with pytest.raises(deploy.DeployError, match="declined"):
        account.deploy(confirm=look)
    (template,) = found
    for table in TABLES:
        protected = packaged.package.template["Resources"][table]["Properties"]
        template["Resources"][table]["Properties"] = protected
    return template


@pytest.fixture(scope="module")
def account(stack: LocalStack, packaged: Packaged, transformed: Template) -> Account:
    return Account(stack, packaged, one_of_each(transformed))


@pytest.fixture(autouse=True)
def _clear(account: Account) -> Iterator[None]:
    yield
    account.clear()


def needs(resources: Template) -> dict[str, set[str]]:
    """What each resource cannot be made without: itself, too."""
    found = {
        name: {word for words in _NAMES.findall(json.dumps(resource)) for word in words}
        & resources.keys()
        | {name}
        for name, resource in resources.items()
    }
    known = 0
    while known != (known := sum(map(len, found.values()))):
        found = {
            name: set[str]().union(*(found[other] for other in needed))
            for name, needed in found.items()
        }
    return found


_NAMES = re.compile(r'"(\w+)"|\$\{(\w+)')


def one_of_each(template: Template) -> Template:
    """The template with what is kept, and of each type as little as can be."""
    lean = {
        name: resource | {"Properties": resource["Properties"] | _LEAN.get(resource["Type"], {})}
        for name, resource in template["Resources"].items()
    }
    needed = needs(lean)
    chosen = {name for name, resource in lean.items() if "DeletionPolicy" in resource}
    for kind in types_of(template):
        least = [needed[name] - chosen for name in lean if lean[name]["Type"] == kind]
        chosen |= min(least, key=len)
    outputs = {name: template["Outputs"][name] for name in ("RestAPIId", "EndpointURL")}
    kept = {name: resource for name, resource in lean.items() if name in chosen}
    return template | {"Resources": kept, "Outputs": outputs}


# What names many others, without them.
_LEAN: dict[str, Template] = {
    "AWS::CloudWatch::Dashboard": {"DashboardBody": '{"widgets": []}'},
    "AWS::IAM::Policy": {"Roles": [{"Ref": "AuthorizerRole"}]},
}


def types_of(template: Template) -> list[str]:
    return sorted({resource["Type"] for resource in template["Resources"].values()})


def breaking(template: Template, kind: str) -> Template:
    """The template with a resource of a type that cannot be made, after all that can be by then."""
    resources = template["Resources"]
    name = next(name for name, resource in resources.items() if resource["Type"] == kind)
    before = [other for other, needed in needs(resources).items() if name not in needed]
    resource = resources[name]
    broken = resource | {
        "DependsOn": before,
        "Properties": resource["Properties"] | {"Broken": "{{resolve:secretsmanager:no-such}}"},
    }
    return template | {"Resources": resources | {name: broken}}


def test_the_types_are_those_of_the_template(account: Account, transformed: Template) -> None:
    assert types_of(account.template) == types_of(transformed) == sorted(TYPES)
    assert len(account.template["Resources"]) < 60


@pytest.mark.parametrize("kind", TYPES)
def test_a_first_deployment_that_fails_at_any_type_is_followed_by_one_that_succeeds(
    account: Account, kind: str
) -> None:
    failed = account.fail(breaking(account.template, kind))
    assert failed.status == "ROLLBACK_COMPLETE"
    assert failed.failure is not None
    assert failed.failure.resource_type == kind
    assert account.tables() == {}
    assert account.deploy().changed
    assert set(account.tables().values()) == {True}
    assert len(account.tables()) == len(TABLES)
