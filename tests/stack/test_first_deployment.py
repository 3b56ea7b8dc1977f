"""The first deployment of production fails somewhere, and the next one is not in its way."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest

from infra import terminal
from infra.deployment import deploy, retained
from infra.deployment.deployed import Deployment, describe
from infra.deployment.errors import DeployError, StackFailedError
from infra.deployment.stack import QUEUE_NAME_REST
from infra.local import emulator, stacks
from infra.local.stacks import client_of
from infra.session import AwsError
from tests.stack.conftest import Packaged, wait_for

STACK = "credits-prod"
TABLES = {"LedgerTable", "SubscriptionsTable", "EditsTable", "MailsTable", "StripeTable"}

Template = dict[str, Any]

# With them, everything in the template is made.
OPTIONS = {"Tracing": "Active", "AlarmEmail": "ops@example.com", "AccessLogs": "on"}

# What is in the template as SAM has transformed it; `types_of` holds this list to it.
TYPES = (
    *("AWS::ApiGateway::ApiKey", "AWS::ApiGateway::UsagePlanKey"),
    *("AWS::ApiGateway::BasePathMapping", "AWS::ApiGateway::Deployment"),
    *("AWS::ApiGateway::DomainName", "AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage"),
    *("AWS::ApiGateway::UsagePlan", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"),
    *("AWS::DynamoDB::Table", "AWS::Events::EventBus", "AWS::Events::Rule"),
    *("AWS::IAM::Policy", "AWS::IAM::Role"),
    *("AWS::KMS::Key", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function"),
    *("AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::Route53::RecordSet"),
    *("AWS::S3::Bucket", "AWS::S3::BucketPolicy"),
    *("AWS::SES::ConfigurationSet", "AWS::SES::ConfigurationSetEventDestination"),
    *("AWS::SES::EmailIdentity", "AWS::SNS::Subscription", "AWS::SNS::Topic"),
    *("AWS::SNS::TopicPolicy", "AWS::SQS::Queue", "AWS::SQS::QueuePolicy"),
    "AWS::SecretsManager::Secret",
)
# What the emulator makes none of. It is made by a condition, which is not met here.
NOT_EMULATED = (
    *("AWS::Events::ApiDestination", "AWS::Events::Connection"),
    "AWS::WAFv2::WebACLAssociation",
)


@dataclass
class Account:
    """An account of AWS into which production is deployed."""

    client: Callable[[str], Any]
    pass_time: Callable[[float], None]
    packaged: Packaged
    template: Template
    domain: dict[str, str]
    said: list[str] = field(default_factory=list)

    def deploy(
        self,
        template: Template | None = None,
        *,
        say: terminal.Say | None = None,
        confirm: terminal.Confirm = terminal.agree,
    ) -> Deployment:
        """What `make deploy STAGE=prod` does, by default with one resource of each type."""
        package = replace(self.packaged.package, template=template or self.template)
        self.said.clear()
        return deploy.deploy(
            "prod",
            self.client,
            region=emulator.REGION,
            parameters=stacks.parameters("https://issuer.example.com", "prod")
            | OPTIONS
            | self.domain,
            say=say or self.said.append,
            say_detail=self.said.append,
            confirm=confirm,
            make_package=replace(self.packaged, package=package),
        )

    def fail(self, template: Template) -> StackFailedError:
        with pytest.raises(StackFailedError) as failed:
            self.deploy(template)
        return failed.value

    def delete_stack(self) -> None:
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName=STACK)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 1}
        )
        self.pass_time(QUEUE_NAME_REST)

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
def whole(packaged: Packaged) -> Iterator[Account]:
    """An account with nothing in it, and the template as it is packaged."""
    with emulator.emulator() as emulated:

        def pass_time(seconds: float) -> None:
            ahead = float(emulated.clock_file.read_text()) + seconds
            emulated.clock_file.write_text(str(ahead))

        client = cache(partial(client_of, emulated.url))
        domain = domain_in(client)
        yield Account(client, pass_time, packaged, packaged.package.template, domain)


def domain_in(client: Callable[[str], Any]) -> dict[str, str]:
    """The parameters of a domain name, whose certificate and hosted zone there are."""
    name = "credits.example.com"
    zone = client("route53").create_hosted_zone(Name="example.com", CallerReference="1")
    return {
        "ApiDomain": name,
        "ApiCertificateArn": client("acm").request_certificate(DomainName=name)["CertificateArn"],
        "ApiHostedZoneId": zone["HostedZone"]["Id"].removeprefix("/hostedzone/"),
    }


@pytest.fixture(autouse=True)
def _long_sleeps_are_short(whole: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that waits for a minute moves the clock of the emulator instead."""

    def sleep(seconds: float) -> None:
        (time.sleep if seconds < 5 else whole.pass_time)(seconds)

    clock = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=sleep)
    monkeypatch.setattr("infra.deployment.stack.time", clock)


@pytest.fixture(scope="module")
def transformed(whole: Account) -> Template:
    """The template of production as CloudFormation has transformed it."""
    cloudformation = whole.client("cloudformation")
    found: list[Template] = []

    def look() -> bool:
        (change_set,) = cloudformation.list_change_sets(StackName=STACK)["Summaries"]
        answer = cloudformation.get_template(
            StackName=STACK, ChangeSetName=change_set["ChangeSetName"], TemplateStage="Processed"
        )
        body = answer["TemplateBody"]
        found.append(json.loads(body) if isinstance(body, str) else body)
        return False

    with pytest.raises(DeployError, match="declined"):
        whole.deploy(confirm=look)
    (template,) = found
    for table in TABLES:
        protected = whole.template["Resources"][table]["Properties"]
        template["Resources"][table]["Properties"] = protected
    return template


@pytest.fixture(scope="module")
def account(whole: Account, transformed: Template) -> Account:
    """The same account, and the template with one resource of each type."""
    return replace(whole, template=one_of_each(transformed))


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
        least = [
            needed[name] - chosen
            for name in lean
            # Of what is made: the emulator makes no webhook.
            if lean[name]["Type"] == kind
            and (kind in NOT_EMULATED or lean[name].get("Condition") != "HasWebhook")
        ]
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
    assert types_of(account.template) == types_of(transformed) == sorted([*TYPES, *NOT_EMULATED])
    assert len(account.template["Resources"]) < 70


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


def test_production_as_a_whole_is_made_and_its_tables_are_protected_then(
    account: Account, whole: Account
) -> None:
    shown: list[str] = []

    def look() -> bool:
        shown.extend(whole.said)
        return True

    assert whole.deploy(confirm=look).changed
    assert account.tables() == dict.fromkeys(
        [f"{STACK}-{name}" for name in ("edits", "ledger", "mails", "stripe", "subscriptions")],
        True,
    )
    (told,) = [line for line in shown if "Protected from deletion" in line]
    assert all(table in told for table in TABLES)
    assert not whole.deploy().changed


def test_a_deployment_that_ends_before_the_tables_are_protected_is_made_good_by_the_next(
    account: Account,
) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("Protecting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        account.deploy(say=interrupt)
    assert set(account.tables().values()) == {False}
    assert account.deploy().changed
    assert set(account.tables().values()) == {True}


def test_a_new_table_in_an_update_that_fails_is_not_in_the_way_of_the_next(
    account: Account,
) -> None:
    """It is the same fault: what is protected when it is made cannot be rolled back."""
    resources = account.template["Resources"]
    fewer = {name: resource for name, resource in resources.items() if name != "MailsTable"}
    account.deploy(account.template | {"Resources": fewer})
    broken = resources["SweepsQueue"]["Properties"] | {"VisibilityTimeout": 43_201}
    queue = {"Type": "AWS::SQS::Queue", "DependsOn": "MailsTable", "Properties": broken}
    failed = account.fail(account.template | {"Resources": resources | {"SweepsQueue": queue}})
    assert failed.status == "UPDATE_ROLLBACK_COMPLETE"
    assert len(account.tables()) == len(TABLES) - 1
    account.deploy()
    assert len(account.tables()) == len(TABLES)
    assert set(account.tables().values()) == {True}


# --- What an earlier stack left -------------------------------------------------------------------


def protected_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are protected when they are made, as it was before."""
    monkeypatch.setattr(retained, "unprotected", lambda template, *_: (template, []))


def test_a_creation_that_could_not_be_rolled_back_is_removed_and_its_tables_are_taken_over(
    account: Account,
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        protected_at_once(monkeypatch)
        failed = account.fail(breaking(account.template, "AWS::ApiGateway::UsagePlan"))
        assert failed.status == "ROLLBACK_FAILED"
    made = account.tables()
    assert made
    asked: list[str] = []

    def decline() -> bool:
        asked.extend(account.said)
        return False

    with pytest.raises(DeployError, match="nothing was changed"):
        account.deploy(confirm=decline)
    assert f"Removing stack {STACK}, whose first creation failed ..." in asked
    assert any("LedgerTable (AWS::DynamoDB::Table)" in line for line in asked)
    assert account.tables() == made

    assert account.deploy().changed
    assert any("LedgerTable" in line and "about 0 items" in line for line in account.said)
    assert set(account.tables().values()) == {True}
    assert len(account.tables()) == len(TABLES)


def test_a_stack_that_was_deleted_is_deployed_again_with_all_that_was_in_it(
    account: Account,
) -> None:
    account.deploy()
    dynamodb, s3, secrets = map(account.client, ("dynamodb", "s3", "secretsmanager"))
    item = {"user_id": {"S": "ada"}, "entry": {"S": "entry#000000000001"}}
    bucket = f"{STACK}-reports-000000000000-{emulator.REGION}"
    dynamodb.put_item(TableName=f"{STACK}-ledger", Item=item)
    s3.put_object(Bucket=bucket, Key="2026-11.json", Body=b"{}")
    secret = f"{STACK}-unsubscribe-links"
    signs = secrets.get_secret_value(SecretId=secret)["SecretString"]
    put = {"SecretId": f"{STACK}-stripe-webhook", "SecretString": "whsec_of_the_shop"}
    secrets.put_secret_value(**put)
    account.delete_stack()
    # Somebody meant to delete this one, and then did not.
    dynamodb.update_table(TableName=f"{STACK}-mails", DeletionProtectionEnabled=False)

    with pytest.raises(DeployError, match="nothing was changed"):
        account.deploy(confirm=lambda: False)
    with pytest.raises(DeployError, match="no stack credits-prod"):
        describe("prod", account.client)

    assert account.deploy().changed
    told = f"What an earlier stack {STACK} left is taken over, with all that is in it:"
    kept = {*TABLES, "ReportsBucket", "AnchorsBucket", "UnsubscribeSecret", "StripeSecret"}
    named = account.said[account.said.index(told) + 1 :][: len(kept)]
    assert {line.split()[0] for line in named} == kept
    assert dynamodb.scan(TableName=f"{STACK}-ledger")["Items"] == [item]
    assert s3.get_object(Bucket=bucket, Key="2026-11.json")["Body"].read() == b"{}"
    anchors = f"{STACK}-anchors-000000000000-{emulator.REGION}"
    lock = s3.get_object_lock_configuration(Bucket=anchors)["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"] == {"Mode": "COMPLIANCE", "Days": 365}
    assert secrets.get_secret_value(SecretId=secret)["SecretString"] == signs
    found = secrets.get_secret_value(SecretId=put["SecretId"])["SecretString"]
    assert found == put["SecretString"]
    assert set(account.tables().values()) == {True}
    assert not account.deploy().changed


def test_of_what_an_earlier_stack_left_some_may_be_gone(account: Account) -> None:
    account.deploy()
    account.delete_stack()
    dynamodb, secrets = account.client("dynamodb"), account.client("secretsmanager")
    dynamodb.update_table(TableName=f"{STACK}-mails", DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName=f"{STACK}-mails")
    secrets.delete_secret(SecretId=f"{STACK}-unsubscribe-links", ForceDeleteWithoutRecovery=True)
    assert account.deploy().changed
    assert not [line for line in account.said if line.startswith("  MailsTable")]
    assert set(account.tables().values()) == {True}
    assert len(account.tables()) == len(TABLES)


def test_a_secret_that_is_to_be_deleted_some_day_is_named_before_anything_is_made(
    account: Account,
) -> None:
    account.deploy()
    account.delete_stack()
    secrets = account.client("secretsmanager")
    secrets.delete_secret(SecretId=f"{STACK}-unsubscribe-links", RecoveryWindowInDays=7)
    with pytest.raises(AwsError, match="restore-secret --secret-id credits-prod-unsubscribe-links"):
        account.deploy()
    secrets.restore_secret(SecretId=f"{STACK}-unsubscribe-links")
    assert account.deploy().changed


def test_what_another_stack_has_is_not_taken_from_it(account: Account) -> None:
    cloudformation = account.client("cloudformation")
    properties = account.template["Resources"]["MailsTable"]["Properties"]
    keys = {key: properties[key] for key in ("AttributeDefinitions", "KeySchema", "BillingMode")}
    named = keys | {"TableName": f"{STACK}-mails"}
    table = {"Type": "AWS::DynamoDB::Table", "Properties": named}
    cloudformation.create_stack(
        StackName="theirs", TemplateBody=json.dumps({"Resources": {"Theirs": table}})
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="theirs", WaiterConfig={"Delay": 1}
    )
    try:
        with pytest.raises(DeployError, match=r"already exists in stack .*theirs"):
            account.deploy()
    finally:
        cloudformation.delete_stack(StackName="theirs")


# --- The emulator, as strict as AWS here ----------------------------------------------------------

NAMED: dict[str, Template] = {
    "AWS::CloudWatch::Alarm": {
        "AlarmName": "taken",
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 1,
        "MetricName": "Errors",
        "Namespace": "AWS/Lambda",
        "Period": 60,
        "Statistic": "Sum",
        "Threshold": 1,
    },
    "AWS::CloudWatch::Dashboard": {"DashboardName": "taken", "DashboardBody": '{"widgets": []}'},
    "AWS::DynamoDB::Table": {
        "TableName": "taken",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "DeletionProtectionEnabled": False,
    },
    "AWS::Events::EventBus": {"Name": "taken"},
    "AWS::Events::Rule": {"Name": "taken", "ScheduleExpression": "rate(7 days)"},
    "AWS::Lambda::Function": {
        "FunctionName": "taken",
        "Runtime": "python3.11",
        "Handler": "index.handler",
        "Role": "arn:aws:iam::000000000000:role/taken",
        "Code": {"ZipFile": "def handler(*_): ..."},
    },
    "AWS::Logs::LogGroup": {"LogGroupName": "taken"},
    "AWS::S3::Bucket": {"BucketName": "taken"},
    "AWS::SES::ConfigurationSet": {"Name": "taken"},
    "AWS::SES::EmailIdentity": {"EmailIdentity": "taken.example.com"},
    "AWS::SNS::Topic": {"TopicName": "taken"},
    "AWS::SQS::Queue": {"QueueName": "taken"},
    "AWS::SecretsManager::Secret": {"Name": "taken", "GenerateSecretString": {}},
}
# Two of them may have one name.
SHARED = {f"AWS::ApiGateway::{kind}" for kind in ("ApiKey", "RestApi", "UsagePlan")}
_NAME = re.compile("(Table|Queue|Topic|Function|Alarm|Dashboard|Bucket|LogGroup|Role)?Name")


def made_by_stack(account: Account, name: str, kind: str, properties: Template) -> str:
    """Make a stack of one resource; the status it ends in."""
    template = {"Resources": {"It": {"Type": kind, "Properties": properties}}}
    account.client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))
    return ended(account, name)


def ended(account: Account, name: str) -> str:
    def status() -> str | None:
        found = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        ended_in: str = found[0]["StackStatus"]
        return None if ended_in.endswith("_IN_PROGRESS") else ended_in

    return wait_for(status, f"stack {name} to end")


def deleted(account: Account, name: str) -> str:
    """Delete a stack; the status it ends in."""
    cloudformation = account.client("cloudformation")
    stack_id = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=name)
    return ended(account, stack_id)


def test_every_type_with_a_name_is_looked_at(account: Account) -> None:
    named = {
        resource["Type"]
        for resource in account.template["Resources"].values()
        if any(map(_NAME.fullmatch, resource["Properties"]))
        or resource["Type"] == "AWS::SES::EmailIdentity"
    }
    about_functions = {"AWS::Lambda::EventSourceMapping", "AWS::Lambda::Permission"}
    of_another = {
        *("AWS::SES::ConfigurationSetEventDestination", "AWS::ApiGateway::Stage"),
        "AWS::Route53::RecordSet",
    }
    assert named - about_functions - of_another - SHARED - {*NOT_EMULATED} == set(NAMED)


@pytest.mark.parametrize("kind", NAMED)
def test_nothing_is_made_under_a_name_that_is_taken(account: Account, kind: str) -> None:
    try:
        assert made_by_stack(account, "ours", kind, NAMED[kind]) == "CREATE_COMPLETE"
        assert made_by_stack(account, "theirs", kind, NAMED[kind]) == "ROLLBACK_COMPLETE"
    finally:
        assert deleted(account, "theirs") == deleted(account, "ours") == "DELETE_COMPLETE"


def test_no_stack_deletes_a_table_that_is_protected(account: Account) -> None:
    kind = "AWS::DynamoDB::Table"
    properties = NAMED[kind] | {"DeletionProtectionEnabled": True}
    assert made_by_stack(account, "ours", kind, properties) == "CREATE_COMPLETE"
    assert deleted(account, "ours") == "DELETE_FAILED"
    account.client("dynamodb").update_table(TableName="taken", DeletionProtectionEnabled=False)
    assert deleted(account, "ours") == "DELETE_COMPLETE"


def test_the_name_of_a_deleted_queue_is_free_after_a_minute(account: Account) -> None:
    kind = "AWS::SQS::Queue"
    properties = {"QueueName": "resting"}
    assert made_by_stack(account, "ours", kind, properties) == "CREATE_COMPLETE"
    assert deleted(account, "ours") == "DELETE_COMPLETE"
    account.pass_time(50)
    assert made_by_stack(account, "ours", kind, properties) == "ROLLBACK_COMPLETE"
    assert deleted(account, "ours") == "DELETE_COMPLETE"
    account.pass_time(10)
    assert made_by_stack(account, "ours", kind, properties) == "CREATE_COMPLETE"
    assert deleted(account, "ours") == "DELETE_COMPLETE"
    # The minute is one of the clock that was moved.
    assert made_by_stack(account, "ours", kind, properties) == "ROLLBACK_COMPLETE"
    assert deleted(account, "ours") == "DELETE_COMPLETE"
