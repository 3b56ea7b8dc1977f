"""Checks that CloudFormation can make the stack: the stack's state, and which names are taken.

CloudFormation never creates a resource that already exists: every type must refuse that
(https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/contract-tests.html,
`contract_create_create`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from infra.deployment.stack_facts import UNMADE, resources_of
from infra.doctor import template
from infra.doctor.finding import Finding, bad, fine, many, plural, unknown, warning
from infra.doctor.site import Json, Site, found
from infra.doctor.template import Named
from infra.doctor.trouble import said
from infra.faults import FAULTS

TAKEN = "docs/deploying.md#names-that-are-taken"
KEPT = "docs/deploying.md#deleting-a-stack-and-deploying-again"
MOST_NAMED = 3


def state(site: Site) -> Iterator[Finding]:
    """Whether the stack can be created or changed."""
    description = site.description
    yield judge_state(site, description["StackStatus"] if description else None)


def judge_state(site: Site, status: str | None) -> Finding:
    """``status``: CloudFormation's status of the stack; None if it does not exist."""
    if status is None:
        return fine("stack", f"{site.stack} is not deployed yet")
    says = f"{site.stack} is {status}"
    deploy = site.make("deploy")
    if status in UNMADE:
        again = f"{deploy} removes what that left, and makes it anew"
        return warning("stack", f"{says}: {UNMADE[status]}", again)
    if status in _STUCK:
        what, command = _STUCK[status]
        aws = f"--stack-name {site.stack} --region {site.region}"
        why = f"See why: aws cloudformation describe-stack-events {aws} --max-items 20"
        then = f"then: aws cloudformation {command} {aws}"
        return bad("stack", f"{says}: {what}", f"{why}; {then}", stops=True)
    # A stack in review was shown to somebody who did not agree.
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        return warning("stack", says, f"{deploy} waits for it, and goes on from there")
    return fine("stack", says)


_STUCK = {
    "UPDATE_ROLLBACK_FAILED": ("an update could not be taken back", "continue-update-rollback"),
}
"""The states in which CloudFormation changes nothing, and how to get a stack out of each."""


# --- Names ----------------------------------------------------------------------------------------


def names(site: Site) -> Iterator[Finding]:
    """Whether resources that the stack will create already exist outside the stack."""
    own = list(_resources(site)) if site.description else []
    wanted = [each for each in template.names(site) if not any(is_own(each, of) for of in own)]
    taken: list[Named] = []
    unasked: dict[str, Exception] = {}
    for named in wanted:
        try:
            # One missing right must not hide what another check finds.
            if named.kind not in unasked and is_taken(site, named):
                taken.append(named)
        except FAULTS as error:
            unasked[named.kind] = error
    yield from judge_names(site, taken, unasked)


def _resources(site: Site) -> Iterator[tuple[str, str]]:
    """The resources of the stack: types and physical ids."""
    for resource in resources_of(site.ask("cloudformation"), site.stack):
        yield resource["ResourceType"], resource.get("PhysicalResourceId", "")


def is_own(named: Named, resource: tuple[str, str]) -> bool:
    """Whether the stack has the resource of that name."""
    kind, physical_id = resource
    # The id is the name, or a URL or an ARN ending in it; a secret's has six more characters.
    ends = re.search(rf"(^|[/:]){re.escape(named.name)}(-\w{{6}})?$", physical_id)
    return kind == named.kind and ends is not None


def judge_names(
    site: Site, taken: Iterable[Named], unasked: Mapping[str, Exception] = MappingProxyType({})
) -> Iterator[Finding]:
    """``taken``: names in use outside the stack; ``unasked``: types not checked."""
    of_kind: dict[str, list[Named]] = defaultdict(list)
    for named in taken:
        of_kind[named.kind].append(named)
    if unasked:
        says, fix = said(next(iter(unasked.values())))
        kinds = ", ".join(many(_WORDS[kind]) for kind in unasked)
        yield unknown("names", f"of {kinds} nobody knows what is there: {says}", fix)
    elif not of_kind:
        yield fine("names", "nothing that the stack makes is there already")
    for kind, there in of_kind.items():
        more = len(there) - MOST_NAMED
        listed = ", ".join(named.name for named in there[:MOST_NAMED])
        listed += f" and {more} more" if more > 0 else ""
        says = (
            f"{plural(len(there), _WORDS[kind])} there already, and not of {site.stack}: {listed}"
        )
        fix = _fix(site, there[0])
        if there[0].is_kept:
            yield warning("names", says, fix)
        else:
            yield bad("names", says, fix, stops=True)


_WORDS = {
    "AWS::DynamoDB::Table": "table",
    "AWS::Events::EventBus": "event bus",
    "AWS::Events::Rule": "rule",
    "AWS::Lambda::Function": "function",
    "AWS::Logs::LogGroup": "log group",
    "AWS::S3::Bucket": "bucket",
    "AWS::SES::ConfigurationSet": "configuration set",
    "AWS::SES::EmailIdentity": "mail identity",
    "AWS::SNS::Topic": "topic",
    "AWS::SQS::Queue": "queue",
    "AWS::SecretsManager::Secret": "secret",
}


def _fix(site: Site, named: Named) -> str:
    if named.is_kept:
        return f"If an earlier stack left it, {site.make('deploy')} takes it over: {KEPT}"
    if named.kind == "AWS::SES::EmailIdentity":
        return (
            f"Name a subdomain of it in MailDomain under [{site.stage}] in infra/parameters.toml, "
            "or import it into the stack: docs/mail.md#setting-it-up"
        )
    if named.kind == "AWS::Logs::LogGroup":
        return (
            "If nobody needs what is in it: aws logs delete-log-group --log-group-name "
            f"{named.name} --region {site.region}; {TAKEN}"
        )
    return f"Whose is it? {TAKEN}"


def is_taken(site: Site, named: Named) -> bool:
    """Whether a resource of that name already exists, in any stack or in none."""
    return _LOOK[named.kind](site, named.name)


def _asked(service: str, call: str, parameter: str) -> Callable[[Site, str], bool]:
    """Makes a function that tells whether a call about a name finds anything."""

    def look(site: Site, name: str) -> bool:
        client = site.ask(service)
        return found(lambda: getattr(client, call)(**{parameter: name})) is not None

    return look


def _is_topic(site: Site, name: str) -> bool:
    partition = site.ask("sns").meta.partition
    arn = f"arn:{partition}:sns:{site.region}:{site.account}:{name}"
    return _asked("sns", "get_topic_attributes", "TopicArn")(site, arn)


def _is_log_group(site: Site, name: str) -> bool:
    answer: Json = site.ask("logs").describe_log_groups(logGroupNamePrefix=name)
    return any(group["logGroupName"] == name for group in answer["logGroups"])


# For each service, the call that CloudFormation itself makes for such a resource: the right to
# deploy includes it.
_LOOK: Mapping[str, Callable[[Site, str], bool]] = {
    "AWS::DynamoDB::Table": _asked("dynamodb", "describe_table", "TableName"),
    "AWS::Events::EventBus": _asked("events", "describe_event_bus", "Name"),
    "AWS::Events::Rule": _asked("events", "describe_rule", "Name"),
    "AWS::Lambda::Function": _asked("lambda", "get_function", "FunctionName"),
    "AWS::Logs::LogGroup": _is_log_group,
    "AWS::S3::Bucket": _asked("s3", "head_bucket", "Bucket"),
    "AWS::SES::ConfigurationSet": _asked("sesv2", "get_configuration_set", "ConfigurationSetName"),
    "AWS::SES::EmailIdentity": _asked("sesv2", "get_email_identity", "EmailIdentity"),
    "AWS::SNS::Topic": _is_topic,
    "AWS::SQS::Queue": _asked("sqs", "get_queue_url", "QueueName"),
    "AWS::SecretsManager::Secret": _asked("secretsmanager", "describe_secret", "SecretId"),
}
