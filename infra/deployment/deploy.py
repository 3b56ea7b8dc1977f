"""The one way to deploy Credits: to AWS and, with the same steps, to the local emulator.

`deploy` packages the app, uploads it, shows the changes that CloudFormation would make, asks, makes
them, and tells the stack's events as they happen. When the stack fails it names the resource that
failed first and why. Deploying what is already deployed changes nothing and says so.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar

import yaml
from botocore.exceptions import ClientError

from chalicelib.domain.plans import PlanCatalogue
from infra.deployment import alarms, caller_limits, packaging, plan_changes, retained
from infra.deployment.stack_facts import REQUIRED_PARAMETERS, UNMADE, resources_of
from infra.session import AwsError, UnreachableError, told
from infra.terminal import Say, say_nothing

APP_NAME = "credits"

# How long a change set may take to be computed, and a stack to be changed, in seconds.
CHANGE_SET_DEADLINE = 300.0
STACK_DEADLINE = 1800.0

# For how long a network that is lost while a stack is watched is tried again, in seconds.
NETWORK_PATIENCE = 120.0
_LONGEST_PAUSE = 3.0

# For how long SQS keeps the name of a deleted queue, in seconds: AWS::SQS::Queue in the
# CloudFormation Template Reference. A queue that is made sooner fails, and its stack with it.
QUEUE_NAME_REST = 60.0

# For how many minutes after an update CloudFormation waits for an alarm that takes it back. In
# `prod` a little longer than the quarter of an hour in which everything has run once. The other
# stages are not waited for: their alarms take an update back only while it is being made.
MONITORING_MINUTES = {"prod": 20}

TEMPLATE_FILE = packaging.ROOT / "infra" / "resources.yaml"
PARAMETERS_FILE = packaging.ROOT / "infra" / "parameters.toml"
_LARGEST_NUMBER = 1_000_000
_LONGEST_SHOWN = 80

Json = dict[str, Any]
Confirm = Callable[[], bool]
ClientFactory = Callable[[str], Any]


class PackageMaker(Protocol):
    """What makes the package to deploy; `packaging.package` does."""

    def __call__(self, stage: str, output: Path, /, *, region: str) -> packaging.Package:
        """Package `stage` into the empty directory `output`."""


T = TypeVar("T")

# Of a RollbackConfiguration: no alarm takes the change back. Without it, those of the last would.
_UNWATCHED: Json = {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")


class DeployError(AwsError):
    """The deployment did not happen, or did not succeed; the message says why and what to do."""


@dataclass(frozen=True)
class ResourceFailure:
    """The first resource of a stack that CloudFormation could not bring about."""

    logical_id: str
    resource_type: str
    status: str
    reason: str

    def __str__(self) -> str:
        return f"{self.logical_id} ({self.resource_type}) {self.status}: {self.reason}"


class StackFailedError(DeployError):
    """CloudFormation could not bring the stack about, and went back to what was before."""

    def __init__(self, stack: str, status: str, failure: ResourceFailure | None) -> None:
        cause = (
            f"The first resource that failed:\n  {failure}" if failure else "No resource failed."
        )
        super().__init__(f"Stack {stack} ended in {status}. {cause}")
        self.stack = stack
        self.status = status
        self.failure = failure


@dataclass(frozen=True)
class Change:
    """One line of a change set."""

    action: str
    logical_id: str
    resource_type: str
    replacement: str

    def __str__(self) -> str:
        text = f"{self.action:<7} {self.logical_id} ({self.resource_type})"
        return f"{text}  REPLACES IT" if self.replacement == "True" else text


@dataclass(frozen=True)
class Deployment:
    """A deployed stack: its names by their short keys, e.g. `tables["ledger"]`."""

    stack: str
    stage: str
    changed: bool
    api_id: str
    api_url: str
    functions: dict[str, str]
    tables: dict[str, str]
    queues: dict[str, str]
    buckets: dict[str, str]
    outputs: dict[str, str] = field(repr=False)


def agree() -> bool:
    """Agree to any change."""
    return True


def stack_name(stage: str) -> str:
    """The name of a stage's stack."""
    return f"{APP_NAME}-{stage}"


def parameters_of(stage: str) -> dict[str, str]:
    """The parameters of a stage in `PARAMETERS_FILE`.

    Raises `DeployError` for a file that cannot be read, and with each parameter that the template
    does not have, or not with such a value. Whether one is missing, `deploy` looks.
    """
    try:
        parameters = tomllib.loads(PARAMETERS_FILE.read_text(encoding="utf-8")).get(stage)
    except (ValueError, RecursionError) as error:
        raise DeployError(f"{PARAMETERS_FILE} is not TOML: {error}") from error
    if not isinstance(parameters, dict):
        raise DeployError(f"There is no [{stage}] in {PARAMETERS_FILE}: add it.")
    declared = declared_parameters()
    problems = [
        f"{name} {problem}"
        for name, value in parameters.items()
        if (problem := _problem_of(name, value, declared))
    ]
    if problems:
        lines = "\n".join(f"infra/parameters.toml, [{stage}]: {problem}" for problem in problems)
        raise DeployError(lines)
    return {name: str(value) for name, value in parameters.items()}


@cache
def declared_parameters() -> dict[str, Json]:
    """What the template says of its parameters."""
    declared: dict[str, Json] = yaml.safe_load(TEMPLATE_FILE.read_text("utf-8"))["Parameters"]
    return declared


def _problem_of(name: str, value: object, declared: Mapping[str, Json]) -> str | None:
    """What is wrong with a parameter, by what the template says of it."""
    known = [other for other in declared if other != "Stage"]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"the parameters are {', '.join(known)}"
        return f"is no parameter; {advice}"
    rule = declared[name]
    expected = _not_a_number(rule, value) if rule["Type"] == "Number" else _not_a_text(rule, value)
    return expected and f"must be {expected}; is {repr(value)[:_LONGEST_SHOWN]}"


def _not_a_number(rule: Json, value: Any) -> str | None:
    least, most = rule.get("MinValue", 0), rule.get("MaxValue", _LARGEST_NUMBER)
    # Not isinstance: to Python, true is the number 1.
    fits = type(value) in (int, float) and least <= value <= most
    return None if fits else f"a number from {least} to {most:,}, without quotes"


def _not_a_text(rule: Json, value: Any) -> str | None:
    if not isinstance(value, str):
        return "a text, in quotes"
    if "AllowedValues" in rule and value not in rule["AllowedValues"]:
        return f"one of {', '.join(rule['AllowedValues'])}"
    # An empty one that is needed is asked for with words of its own.
    if value and not re.fullmatch(rule.get("AllowedPattern", r"(?s).*"), value):
        return f"of the form {rule['AllowedPattern']}"
    return None


def deployed_plans(stage: str, lambda_: Any) -> str | None:
    """The catalogue by which a stage's allocations are posted; None if it is not deployed."""
    return plan_changes.deployed(lambda_, f"{stack_name(stage)}-allocate-accounts")


def _compare_plans(stage: str, lambda_: Any, after: PlanCatalogue, now: datetime) -> list[str]:
    """What a deployment changes about the plans. Raises `DeployError` for what it must not."""
    deployed = deployed_plans(stage, lambda_)
    if deployed is None:
        return []
    try:
        before = plan_changes.terms_of(deployed)
    except ValueError as error:
        # Nothing was granted by it, and a deployment that mends it must not be stopped.
        return [f"The deployed plans have a mistake, so nothing is compared with them: {error}"]
    refused = plan_changes.refusals(before, after, now)
    if refused:
        raise DeployError(
            "\n".join([*refused, "Nobody is granted anything for the time before a deployment."])
        )
    return list(plan_changes.changes(before, after))


def _check_parameters(stage: str, parameters: Mapping[str, str], region: str) -> None:
    """Raises `DeployError` for what the parameters lack, or what does not go together in them."""
    missing = [name for name in REQUIRED_PARAMETERS if not parameters.get(name)]
    if missing:
        raise DeployError(
            f"Stage {stage} does not say whose tokens its API takes. "
            f"Set {' and '.join(missing)} under [{stage}] in infra/parameters.toml, "
            "which has examples for Cognito, Auth0, Clerk and others."
        )
    problem = _problem_of_domain(parameters, region)
    if problem:
        raise DeployError(f"infra/parameters.toml, [{stage}]: {problem}")


def _problem_of_domain(parameters: Mapping[str, str], region: str) -> str | None:
    """What is wrong with the API's own domain name, of what the template cannot say by itself."""
    domain, certificate, zone = (
        parameters.get(name, "") for name in ("ApiDomain", "ApiCertificateArn", "ApiHostedZoneId")
    )
    if domain and not certificate:
        return (
            f"ApiDomain needs ApiCertificateArn: a certificate of ACM for {domain}, in {region}. "
            f"Ask for one: aws acm request-certificate --domain-name {domain} "
            f"--validation-method DNS --region {region}"
        )
    if certificate and not domain:
        return "ApiCertificateArn needs ApiDomain: the domain name of the API it is for"
    if zone and not domain:
        return "ApiHostedZoneId needs ApiDomain: the name to enter into the hosted zone"
    found = certificate.split(":")[3] if certificate else region
    if found != region:
        # API Gateway Developer Guide, "Set up a Regional custom domain name in API Gateway".
        return (
            f"ApiCertificateArn is a certificate in {found}, and the stack is in {region}: "
            "API Gateway takes only one of its own region. Ask for one there"
        )
    return None


def deploy(
    stage: str,
    client: ClientFactory,
    *,
    region: str,
    parameters: Mapping[str, str],
    say: Say,
    say_detail: Say = say_nothing,
    confirm: Confirm = agree,
    make_package: PackageMaker = packaging.package,
) -> Deployment:
    """Deploy `stage` and return what the stack is then made of.

    `client` makes a botocore client for a service, and so decides where this deploys to.
    `parameters` are those of infra/resources.yaml without the stage. `confirm`
    is asked once the changes have been shown; when it says no, they are not made. `say` is told
    each step, `say_detail` each change and each event of the stack. Raises `AwsError`, and what
    `packaging.package` raises.

    A deployment of this stage that is under way is waited for. A stack whose creation failed is
    removed, and what an earlier stack left is taken over; `confirm` is asked before that, too.
    """
    plans = packaging.catalogue()
    client = cache(client)  # to make one takes longer than to ask
    with told():
        account = client("sts").get_caller_identity()["Account"]
        _check_parameters(stage, parameters, region)
        stack = _Stack(client("cloudformation"), stack_name(stage), region, say, say_detail)
        stack.wait_for_what_is_under_way()
        plan_lines = _compare_plans(stage, client("lambda"), plans, datetime.now(UTC))
        with tempfile.TemporaryDirectory() as output:
            say(f"Packaging stage {stage} ...")
            package = make_package(stage, Path(output), region=region)
            size = package.archive.stat().st_size / 1e6
            say(f"Uploading the Lambda archive ({size:.1f} MB) ...")
            artifacts = _artifacts(client("s3"), account=account, region=region)
            template = package.template_for(artifacts.upload_archive(package))
        if parameters.get(caller_limits.PARAMETER) == "on":
            if caller_limits.are_ready(stack.resources()):
                caller_limits.require(template)
            else:
                say(caller_limits.NOT_YET)
        if not stack.make_way(confirm):
            found = retained.leftovers(template, stage, client, account=account, region=region)
            stack.take_over(stage, found, confirm)
        for line in plan_lines:
            say(line)
        rollback = _rollback_on_alarms(client("cloudwatch"), stage, say)
        first, new = retained.unprotected(template, stage, stack.resources())
        if new:
            say(f"Protected from deletion as soon as they are made: {', '.join(new)}")
        given = {**parameters, "Stage": stage}
        changed = stack.apply(artifacts.upload_template(first), given, rollback, confirm)
        if new:
            say("Protecting the new tables from deletion ...")
            stack.apply(artifacts.upload_template(template), given, _UNWATCHED, agree)
        return describe(stage, client, changed=changed)


def describe(stage: str, client: ClientFactory, *, changed: bool = False) -> Deployment:
    """Look up a stage that has been deployed.

    Raises `DeployError` when there is no such stack.
    """
    name = stack_name(stage)
    with told():
        description = _describe_stack(client("cloudformation"), name)
    if description is None:
        raise DeployError(f"There is no stack {name}. Deploy it first: make deploy STAGE={stage}")
    outputs = {item["OutputKey"]: item["OutputValue"] for item in description.get("Outputs", [])}
    return Deployment(
        stack=name,
        stage=stage,
        changed=changed,
        api_id=outputs["RestAPIId"],
        # A stack of an earlier release does not say what it is called outside.
        api_url=outputs.get("ApiUrl", outputs["EndpointURL"]).rstrip("/"),
        functions=_with_suffix(outputs, "FunctionName"),
        tables=_with_suffix(outputs, "TableName"),
        queues=_with_suffix(outputs, "QueueUrl"),
        buckets=_with_suffix(outputs, "BucketName"),
        outputs=outputs,
    )


def _with_suffix(outputs: dict[str, str], suffix: str) -> dict[str, str]:
    """The outputs whose names end in `suffix`: `SweepsDlqQueueUrl` becomes `sweeps-dlq`."""
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "-", key.removesuffix(suffix)).lower(): value
        for key, value in sorted(outputs.items())
        if key.endswith(suffix)
    }


# --- The artifacts --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Artifacts:
    """The bucket of what is deployed. Its objects are named by their content."""

    s3: Any
    bucket: str

    def upload_archive(self, package: packaging.Package) -> str:
        """Upload the archive, unless it has been uploaded before; its `s3://` address."""
        key = f"{package.digest}.zip"
        if not _object_exists(self.s3, self.bucket, key):
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=package.archive.read_bytes())
        return f"s3://{self.bucket}/{key}"

    def upload_template(self, template: Json) -> str:
        """Upload a template; its address."""
        key = f"{packaging.digest_of(template)}.json"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=json.dumps(template).encode())
        return f"{self.s3.meta.endpoint_url}/{self.bucket}/{key}"


def _artifacts(s3: Any, *, account: str, region: str) -> _Artifacts:
    bucket = artifacts_bucket(account, region)
    _ensure_bucket(s3, bucket, account=account, region=region)
    return _Artifacts(s3, bucket)


def artifacts_bucket(account: str, region: str) -> str:
    """Where the archives and the templates of all stages are."""
    return f"{APP_NAME}-artifacts-{account}-{region}"


def _ensure_bucket(s3: Any, bucket: str, *, account: str, region: str) -> None:
    if _bucket_exists(s3, bucket, account=account):
        return
    # us-east-1 is the one region that must not be named.
    location = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else location))
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )


def _bucket_exists(s3: Any, bucket: str, *, account: str) -> bool:
    """Whether the bucket exists and is ours: bucket names are shared by all of AWS."""
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    except ClientError as error:
        if _status(error) == 404:
            return False
        if _status(error) == 403:
            raise DeployError(
                f"Bucket {bucket} belongs to another account, or you may not use it. "
                "Ask for s3:ListBucket, s3:GetObject and s3:PutObject on it."
            ) from error
        raise
    return True


def _object_exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if _status(error) in (403, 404):
            return False
        raise
    return True


def _status(error: ClientError) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


# --- The stack ------------------------------------------------------------------------------------


def _rollback_on_alarms(cloudwatch: Any, stage: str, say: Say) -> dict[str, Any]:
    """The alarms that take an update back, as CloudFormation takes them.

    Those that do not exist yet are left out, which would fail the update, and those that ring
    already, which would take back the very update that is to end them.
    """
    prefix = f"{stack_name(stage)}-"
    found = cloudwatch.describe_alarms(
        AlarmNames=[prefix + name for name in alarms.ROLLBACK_ALARMS], AlarmTypes=["MetricAlarm"]
    )["MetricAlarms"]
    ringing = sorted(alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM")
    if ringing:
        say(f"Ringing already, so they will not take this deployment back: {', '.join(ringing)}")
    triggers = [
        {"Arn": alarm["AlarmArn"], "Type": "AWS::CloudWatch::Alarm"}
        for alarm in sorted(found, key=lambda alarm: str(alarm["AlarmName"]))
        if alarm["AlarmName"] not in ringing
    ]
    # Without triggers it would wait for nothing. An empty list forgets those of the last update.
    minutes = MONITORING_MINUTES.get(stage, 0) if triggers else 0
    return {"RollbackTriggers": triggers, "MonitoringTimeInMinutes": minutes}


class _Stack:
    """One CloudFormation stack, changed through change sets."""

    def __init__(
        self, cloudformation: Any, name: str, region: str, say: Say, say_detail: Say
    ) -> None:
        self._cloudformation = cloudformation
        self._name = name
        self._region = region
        self._say = say
        self._say_detail = say_detail

    def apply(
        self,
        template_url: str,
        parameters: dict[str, str],
        rollback: dict[str, Any],
        confirm: Confirm,
    ) -> bool:
        """Bring the stack to the template; whether that changed anything.

        `rollback` is a RollbackConfiguration, for updates only: what a stack is created with has
        no alarms yet.
        """
        exists = self._exists()
        only_for_updates = {"RollbackConfiguration": rollback} if exists else {}
        change_set = self._create_change_set(
            "UPDATE" if exists else "CREATE",
            TemplateURL=template_url,
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Tags=[{"Key": "app", "Value": APP_NAME}],
            **only_for_updates,
        )
        changes = self._changes(change_set)
        if changes is None:
            self._cloudformation.delete_change_set(**self._named(change_set))
            self._say(f"No changes: stack {self._name} is up to date.")
            return False
        self._say(f"Changing stack {self._name}: {len(changes)} resources ...")
        for change in changes:
            self._say_detail(f"  {change}")
        if not confirm():
            self._discard(change_set, exists=exists)
            raise DeployError("Not deployed: the changes were declined and none of them was made.")
        minutes = rollback["MonitoringTimeInMinutes"] if exists else 0
        if minutes:
            self._say(f"Watched for {minutes} minutes after that; Ctrl-C ends nothing but this.")
        self._execute(change_set, deadline=STACK_DEADLINE + 60 * minutes)
        return True

    def wait_for_what_is_under_way(self) -> None:
        """Watches a deployment that was begun before, and lost sight of, to its end.

        What it came to is said; this deployment goes on from there.
        """
        description = _describe_stack(self._cloudformation, self._name)
        if not _is_under_way(description):
            return
        self._say(f"Stack {self._name} is {description['StackStatus']}: waiting for it to end ...")
        seen = self._newest_events()
        failure: ResourceFailure | None = None

        def look() -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
            found = _describe_stack(self._cloudformation, self._name)
            return found, self._new_events(seen, self._name) if found else []

        deadline = STACK_DEADLINE + 60 * max(MONITORING_MINUTES.values())
        with self._under_way():
            for description, events in self._poll(
                look, deadline=deadline, what=f"stack {self._name}"
            ):
                told_of = self._tell(events)
                failure = failure or told_of
                if not _is_under_way(description):
                    break
        status = description["StackStatus"] if description else "DELETE_COMPLETE"
        self._say(f"It ended in {status}." + (f" What failed first: {failure}" if failure else ""))

    def make_way(self, confirm: Confirm) -> bool:
        """Whether the stack exists and can be changed.

        One whose creation failed, or its deletion, is removed: nothing else can be done with it.
        What it retains stays. `confirm` is asked when there is more to it than its name.
        """
        description = _describe_stack(self._cloudformation, self._name)
        status = description["StackStatus"] if description else ""
        if description and status in UNMADE:
            self._remove(description, confirm)
            return False
        if _is_under_way(description):
            raise DeployError(
                f"Stack {self._name} is {status}: wait for it to end, then try again."
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise DeployError(
                f"Stack {self._name} is {status}: an update could not be taken back. Mend what its "
                "events name, then deploy again after this:\n  aws cloudformation "
                f"continue-update-rollback --stack-name {self._name} --region {self._region}"
            )
        return self._exists()

    def take_over(self, stage: str, found: list[retained.Leftover], confirm: Confirm) -> None:
        """Make the stack of what was `found`: it is imported, and nothing in it changes."""
        if not found:
            return
        self._say(f"What an earlier stack {self._name} left is taken over, with all that is in it:")
        for each in found:
            self._say(f"  {each}")
        if not confirm():
            raise DeployError("Not deployed: this was declined and nothing was changed.")
        change_set = self._create_change_set(
            "IMPORT",
            TemplateBody=json.dumps(retained.import_template(found)),
            Parameters=[{"ParameterKey": "Stage", "ParameterValue": stage}],
            ResourcesToImport=retained.resources_to_import(found),
        )
        self._changes(change_set)
        self._execute(change_set, deadline=STACK_DEADLINE)

    def resources(self) -> dict[str, str]:
        """The types of the stack's resources, by their logical ids."""
        if not self._exists():
            return {}
        return {
            resource["LogicalResourceId"]: resource["ResourceType"]
            for resource in resources_of(self._cloudformation, self._name)
        }

    def _exists(self) -> bool:
        """Whether there is such a stack. One that awaits a review has yet to be made."""
        description = _describe_stack(self._cloudformation, self._name)
        return description is not None and description["StackStatus"] != "REVIEW_IN_PROGRESS"

    def _remove(self, description: dict[str, Any], confirm: Confirm) -> None:
        what = "deletion" if description["StackStatus"] == "DELETE_FAILED" else "first creation"
        self._say(f"Removing stack {self._name}, whose {what} failed ...")
        left = self.resources()
        for logical_id, resource_type in left.items():
            self._say_detail(f"  Remove  {logical_id} ({resource_type}), or leave it if it is kept")
        if left and not confirm():
            raise DeployError("Not deployed: this was declined and nothing was changed.")
        seen = self._newest_events()
        self._cloudformation.delete_stack(StackName=self._name)
        # By its id: a stack that was removed has no name.
        status, failure = self._watch(seen, deadline=STACK_DEADLINE, stack=description["StackId"])
        if status != "DELETE_COMPLETE":
            raise StackFailedError(self._name, status, failure)
        self._wait_for_queue_names(description["StackId"])

    def _wait_for_queue_names(self, stack: str) -> None:
        """Wait until SQS lets queues have the names again that those of a removed stack had."""
        deleted_at = next(
            (
                event["Timestamp"]
                for page in self._pages_of_events(stack)
                for event in page
                if event["ResourceType"] == "AWS::SQS::Queue"
                and event["ResourceStatus"] == "DELETE_COMPLETE"
            ),
            None,
        )
        if deleted_at is None:
            return
        rest = QUEUE_NAME_REST - (datetime.now(UTC) - deleted_at).total_seconds()
        if rest > 0:
            rest = min(rest, QUEUE_NAME_REST)  # this machine's clock may be wrong
            self._say(f"Waiting {rest:.0f} s: SQS keeps the names of deleted queues for a minute.")
            time.sleep(rest)

    def _create_change_set(self, kind: str, **settings: Any) -> str:
        name = f"deploy-{int(time.time() * 1000)}-{secrets.token_hex(4)}"
        answer = self._cloudformation.create_change_set(
            StackName=self._name,
            ChangeSetName=name,
            # If the answer is lost the SDK asks again: by this it is known to be the same request.
            ClientToken=name,
            ChangeSetType=kind,
            **settings,
        )
        change_set: str = answer["Id"]
        return change_set

    def _named(self, change_set: str) -> dict[str, str]:
        """A change set with its stack, which is what the right to it is bound to."""
        return {"StackName": self._name, "ChangeSetName": change_set}

    def _changes(self, change_set: str) -> list[Change] | None:
        """The changes, once they have been computed; none when there is nothing to change."""
        for description in self._poll(
            lambda: self._cloudformation.describe_change_set(**self._named(change_set)),
            deadline=CHANGE_SET_DEADLINE,
            what=f"the change set of stack {self._name}",
        ):
            if description["Status"] == "FAILED":
                reason = description.get("StatusReason", "no reason given")
                if any(text in reason for text in _NO_CHANGES):
                    return None
                raise DeployError(f"CloudFormation refused the template: {reason}")
            if description["Status"] == "CREATE_COMPLETE":
                break
        pages = self._cloudformation.get_paginator("describe_change_set")
        return [
            Change(
                action=change["ResourceChange"]["Action"],
                logical_id=change["ResourceChange"]["LogicalResourceId"],
                resource_type=change["ResourceChange"]["ResourceType"],
                replacement=change["ResourceChange"].get("Replacement", "False"),
            )
            for page in pages.paginate(**self._named(change_set))
            for change in page["Changes"]
        ]

    def _discard(self, change_set: str, *, exists: bool) -> None:
        self._cloudformation.delete_change_set(**self._named(change_set))
        if not exists:
            self._cloudformation.delete_stack(StackName=self._name)

    def _execute(self, change_set: str, *, deadline: float) -> None:
        seen = self._newest_events()
        try:
            with told():
                self._cloudformation.execute_change_set(
                    **self._named(change_set), ClientRequestToken=secrets.token_hex(8)
                )
        except UnreachableError as error:
            raise DeployError(
                f"{error}\nIt is not known whether AWS has begun to change stack {self._name}. "
                f"{self._how_to_go_on()}"
            ) from error
        status, failure = self._watch(seen, deadline=deadline, stack=self._name)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            raise StackFailedError(self._name, status, failure)

    def _watch(
        self, seen: set[str], *, deadline: float, stack: str
    ) -> tuple[str, ResourceFailure | None]:
        """Tell a stack's events until it has ended; in which status, and what failed first.

        Its own events say when that is. Its status would, too, but for a moment it is still that
        of the deployment before.
        """
        failure: ResourceFailure | None = None
        with self._under_way():
            for events in self._poll(
                lambda: self._new_events(seen, stack), deadline=deadline, what=f"stack {self._name}"
            ):
                told_of = self._tell(events)
                failure = failure or told_of
                for status in map(_status_of_stack, events):
                    if status.endswith("_COMPLETE") or self._stays_failed(status):
                        return status, failure
        raise AssertionError("a stack is polled until it has ended, or an error ends that")

    def _tell(self, events: list[dict[str, Any]]) -> ResourceFailure | None:
        """Says what happened; the first failure in it."""
        for event in events:
            self._say_detail(f"  {_event_line(event)}")
        return next(filter(None, map(_failure_in, events)), None)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Whatever ends the watching, the deployment goes on in AWS: the error says so."""
        try:
            with told():
                yield
        except StackFailedError:
            raise
        except AwsError as error:
            raise DeployError(
                f"{error}\nThe deployment of stack {self._name} goes on in AWS all the same. "
                f"{self._how_to_go_on()}"
            ) from error

    def _how_to_go_on(self) -> str:
        return (
            "Run the same command again: it waits for what is under way, and goes on from there. "
            "To look at it without:\n  aws cloudformation describe-stack-events "
            f"--stack-name {self._name} --region {self._region} --max-items 20"
        )

    def _stays_failed(self, status: str) -> bool:
        """Whether a stack that failed stays so: CREATE_FAILED may be followed by a rollback."""
        if not status.endswith("_FAILED"):
            return False
        description = _describe_stack(self._cloudformation, self._name)
        return description is None or description["StackStatus"] == status

    def _newest_events(self) -> set[str]:
        """The ids of the newest events: a page of them."""
        return {event["EventId"] for event in next(self._pages_of_events(self._name), [])}

    def _new_events(self, seen: set[str], stack: str) -> list[dict[str, Any]]:
        """The events not seen before, oldest first.

        CloudFormation gives the newest first, and all that ever happened to a stack: the rest is
        not asked for once there is one that was seen.
        """
        new: dict[str, dict[str, Any]] = {}  # by id: while pages are read, events move down
        for page in self._pages_of_events(stack):
            known = [place for place, event in enumerate(page) if event["EventId"] in seen]
            # What comes late may stand between those that were seen, but not behind all of them.
            ahead = page[: known[-1]] if known else page
            new |= {event["EventId"]: event for event in ahead if event["EventId"] not in seen}
            if known:
                break
        seen.update(new)
        return [*new.values()][::-1]

    def _pages_of_events(self, stack: str) -> Iterator[list[dict[str, Any]]]:
        pages = self._cloudformation.get_paginator("describe_stack_events")
        for page in pages.paginate(StackName=stack):
            yield page["StackEvents"]

    def _poll(self, ask: Callable[[], T], *, deadline: float, what: str) -> Iterator[T]:
        """Ask again and again, a little less often each time, until the caller stops.

        A network that is lost is waited for, within a bound.
        """
        end = time.monotonic() + deadline
        pause = 0.1
        lost_at: float | None = None
        while time.monotonic() < end:
            try:
                with told():
                    answer = ask()
            except UnreachableError as error:
                if lost_at is None:
                    lost_at = time.monotonic()
                    self._say(f"{error}\nTrying again for {NETWORK_PATIENCE:.0f} s ...")
                if time.monotonic() - lost_at > NETWORK_PATIENCE:
                    raise
            else:
                lost_at = None
                yield answer
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads requests, guards nothing
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        raise DeployError(f"Waited {deadline:.0f} s for {what}, in vain.")


def _is_under_way(description: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a stack is being changed. One that awaits a review is only about to be."""
    status = description["StackStatus"] if description else ""
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _describe_stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    description: dict[str, Any] = stacks[0]
    return description


def _event_line(event: dict[str, Any]) -> str:
    moment: datetime = event["Timestamp"]
    line = (
        f"{moment:%H:%M:%S}  {event['ResourceStatus']:<28}  "
        f"{event['LogicalResourceId']} ({event['ResourceType']})"
    )
    reason = event.get("ResourceStatusReason")
    return f"{line}: {reason}" if reason else line


def _is_of_stack(event: dict[str, Any]) -> bool:
    """Whether an event is about the stack as a whole."""
    return bool(event.get("PhysicalResourceId") == event["StackId"])


def _status_of_stack(event: dict[str, Any]) -> str:
    """What a stack came to by an event; empty for what is under way, and for its resources."""
    status: str = event["ResourceStatus"] if _is_of_stack(event) else ""
    return "" if status.endswith("_IN_PROGRESS") else status


def _failure_in(event: dict[str, Any]) -> ResourceFailure | None:
    """The failure an event tells of, unless it is only the echo of an earlier one."""
    reason = event.get("ResourceStatusReason", "no reason given")
    if not event["ResourceStatus"].endswith("_FAILED") or _is_of_stack(event):
        return None
    # "Resource creation cancelled": because another one failed.
    if "cancelled" in reason:
        return None
    return ResourceFailure(
        logical_id=event["LogicalResourceId"],
        resource_type=event["ResourceType"],
        status=event["ResourceStatus"],
        reason=reason,
    )
