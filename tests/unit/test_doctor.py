"""The doctor's findings, as judgements of facts: each of them fine, and not."""

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import dns.resolver
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from rich.console import Console

from chalicelib.domain.calendar import Period
from chalicelib.settings import TokenSettings
from infra.commands.doctor import judge_region
from infra.deployment import alarms, packaging
from infra.deployment.stack_facts import resources_of
from infra.doctor import (
    account,
    before,
    examination,
    issuer,
    mail,
    mail_dns,
    report,
    resolver,
    running,
    stack,
    template,
)
from infra.doctor.finding import Finding, State, bad, fine, many, plural, unknown, warning
from infra.doctor.site import Json, Site
from infra.doctor.template import Named
from infra.session import AwsError, CredentialsError, Region, Session
from tests.unit.test_authorizer import ISSUER, KEY_SET

UNTYPED: Any = dns.resolver
"""Its errors have no types of their own."""

NOW = datetime(2026, 11, 29, 7, 0, tzinfo=UTC)
DOMAIN = "mail.example.com"


def no_client(service: str, **_: Any) -> Any:
    pytest.fail(f"{service} was asked")


SITE = Site(
    stage="prod",
    stack="credits-prod",
    account="123456789012",
    region="eu-west-1",
    place="AWS account 123456789012, region eu-west-1",
    parameters={"TokenIssuer": ISSUER, "TokenAudience": "credits", "MailDomain": DOMAIN},
    client=no_client,
    now=NOW,
)
DEV = replace(SITE, stage="dev", stack="credits-dev")


def made_of(aws: Any, site: Site = SITE) -> Site:
    """The site, with something else in the place of AWS."""

    def client(service: str, **_: Any) -> Any:
        assert service
        return aws

    return replace(site, client=client, _clients={})


def stack_made(ago: timedelta, site: Site = SITE) -> Site:
    """The site with a stack of that age."""

    class CloudFormation:
        def describe_stacks(self, **_: Any) -> Any:
            return {"Stacks": [{"StackStatus": "CREATE_COMPLETE", "CreationTime": NOW - ago}]}

    return made_of(CloudFormation(), site)


OLD = stack_made(timedelta(days=90))
NEW = stack_made(timedelta(minutes=5))


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def refused(code: str, message: str = "so it says") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetAccountSettings")


# --- Before a deployment --------------------------------------------------------------------------


def test_a_python_that_was_never_tested_stops_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging, "check_python", lambda: None)
    assert only(account.python(SITE)).state is State.FINE

    def refuse() -> None:
        raise packaging.PackagingError("This is Python 3.99.\nmake clean, then: make PYTHON=...")

    monkeypatch.setattr(packaging, "check_python", refuse)
    found = only(account.python(SITE))
    assert found == bad(
        "python", "This is Python 3.99.", "make clean, then: make PYTHON=...", stops=True
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "Set TokenIssuer and TokenAudience under [prod]"),
        ({"TokenIssuer": ISSUER, "TokenAudience": ""}, "Set TokenAudience under [prod]"),
        ({"TokenAudience": "credits"}, "Set TokenIssuer under [prod]"),
    ],
)
def test_a_stage_that_does_not_say_whose_tokens_it_takes_is_not_deployed(
    given: dict[str, str], missing: str
) -> None:
    found = account.judge_parameters("prod", given)
    assert (found.state, found.stops) == (State.BAD, True)
    assert found.fix.startswith(missing)
    assert account.judge_parameters("prod", SITE.parameters).state is State.FINE


def scopes_found(**parameters: str) -> Finding:
    return only(issuer.scopes(replace(SITE, parameters={**SITE.parameters, **parameters})))


@pytest.mark.parametrize(
    ("parameters", "had"),
    [
        (
            {"TokenIssuer": "https://example.eu.auth0.com/"},
            "credits:backend and credits:billing and credits:admin",
        ),
        ({"TokenIssuer": "https://example.okta.com/oauth2/default"}, "credits:backend and"),
        ({"TokenIssuer": "https://okta.com"}, "credits:backend and"),
        ({"TokenIssuer": "https://Example.Okta.com:443/oauth2"}, "credits:backend and"),
        ({"TokenIssuer": "https://example.oktapreview.com/oauth2/default"}, "credits:backend and"),
        (
            {
                "TokenIssuer": "https://login.microsoftonline.com/t/v2.0",
                "TokenScopeClaims": "scp,roles",
                "TokenScopeNames": "credits:backend=Never,credits:admin=Credits.Admin",
            },
            "credits:backend and credits:billing and credits:admin",
        ),
        ({"TokenScopeNames": "credits:admin=*"}, "may have credits:admin:"),
    ],
)
def test_scopes_that_any_user_may_ask_for_are_warned_of(
    parameters: dict[str, str], had: str
) -> None:
    found = scopes_found(**parameters)
    assert (found.check, found.state, found.stops) == ("scopes", State.WARNING, False)
    assert had in found.says
    claims = parameters.get("TokenScopeClaims", "scope,scp")
    assert found.says.endswith(f": TokenScopeClaims is {claims}")
    assert found.fix.endswith(
        "that the issuer's administrator fills: docs/deploying.md#who-may-become-an-admin"
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},  # of an issuer whose rules nobody here knows
        {"TokenIssuer": "https://notauth0.com/"},
        {"TokenIssuer": "https://example.eu.auth0.com/", "TokenScopeClaims": "permissions"},
        {
            "TokenIssuer": "https://example.okta.com/oauth2/default",
            "TokenScopeClaims": "cid,groups",
            "TokenScopeNames": "credits:read=*,credits:use=*,credits:backend=0oa1",
        },
    ],
)
def test_scopes_that_an_administrator_gives_are_fine(parameters: dict[str, str]) -> None:
    assert scopes_found(**parameters).state is State.FINE


def test_names_of_scopes_that_make_no_sense_are_said() -> None:
    found = scopes_found(TokenScopeNames="admin")
    assert (found.state, "ours=theirs" in found.says) == (State.BAD, True)
    assert scopes_found(TokenIssuer="").state is State.UNKNOWN


class ApiGateway:
    """What API Gateway says of the account."""

    def __init__(self, **said: str) -> None:
        self.said = said

    def get_account(self) -> dict[str, str]:
        return self.said


def logging_site(aws: Any, wanted: str) -> Site:
    return made_of(aws, replace(SITE, parameters={**SITE.parameters, "AccessLogs": wanted}))


def test_an_access_log_that_api_gateway_cannot_write_stops_a_deployment() -> None:
    found = only(account.access_log(logging_site(ApiGateway(), "on")))
    assert (found.check, found.state, found.stops) == ("access log", State.BAD, True)
    assert "docs/logs.md#access-logs" in found.fix
    role = "arn:aws:iam::123456789012:role/logs"
    found = only(account.access_log(logging_site(ApiGateway(cloudwatchRoleArn=role), "on")))
    assert (found.state, role in found.says) == (State.FINE, True)


@pytest.mark.parametrize("parameters", [{}, {"AccessLogs": "off"}])
def test_a_stage_without_access_logs_needs_no_role(parameters: dict[str, str]) -> None:
    site = replace(SITE, parameters={**SITE.parameters, **parameters})  # which asks AWS nothing
    assert list(account.access_log(site)) == []


def test_the_concurrency_that_the_stack_wants_is_that_of_its_queues() -> None:
    assert template.concurrency("prod") == 5 * 20 + 2
    assert template.concurrency("dev") == 5 * 5 + 2


@pytest.mark.parametrize(
    ("limit", "in_prod", "in_dev"),
    [
        (1000, State.FINE, State.FINE),
        (92, State.FINE, State.FINE),
        (91, State.BAD, State.WARNING),
        (10, State.BAD, State.WARNING),
    ],
)
def test_an_account_that_runs_less_at_once_than_the_stack_wants_asks_for_more(
    limit: int, in_prod: State, in_dev: State
) -> None:
    found = account.judge_concurrency(SITE, limit, 82)
    assert found.state is in_prod
    assert account.judge_concurrency(DEV, limit, 82).state is in_dev
    assert f"{limit:,} invocations" in found.says
    assert found.fix.startswith(
        "aws service-quotas request-service-quota-increase --service-code lambda --quota-code "
        "L-B99A9384 --desired-value 1000 --region eu-west-1 "
        if in_prod is State.BAD
        else ""
    )
    assert not found.stops


def test_the_concurrency_of_the_account_is_compared_with_what_the_stage_itself_wants() -> None:
    limits = {"ConcurrentExecutions": 100, "UnreservedConcurrentExecutions": 1000}
    aws = SimpleNamespace(get_account_settings=lambda: {"AccountLimit": limits})
    runs = "the account runs 100 invocations at once, and the queues start up to"
    assert only(account.concurrency(made_of(aws, DEV))) == fine("concurrency", f"{runs} 27")
    assert only(account.concurrency(made_of(aws))).says.startswith(f"{runs} 102: at the turn of a")


REMOVES = "make deploy STAGE=prod removes what that left, and makes it anew"
STUCK = "--stack-name credits-prod --region eu-west-1"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, fine("stack", "credits-prod is not deployed yet")),
        *(
            (status, fine("stack", f"credits-prod is {status}"))
            for status in ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS")
        ),
        *(
            (
                status,
                warning("stack", f"credits-prod is {status}: its first creation failed", REMOVES),
            )
            for status in ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
        ),
        (
            "DELETE_FAILED",
            warning(
                "stack",
                "credits-prod is DELETE_FAILED: something of it could not be deleted",
                REMOVES,
            ),
        ),
        (
            "UPDATE_IN_PROGRESS",
            warning(
                "stack",
                "credits-prod is UPDATE_IN_PROGRESS",
                "make deploy STAGE=prod waits for it, and goes on from there",
            ),
        ),
        (
            "UPDATE_ROLLBACK_FAILED",
            bad(
                "stack",
                "credits-prod is UPDATE_ROLLBACK_FAILED: an update could not be taken back",
                f"See why: aws cloudformation describe-stack-events {STUCK} --max-items 20; "
                f"then: aws cloudformation continue-update-rollback {STUCK}",
                stops=True,
            ),
        ),
    ],
)
def test_a_stack_that_cloudformation_cannot_change_stops_a_deployment(
    status: str | None, expected: Finding
) -> None:
    def describe_stacks(StackName: str) -> Json:  # noqa: N803 - AWS's name
        assert StackName == "credits-prod"
        if status is None:
            raise refused("ValidationError", "Stack with id credits-prod does not exist")
        return {"Stacks": [{"StackStatus": status}]}

    site = made_of(SimpleNamespace(describe_stacks=describe_stacks))
    assert only(stack.state(site)) == expected


def test_every_name_of_the_stack_is_known_with_its_parameters_and_its_account() -> None:
    found = {(named.kind, named.name) for named in template.names(SITE)}
    assert {
        ("AWS::DynamoDB::Table", "credits-prod-ledger"),
        ("AWS::SQS::Queue", "credits-prod-sweeps-dlq"),
        ("AWS::S3::Bucket", "credits-prod-reports-123456789012-eu-west-1"),
        ("AWS::SES::EmailIdentity", DOMAIN),
        ("AWS::Lambda::Function", "credits-prod-api"),
        ("AWS::Logs::LogGroup", "/aws/lambda/credits-prod-api"),
        ("AWS::Events::Rule", "credits-prod-allocation-tick"),
        ("AWS::Events::EventBus", "credits-prod"),
        ("AWS::SES::ConfigurationSet", "credits-prod"),
        ("AWS::SNS::Topic", "credits-prod-alarms"),
        ("AWS::SecretsManager::Secret", "credits-prod-unsubscribe-links"),
    } <= found
    assert {kind for kind, _ in found} == {*template.NAMED, "AWS::Events::Rule"}
    assert {name for kind, name in found if kind == "AWS::Events::Rule"} == {
        f"credits-prod-{name}"
        for name in ("allocation-tick", "audit-ledgers", "check-completeness", "expiry-tick")
    }
    kept = {(named.kind.rpartition("::")[2], named.is_kept) for named in template.names(SITE)}
    assert {kind for kind, is_kept in kept if is_kept} == {"Table", "Bucket", "Secret"}
    assert len({kind for kind, _ in kept}) == len(kept), "of a kind all are kept, or none"
    assert not [name for _, name in found if "$" in name]
    emptied = replace(SITE, parameters={"MailDomain": ""})
    assert template.parameter(emptied, "MailDomain") == "", "what is given counts, if it is nothing"
    without = replace(SITE, parameters={})
    assert ("AWS::SES::EmailIdentity", "example.com") in {
        (named.kind, named.name) for named in template.names(without)
    }


def test_only_a_stage_with_a_webhook_needs_the_name_of_its_secret() -> None:
    on = {"Events": "on"}
    url = {"EventsWebhookUrl": "https://example.com/credits"}
    for parameters, is_made in (({}, False), (on, False), (url, False), (on | url, True)):
        made = {named.name for named in template.names(replace(SITE, parameters=parameters))}
        assert ("credits-prod-webhook" in made) is is_made


def test_a_name_that_is_taken_stops_a_deployment_and_says_what_to_do() -> None:
    taken = [
        Named("AWS::DynamoDB::Table", "credits-prod-ledger", is_kept=True),
        *(Named("AWS::Logs::LogGroup", f"/aws/lambda/credits-prod-{n}") for n in "abcd"),
        Named("AWS::SES::EmailIdentity", DOMAIN),
    ]
    table, groups, identity = stack.judge_names(SITE, taken)
    assert table == warning(
        "names",
        "1 table there already, and not of credits-prod: credits-prod-ledger",
        "If an earlier stack left it, make deploy STAGE=prod takes it over: "
        "docs/deploying.md#deleting-a-stack-and-deploying-again",
    )
    groups_of = ", ".join(f"/aws/lambda/credits-prod-{n}" for n in "abc")
    says = "log groups there already, and not of credits-prod:"
    assert groups == bad(
        "names",
        f"4 {says} {groups_of} and 1 more",
        "If nobody needs what is in it: aws logs delete-log-group --log-group-name "
        "/aws/lambda/credits-prod-a --region eu-west-1; docs/deploying.md#names-that-are-taken",
        stops=True,
    )
    assert only(stack.judge_names(SITE, taken[1:4])).says == f"3 {says} {groups_of}"
    assert identity == bad(
        "names",
        f"1 mail identity there already, and not of credits-prod: {DOMAIN}",
        "Name a subdomain of it in MailDomain under [prod] in infra/parameters.toml, or import it "
        "into the stack: docs/mail.md#setting-it-up",
        stops=True,
    )
    queue = only(stack.judge_names(SITE, [Named("AWS::SQS::Queue", "q")]))
    assert queue.fix == "Whose is it? docs/deploying.md#names-that-are-taken"
    assert only(stack.judge_names(SITE, [])).state is State.FINE
    unasked = dict.fromkeys([*template.NAMED, "AWS::Events::Rule"], refused("AccessDenied"))
    unsaid = only(stack.judge_names(SITE, [], unasked))
    assert unsaid.state is State.UNKNOWN
    assert unsaid.says.startswith(
        "of tables, event buses, functions, log groups, buckets, configuration sets, mail "
        "identities, topics, queues, secrets, rules nobody knows what is there: AWS refuses: "
    )


def test_a_right_that_is_missing_for_one_kind_of_name_does_not_hide_what_is_found_of_others() -> (
    None
):
    class Aws:
        """An account with all queues taken, and nobody may ask for tables or secrets."""

        asked: list[str] = []  # noqa: RUF012 - of this test alone

        def __getattr__(self, call: str) -> Callable[..., Any]:
            def answer(**_: Any) -> Any:
                self.asked.append(call)
                if call == "get_queue_url":
                    return {"QueueUrl": "https://..."}
                denied = call in ("describe_table", "describe_secret")
                raise refused("AccessDeniedException" if denied else "NotFoundException")

            return answer

        meta = SimpleNamespace(partition="aws")

        def describe_stacks(self, **_: Any) -> Any:
            raise refused("ValidationError", "Stack with id credits-prod does not exist")

        def describe_log_groups(self, **_: Any) -> Any:
            return {"logGroups": []}

    nobody_knows, taken = stack.names(made_of(Aws()))
    for call in ("describe_table", "describe_secret"):
        assert Aws.asked.count(call) == 1, "it is refused each time"
    assert nobody_knows.state is State.UNKNOWN
    assert nobody_knows.says.startswith(
        "of tables, secrets nobody knows what is there: AWS refuses"
    )
    assert (taken.state, taken.stops) == (State.BAD, True)
    assert taken.says.startswith("15 queues there already")


ABSENT = {
    "AWS::DynamoDB::Table": (
        "dynamodb",
        "describe_table",
        "TableName",
        "ResourceNotFoundException",
    ),
    "AWS::Events::EventBus": ("events", "describe_event_bus", "Name", "ResourceNotFoundException"),
    "AWS::Events::Rule": ("events", "describe_rule", "Name", "ResourceNotFoundException"),
    "AWS::Lambda::Function": (
        "lambda",
        "get_function",
        "FunctionName",
        "ResourceNotFoundException",
    ),
    "AWS::S3::Bucket": ("s3", "head_bucket", "Bucket", "404"),
    "AWS::SES::ConfigurationSet": (
        *("sesv2", "get_configuration_set", "ConfigurationSetName", "NotFoundException"),
    ),
    "AWS::SES::EmailIdentity": (
        "sesv2",
        "get_email_identity",
        "EmailIdentity",
        "NotFoundException",
    ),
    "AWS::SNS::Topic": ("sns", "get_topic_attributes", "TopicArn", "NotFound"),
    "AWS::SQS::Queue": (
        *("sqs", "get_queue_url", "QueueName", "AWS.SimpleQueueService.NonExistentQueue"),
    ),
    "AWS::SecretsManager::Secret": (
        *("secretsmanager", "describe_secret", "SecretId", "ResourceNotFoundException"),
    ),
}
"""Which call of which service tells of a name, and with which code that there is none."""


@pytest.mark.parametrize("kind", ABSENT)
def test_a_name_is_asked_for_at_its_own_service_which_says_that_there_is_none(kind: str) -> None:
    service, call, parameter, code = ABSENT[kind]
    named = "arn:aws-cn:sns:eu-west-1:123456789012:it" if service == "sns" else "it"

    def client(asked: str, *, is_there: bool, **_: Any) -> Any:
        def answer(**given: str) -> Json:
            assert given == {parameter: named}
            if is_there:
                return {}
            raise refused(code)

        assert asked == service
        return SimpleNamespace(meta=SimpleNamespace(partition="aws-cn"), **{call: answer})

    for is_there in (True, False):
        site = replace(SITE, client=partial(client, is_there=is_there), _clients={})
        assert stack.is_taken(site, Named(kind, "it")) is is_there


def test_a_log_group_is_there_only_by_its_whole_name() -> None:
    aws = SimpleNamespace(
        describe_log_groups=lambda logGroupNamePrefix: {  # noqa: N803 - AWS's name
            "logGroups": [
                {"logGroupName": f"{logGroupNamePrefix}-of-another"},
                {"logGroupName": "b"},
            ]
        }
    )
    group = Named("AWS::Logs::LogGroup", "/aws/lambda/credits-prod-api")
    assert not stack.is_taken(made_of(aws), group)
    assert stack.is_taken(made_of(aws), replace(group, name="b"))
    assert {*ABSENT, group.kind} == {named.kind for named in template.names(SITE)}


@pytest.mark.parametrize(
    ("kind", "name", "physical_id"),
    [
        ("AWS::DynamoDB::Table", "credits-prod-ledger", "credits-prod-ledger"),
        (
            "AWS::SQS::Queue",
            "c-sweeps",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/c-sweeps",
        ),
        ("AWS::SNS::Topic", "c-alarms", "arn:aws:sns:eu-west-1:123456789012:c-alarms"),
        ("AWS::SecretsManager::Secret", "c-x", "arn:aws:secretsmanager:e:1:secret:c-x-AbC123"),
        ("AWS::Logs::LogGroup", "/aws/lambda/c-api", "/aws/lambda/c-api"),
    ],
)
def test_what_is_of_the_stack_is_not_taken(kind: str, name: str, physical_id: str) -> None:
    named = Named(kind, name)
    assert stack.is_own(named, (kind, physical_id))
    assert not stack.is_own(named, ("AWS::IAM::Role", physical_id))
    assert not stack.is_own(replace(named, name=name[2:]), (kind, physical_id))
    assert not stack.is_own(replace(named, name=name.replace("-", ".")), (kind, physical_id))


# --- Email ----------------------------------------------------------------------------------------

ACCOUNT = {
    "ProductionAccessEnabled": True,
    "SendingEnabled": True,
    "EnforcementStatus": "HEALTHY",
    "SendQuota": {"MaxSendRate": 14.0, "Max24HourSend": 50_000.0, "SentLast24Hours": 0.0},
}


def test_an_account_that_sends_to_everybody_is_fine() -> None:
    found = only(mail.judge_account(SITE, ACCOUNT, 14))
    assert found == fine("mail account", "SES takes 14 emails a second and 50,000 a day")
    unsaid = {key: ACCOUNT[key] for key in ("ProductionAccessEnabled", "SendQuota")}
    assert only(mail.judge_account(SITE, unsaid, 14)).state is State.FINE
    for most, said in ((-1.0, "any number of"), (0.0, "0")):
        quota = ACCOUNT["SendQuota"] | {"Max24HourSend": most}  # type: ignore[operator]
        found = only(mail.judge_account(SITE, ACCOUNT | {"SendQuota": quota}, 14))
        assert found.says == f"SES takes 14 emails a second and {said} a day"


def test_the_rate_of_the_account_is_compared_with_that_of_the_stage_or_of_the_template() -> None:
    aws = SimpleNamespace(get_account=lambda: ACCOUNT)
    assert only(mail.account(made_of(aws))).state is State.FINE
    slow = ACCOUNT | {"SendQuota": {"MaxSendRate": 13.5, "Max24HourSend": 200.0}}
    _, found = mail.account(made_of(SimpleNamespace(get_account=lambda: slow)))
    assert found.says == "the stack sends 14 emails a second, and SES takes 13.5"
    faster = replace(SITE, parameters={"MailsASecond": "20"})
    _, found = mail.account(made_of(aws, faster))
    assert found.says == "the stack sends 20 emails a second, and SES takes 14"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"ProductionAccessEnabled": False},
            bad(
                "mail account",
                "SES keeps this account in its sandbox: only verified addresses get emails",
                "aws sesv2 put-account-details --production-access-enabled --mail-type "
                "TRANSACTIONAL --website-url https://... --region eu-west-1",
            ),
        ),
        *(
            (
                paused,
                bad(
                    "mail account",
                    "SES has paused sending for this account",
                    "See why in the SES console, Account dashboard; docs/operating.md#mails-failed",
                ),
            )
            for paused in ({"SendingEnabled": False}, {"EnforcementStatus": "SHUTDOWN"})
        ),
        (
            {"EnforcementStatus": "PROBATION"},
            warning(
                "mail account",
                "SES has this account under review (probation)",
                "See why in the SES console, Account dashboard; docs/operating.md#mail-bounces",
            ),
        ),
    ],
)
def test_what_ses_holds_against_an_account_is_said(
    changed: dict[str, Any], expected: Finding
) -> None:
    first, *others = mail.judge_account(SITE, ACCOUNT | changed, 14)
    assert first == expected
    in_sandbox = "ProductionAccessEnabled" in changed
    assert [each.state for each in others] == ([] if in_sandbox else [State.FINE])


def test_a_sandbox_is_no_trouble_for_a_stage_without_users() -> None:
    sandbox = ACCOUNT | {"ProductionAccessEnabled": False}
    assert only(mail.judge_account(DEV, sandbox, 1)).state is State.WARNING


def test_a_stage_that_sends_faster_than_ses_takes_is_told_the_rate() -> None:
    _, found = mail.judge_account(SITE, ACCOUNT, 15)
    assert found == warning(
        "mail rate",
        "the stack sends 15 emails a second, and SES takes 14",
        "Set MailsASecond = 14 under [prod] in infra/parameters.toml, or ask SES for a higher rate",
    )


PRODUCT = {
    "ProductName": "Lighthouse",
    "ProductUrl": "https://app.example.com",
    "ProductLogoUrl": "https://example.com/logo.png",
    "ProductAddress": "Harbour Street 1",
    "ProductSupport": "help@example.com",
}


def test_users_must_learn_whose_the_emails_are() -> None:
    named = replace(SITE, parameters={**SITE.parameters, **PRODUCT})
    assert only(mail.product(named)).state is State.FINE
    for left_out, value in itertools.product(PRODUCT, ("", None)):
        given = {**PRODUCT, left_out: value}
        parameters = {name: said for name, said in given.items() if said is not None}
        found = only(mail.product(replace(SITE, parameters=parameters)))
        assert (found.state, found.stops) == (State.BAD, True)
        assert found.says.endswith(f": {left_out} is not set")
        assert "[prod] in infra/parameters.toml" in found.fix
    trial = only(mail.product(DEV))
    assert (trial.state, trial.stops) == (State.WARNING, False)
    nobody = replace(SITE, parameters={**PRODUCT, "ProductName": "Credits", "ProductSupport": ""})
    found = only(mail.product(nobody))
    assert (found.state, found.says) == (
        *(State.BAD, "emails do not say whose they are: ProductName, ProductSupport are not set"),
    )
    assert only(mail.product(named)).says == "emails come in the name of Lighthouse"


IDENTITY = {
    "VerifiedForSendingStatus": True,
    "DkimAttributes": {"SigningEnabled": True, "Status": "SUCCESS", "Tokens": ["a", "b", "c"]},
    "MailFromAttributes": {"MailFromDomain": f"bounces.{DOMAIN}"},
}
UNSIGNED = {"DkimAttributes": {"SigningEnabled": False, "Status": "SUCCESS", "Tokens": []}}
UNFOUND = {"DkimAttributes": {"SigningEnabled": True, "Status": "PENDING", "Tokens": []}}
ADD = "Add those that are named below; SES looks for them for 72 hours. docs/mail.md#setting-it-up"
SIGN = (
    f"aws sesv2 put-email-identity-dkim-attributes --email-identity {DOMAIN} --signing-enabled "
    "--region eu-west-1; docs/mail.md#setting-it-up"
)


@pytest.mark.parametrize(
    ("known", "says", "fix"),
    [
        (None, f"the deployment makes {DOMAIN}; DNS entries come after it", ""),
        (IDENTITY, f"{DOMAIN} is verified, and signed with DKIM", ""),
        (
            IDENTITY | {"DkimAttributes": {"Status": "SUCCESS"}},
            f"{DOMAIN} is verified, and signed with DKIM",
            "",
        ),
        (
            IDENTITY | UNFOUND | {"VerifiedForSendingStatus": False},
            f"SES has not found the DNS entries of {DOMAIN} (DKIM: PENDING): it refuses emails",
            ADD,
        ),
        (
            {},
            f"SES has not found the DNS entries of {DOMAIN} (DKIM: NOT_STARTED): it refuses emails",
            ADD,
        ),
        (
            IDENTITY | UNSIGNED,
            f"{DOMAIN} is verified, and its emails are not signed (DKIM: SUCCESS)",
            SIGN,
        ),
        (
            IDENTITY | UNFOUND,
            f"{DOMAIN} is verified, and its emails are not signed (DKIM: PENDING)",
            SIGN,
        ),
    ],
)
def test_a_domain_that_ses_does_not_take_emails_from_is_said(
    known: dict[str, Any] | None, says: str, fix: str
) -> None:
    found = mail.judge_identity(SITE, DOMAIN, known)
    assert found == (bad("mail identity", says, fix) if fix else fine("mail identity", says))
    if fix:
        assert mail.judge_identity(DEV, DOMAIN, known) == warning("mail identity", says, fix)


def test_the_dns_of_a_domain_is_looked_at_once_ses_knows_the_domain() -> None:
    asked: list[str] = []

    def ses(known: Json | None) -> Site:
        def get_email_identity(EmailIdentity: str) -> Json:  # noqa: N803 - AWS's name
            asked.append(EmailIdentity)
            if known is None:
                raise refused("NotFoundException")
            return known

        aws = SimpleNamespace(get_email_identity=get_email_identity)
        site = replace(SITE, resolve=lambda name, kind: ENTRIES.get((name, kind), []))
        return made_of(aws, site)

    made = list(mail.identity(ses(IDENTITY)))
    assert [(each.check, each.state) for each in made] == [
        ("mail identity", State.FINE),
        ("mail DNS", State.FINE),
    ]
    assert only(mail.identity(ses(None))).says.startswith("the deployment makes mail.example.com")
    unsaid = only(mail.identity(replace(ses(None), parameters={})))
    assert unsaid.says.startswith("the deployment makes example.com;"), "the template's own"
    assert asked == [DOMAIN, DOMAIN, "example.com"]


ENTRIES = {
    ("a._domainkey.mail.example.com", "CNAME"): ["a.dkim.amazonses.com"],
    ("b._domainkey.mail.example.com", "CNAME"): ["B.dkim.AmazonSES.com"],
    ("c._domainkey.mail.example.com", "CNAME"): ["c.dkim.amazonses.com"],
    ("bounces.mail.example.com", "MX"): ["10 feedback-smtp.eu-west-1.amazonses.com"],
    ("bounces.mail.example.com", "TXT"): ["proof=1", "v=spf1 include:amazonses.com -all"],
    ("_dmarc.mail.example.com", "TXT"): ["v=DMARC1; p=none"],
}
Entries = dict[tuple[str, str], list[str]]


def looked_up(entries: Entries, site: Site = SITE) -> list[Finding]:
    site = replace(site, resolve=lambda name, kind: entries.get((name, kind), []))
    return list(mail_dns.look(site, mail_dns.wanted(site, DOMAIN, IDENTITY)))


def test_dns_entries_that_are_all_there_are_fine_however_they_are_spelt() -> None:
    assert looked_up(ENTRIES) == [fine("mail DNS", "6 entries are as they should be")]


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_dns_entry_that_is_missing_is_named_with_what_to_add(entry: tuple[str, str]) -> None:
    name, kind = entry
    problem, rest = looked_up({key: value for key, value in ENTRIES.items() if key != entry})
    assert problem.says == f"{kind} of {name} is not there"
    assert problem.fix.startswith(f"Add it: {name} {kind} ")
    assert (problem.fix[-1] == '"') == (kind == "TXT"), "a text is written in quotes"
    # Without DKIM SES takes no emails; without the others some receivers do not.
    assert problem.state is (State.BAD if kind == "CNAME" else State.WARNING)
    assert rest.says.startswith("5 entries")


@pytest.mark.parametrize(
    ("entry", "there"),
    [
        (("a._domainkey.mail.example.com", "CNAME"), "a.dkim.amazonses.com.mail.example.com"),
        (("bounces.mail.example.com", "MX"), "10 feedback-smtp.us-east-1.amazonses.com"),
        (("bounces.mail.example.com", "TXT"), "v=spf1 include:_spf.google.com ~all"),
        (("bounces.mail.example.com", "TXT"), "v=spf1 include:amazonses.com.example.com ~all"),
    ],
)
def test_a_dns_entry_that_says_something_else_is_shown_with_what_it_should_be(
    entry: tuple[str, str], there: str
) -> None:
    problem, _ = looked_up(ENTRIES | {entry: [there]})
    assert problem.says == f"{entry[1]} of {entry[0]} is {there}"
    assert problem.fix.startswith(f"Change it: {entry[0]} {entry[1]} ")


@pytest.mark.parametrize(
    ("entry", "policy"),
    [
        (("bounces.mail.example.com", "TXT"), "v=spf1 include:amazonses.com ~all"),
        (("_dmarc.mail.example.com", "TXT"), "v=DMARC1; p=none"),
    ],
)
def test_two_policies_are_none(entry: tuple[str, str], policy: str) -> None:
    problem, _ = looked_up(ENTRIES | {entry: [policy, policy]})
    assert problem.state is State.WARNING
    assert problem.fix == "Leave one"


def test_a_second_mx_is_one_too_many() -> None:
    entry = ("bounces.mail.example.com", "MX")
    problem, _ = looked_up(ENTRIES | {entry: [*ENTRIES[entry], "20 mail.example.com"]})
    assert problem.says.endswith("amazonses.com, 20 mail.example.com")
    assert problem.fix.startswith("Change it: bounces.mail.example.com MX 10 feedback-smtp.eu-west")


def test_the_policy_of_the_domain_above_counts_for_a_subdomain() -> None:
    entries = {key: value for key, value in ENTRIES.items() if key[0] != f"_dmarc.{DOMAIN}"}
    entries["_dmarc.example.com", "TXT"] = ["v=DMARC1; p=reject"]
    assert looked_up(entries) == [fine("mail DNS", "6 entries are as they should be")]
    # Its own comes first, and a top-level domain has none that counts.
    own = entries | {(f"_dmarc.{DOMAIN}", "TXT"): ["v=DMARC1; p=none"] * 2}
    assert looked_up(own)[0].fix == "Leave one"
    *_, policy = mail_dns.wanted(SITE, DOMAIN, IDENTITY)
    assert policy.also_at == ["_dmarc.example.com"]
    *_, policy = mail_dns.wanted(SITE, f"eu.{DOMAIN}", IDENTITY)
    assert policy.also_at == [f"_dmarc.{DOMAIN}", "_dmarc.example.com"], "the nearest first"


def test_a_region_that_keeps_its_dkim_keys_elsewhere_is_asked_where() -> None:
    dkim = IDENTITY["DkimAttributes"] | {"SigningHostedZone": "dkim.eu-x.amazonses.com"}  # type: ignore[operator]
    wanted = mail_dns.wanted(SITE, DOMAIN, IDENTITY | {"DkimAttributes": dkim})
    assert next(wanted).value == "a.dkim.eu-x.amazonses.com"


def test_what_is_no_policy_does_not_stand_for_one_and_bounces_go_to_the_stages_own_region() -> None:
    entries = {("bounces.mail.example.com", "TXT"): ["proof=1 include:amazonses.com"]}
    problem, _ = looked_up(ENTRIES | entries)
    value = '"v=spf1 include:amazonses.com ~all"'
    assert problem == warning(
        "mail DNS",
        "TXT of bounces.mail.example.com is not there",
        f"Add it: bounces.mail.example.com TXT {value}",
    )
    problem, _ = looked_up(ENTRIES, replace(SITE, region="us-east-2"))
    assert problem.fix == (
        "Change it: bounces.mail.example.com MX 10 feedback-smtp.us-east-2.amazonses.com"
    )


@pytest.mark.parametrize(
    "error",
    [
        UNTYPED.LifetimeTimeout(timeout=5.0, errors=[]),
        UNTYPED.NoNameservers(),
        UNTYPED.NoResolverConfiguration(),
        UNTYPED.NoRootSOA("SERVFAIL"),
    ],
)
def test_name_servers_that_do_not_answer_are_asked_once_and_accuse_nobody(
    error: Exception,
) -> None:
    asked = []

    def resolve(name: str, _kind: str) -> list[str]:
        asked.append(name)
        raise error

    site = replace(SITE, resolve=resolve)
    found = only(mail_dns.look(site, mail_dns.wanted(site, DOMAIN, IDENTITY)))
    assert found.state is State.UNKNOWN
    assert "dig a._domainkey.mail.example.com CNAME" in found.fix
    assert len(asked) == 1


# --- The issuer -----------------------------------------------------------------------------------


def test_an_issuer_with_keys_for_us_is_shown_with_their_algorithms() -> None:
    assert only(issuer.keys(SITE, lambda _: KEY_SET)) == fine(
        "issuer",
        "the issuer has 'rsa' for RS256, 'any rsa' for RS256 or RS384 or RS512 or PS256 or PS384 "
        "or PS512, 'ec' for ES256; 'enc' is left out: it is for 'enc' (use), not for signatures",
    )
    symmetric = {"kty": "oct", "kid": "a", "k": "AA"}
    mixed = only(issuer.keys(SITE, lambda _: {"keys": [*KEY_SET["keys"], symmetric]}))
    assert mixed.state is State.FINE
    assert "(use), not for signatures; 'a' is left out: " in mixed.says


def test_the_keys_are_fetched_from_where_the_stage_will_fetch_them() -> None:
    asked: list[TokenSettings] = []
    elsewhere = {**SITE.parameters, "TokenJwksUrl": "https://keys.example.com/jwks"}

    def fetch(settings: TokenSettings) -> Any:
        asked.append(settings)
        raise TimeoutError

    found = only(issuer.keys(replace(SITE, parameters=elsewhere), fetch))
    assert (asked[0].issuer, asked[0].jwks_url) == (ISSUER, "https://keys.example.com/jwks")
    assert found.says.endswith("TimeoutError. Without keys the API answers 503")
    assert found.fix.startswith("Look at https://keys.example.com/jwks. ")
    assert found.fix.endswith("see that it does: make token-check STAGE=prod")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (TimeoutError("timed out"), "timed out"),
        (ValueError("https://x is not JSON: it begins b'<html>'"), "is not JSON"),
        (ValueError("https://x answered 200 with 262145 bytes"), "262145 bytes"),
        (KeyError("jwks_uri"), "jwks_uri"),
        (RecursionError("deep"), "deep"),
    ],
)
def test_an_issuer_without_keys_for_us_is_said_and_does_not_stop_a_deployment(
    fault: Exception, says: str
) -> None:
    def fetch(_: TokenSettings) -> Any:
        raise fault

    found = only(issuer.keys(SITE, fetch))
    assert found.state is State.BAD
    assert says in found.says
    assert "Look at https://issuer.example.com/.well-known/openid-configuration. " in found.fix
    assert not found.stops


def test_an_issuer_that_only_signs_with_a_shared_secret_is_refused() -> None:
    symmetric = {"keys": [{"kty": "oct", "kid": "a", "k": "AA"}]}
    found = only(issuer.keys(SITE, lambda _: symmetric))
    assert found.state is State.BAD
    assert "'a': its type 'oct'" in found.says


def test_an_issuer_without_https_is_refused_before_it_is_asked() -> None:
    site = replace(SITE, parameters={"TokenIssuer": "http://issuer.example.com"})
    found = only(issuer.keys(site, lambda _: pytest.fail("it was asked")))
    assert found.state is State.BAD
    assert "must be an https:// address" in found.says
    assert only(issuer.keys(replace(SITE, parameters={}))).state is State.UNKNOWN


# --- A running stack ------------------------------------------------------------------------------


def alarm(name: str, state: str = "OK", **more: Any) -> dict[str, Any]:
    return {
        "AlarmName": f"credits-prod-{name}",
        "AlarmDescription": f"It is bad. See {alarms.RUNBOOK}#dead-letters",
        "StateValue": state,
        "StateUpdatedTimestamp": NOW,
        "ActionsEnabled": True,
        **more,
    }


def test_an_alarm_that_rings_is_shown_with_its_section_of_the_runbook() -> None:
    quiet = [alarm("queue-age-sweeps"), alarm("api-5xx", "INSUFFICIENT_DATA")]
    assert only(running.judge_alarms(SITE, quiet)) == fine("alarms", "none of 2 rings")
    found = only(running.judge_alarms(SITE, [*quiet, alarm("dead-letters-sweeps", "ALARM")]))
    assert found == bad(
        "alarms",
        "dead-letters-sweeps rings since 2026-11-29T07:00:00Z. It is bad.",
        "docs/operating.md#dead-letters",
    )
    undescribed = alarm("api-5xx", "ALARM", AlarmDescription="")
    assert only(running.judge_alarms(SITE, [undescribed])).fix == "docs/operating.md"


def test_alarms_that_tell_nobody_and_a_stack_without_any_are_said() -> None:
    told = alarm("api-latency")
    del told["ActionsEnabled"]  # which CloudWatch may leave out
    silent, quiet = running.judge_alarms(SITE, [alarm("api-5xx", ActionsEnabled=False), told])
    assert silent == warning(
        "alarms",
        "1 alarm would tell nobody: credits-prod-api-5xx",
        "aws cloudwatch enable-alarm-actions --region eu-west-1 --alarm-names credits-prod-api-5xx",
    )
    assert quiet == fine("alarms", "none of 2 rings")
    several = [alarm(name, "ALARM", ActionsEnabled=False) for name in ("api-5xx", "mails-failed")]
    *_, silent = running.judge_alarms(SITE, several)
    one, other = (alarm["AlarmName"] for alarm in several)
    assert silent.says == f"2 alarms would tell nobody: {one}, {other}"
    assert silent.fix.endswith(f" --alarm-names {one} {other}")
    assert only(running.judge_alarms(SITE, [])) == warning(
        "alarms", "the stack has none", "make deploy STAGE=prod"
    )


def test_dead_letters_are_counted_with_the_command_that_moves_them_back() -> None:
    none = {"sweeps": 0, "mail-events": 0}
    assert only(running.judge_dead_letters(SITE, none)) == fine("dead letters", "none in 2 queues")
    sweeps, events = running.judge_dead_letters(SITE, {"sweeps": 1, "mail-events": 3})
    assert sweeps == bad(
        "dead letters",
        "1 message of sweeps failed for good",
        "make redrive STAGE=prod QUEUE=sweeps; docs/operating.md#dead-letters",
    )
    assert events.fix == "docs/operating.md#dead-letters"


def subscription(protocol: str, endpoint: str, arn: str = "arn:aws:sns:e:1:t:x") -> dict[str, str]:
    return {"Protocol": protocol, "Endpoint": endpoint, "SubscriptionArn": arn}


def test_alarms_that_nobody_hears_are_said() -> None:
    pager = subscription("https", "https://pager.example.com/key-0815")
    waiting = subscription("email", "ops@example.com", running.PENDING)
    assert running.PENDING == "PendingConfirmation"
    confirmed = fine("alarm topic", "1 subscription confirmed")
    assert only(running.judge_subscriptions(SITE, [pager])) == confirmed
    assert only(running.judge_subscriptions(SITE, [])) == bad(
        "alarm topic",
        "nobody has subscribed: alarms ring unheard",
        "Set AlarmEmail under [prod] in infra/parameters.toml; make deploy STAGE=prod",
    )
    pending = bad(
        "alarm topic",
        "ops@example.com has not confirmed, and hears no alarm",
        "Follow the link that AWS has sent there within 48 hours; after that, subscribe again: "
        "docs/deploying.md#6-mail-and-alarms",
    )
    assert only(running.judge_subscriptions(SITE, [waiting])) == pending
    assert [*running.judge_subscriptions(SITE, [waiting, pager])] == [pending, confirmed]
    assert only(running.judge_subscriptions(DEV, [])).state is State.WARNING


def test_the_key_in_a_pagers_address_is_not_shown() -> None:
    pager = subscription("https", "https://pager.example.com/key-0815", running.PENDING)
    assert "0815" not in str(only(running.judge_subscriptions(SITE, [pager])))


def test_ticks_that_have_stopped_are_said_and_those_of_a_new_stack_are_waited_for() -> None:
    on_time = running.judge_tick(OLD, "allocation", NOW - timedelta(minutes=30))
    assert on_time == fine("allocation tick", "the last was 30 minutes ago")
    late = running.judge_tick(OLD, "allocation", NOW - timedelta(minutes=31))
    assert late == bad(
        "allocation tick",
        "the last was 31 minutes ago, and one is due every 15 minutes",
        "docs/operating.md#allocation-ticks",
    )
    assert running.judge_tick(OLD, "expiry", None) == bad(
        "expiry tick",
        "none for hours, and one is due every 15 minutes",
        "docs/operating.md#expiry-ticks",
    )
    assert running.judge_tick(NEW, "expiry", None) == fine(
        "expiry tick", "none yet: the stack is new, and the first comes at the quarter of an hour"
    )
    for minutes, state in ((29, State.FINE), (30, State.BAD)):
        young = stack_made(timedelta(minutes=minutes))
        assert running.judge_tick(young, "expiry", None).state is state


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (timedelta(minutes=31), "31 minutes"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(minutes=120), "2 hours"),
        (timedelta(hours=47, minutes=59), "47 hours"),
        (timedelta(hours=48), "2 days"),
    ],
)
def test_how_long_ago_something_was_is_said_in_words_of_its_size(ago: timedelta, said: str) -> None:
    late = running.judge_tick(OLD, "expiry", NOW - ago)
    assert late.says == f"the last was {said} ago, and one is due every 15 minutes"


def test_a_clock_that_is_a_little_ahead_is_no_matter() -> None:
    ahead = running.judge_tick(OLD, "expiry", NOW + timedelta(seconds=90))
    assert ahead == fine("expiry tick", "the last was 0 minutes ago")
    assert running.judge_tick(OLD, "expiry", NOW - timedelta(seconds=60)).says.endswith(
        "1 minute ago"
    )


def test_a_stage_is_said_to_be_a_shadow_only_where_it_is_one() -> None:
    def stage(value: str | None) -> Site:
        given = [{"ParameterKey": "Shadow", "ParameterValue": value}] if value else []
        found = {"Stacks": [{"Parameters": given}]}
        return made_of(SimpleNamespace(describe_stacks=lambda StackName: found))  # noqa: ARG005, N803

    assert only(running.shadow(stage("on"))).says.startswith("it sends nothing")
    for value in ("off", "2026-11-01T00:00:00Z", None):
        assert list(running.shadow(stage(value))) == []


def test_metrics_are_asked_for_by_the_stage_and_the_time_that_is_judged() -> None:
    asked: list[Json] = []
    sums = {
        "LedgersCorrupt": [(timedelta(hours=30), 3.0), (timedelta(hours=2), 0.0)],
        "LedgersVerified": [(timedelta(hours=30), 7.0), (timedelta(hours=2), 200.0)],
        # A period in which none came says nothing of ticks.
        # CloudWatch gives periods in no order.
        "AllocationTicks": [
            (timedelta(hours=minutes / 60), each)
            for minutes, each in ((0, 0.0), (170, 1.0), (100, 1.0), (150, 2.0))
        ],
    }

    class CloudWatch:
        def get_metric_statistics(self, **given: Any) -> Any:
            asked.append(given)
            points = sums.get(given["MetricName"], ())
            return {"Datapoints": [{"Timestamp": NOW - ago, "Sum": each} for ago, each in points]}

    site = made_of(CloudWatch(), DEV)
    site.__dict__["description"] = {"CreationTime": NOW - timedelta(days=90)}
    assert only(running.audit(site)).says == "no ledger of 200 was wrong 2 hours ago"
    allocation, expiry = running.ticks(site)
    assert allocation.says.startswith("the last was 100 minutes ago")
    assert expiry.says.startswith("none for hours")
    # A small stage does not write how many were walked.
    sums["LedgersVerified"] = []
    assert only(running.audit(site)).says == "no ledger was wrong 2 hours ago"
    for given, hours, period in zip(asked[:4], (78, 78, 3, 3), (3600, 3600, 60, 60), strict=True):
        assert given | {"MetricName": ""} == {
            "Namespace": "Credits",
            "MetricName": "",
            "Dimensions": [{"Name": "service", "Value": "credits-dev"}],
            "StartTime": NOW - timedelta(hours=hours),
            "EndTime": NOW,
            "Period": period,
            "Statistics": ["Sum"],
        }


def test_an_audit_that_is_late_or_found_something_is_said() -> None:
    yesterday = NOW - timedelta(hours=26)
    good = running.judge_audit(OLD, yesterday, 0, 200)
    assert good == fine("audit", "no ledger of 200 was wrong 26 hours ago")
    # A stage that does not write how many were walked.
    assert running.judge_audit(OLD, yesterday, 0).says == "no ledger was wrong 26 hours ago"
    corrupt = running.judge_audit(OLD, NOW, 1, 200)
    says = "1 ledger did not verify in the last audit"
    assert corrupt == bad("audit", says, "docs/operating.md#ledger-corrupt")
    assert running.judge_audit(OLD, NOW - timedelta(days=3), 1) == corrupt, "until the next one"
    late = running.judge_audit(OLD, NOW - timedelta(hours=27), 0, 200)
    assert late == bad(
        "audit",
        "the last was 27 hours ago, and one is due every day",
        "Why: aws logs tail /aws/lambda/credits-prod-audit-ledgers --since 2d --region eu-west-1; "
        "by hand: make verify STAGE=prod SAMPLE=1000",
    )
    never = running.judge_audit(OLD, None, 0)
    assert never == replace(late, says="none for days, and one is due every day")
    assert running.judge_audit(NEW, None, 0) == fine(
        "audit", "none yet: the stack is new, and the first comes at 13:40 UTC"
    )
    for hours, state in ((25, State.FINE), (26, State.BAD)):
        assert running.judge_audit(stack_made(timedelta(hours=hours)), None, 0).state is state


COUNTED = {"complete": True, "due": 1200, "missing": 0, "duplicate": 0, "unchecked": 0}
NOVEMBER = Period(2026, 11)


@pytest.mark.parametrize(
    ("changed", "says", "section"),
    [
        ({"missing": 1_003}, "1,003 missing", "allocations-missing"),
        ({"duplicate": 1}, "1 duplicate", "allocations-duplicate"),
        ({"unchecked": 2}, "2 unchecked", "timezone-unknown"),
        (
            {"missing": 3, "duplicate": 1, "unchecked": 2},
            "3 missing, 1 duplicate, 2 unchecked",
            "allocations-missing",
        ),
        ({"duplicate": 1, "unchecked": 2}, "1 duplicate, 2 unchecked", "allocations-duplicate"),
    ],
)
def test_a_month_that_is_not_complete_is_said(
    changed: dict[str, Any], says: str, section: str
) -> None:
    written = NOW - timedelta(days=20)
    wrong = COUNTED | changed | {"complete": False}
    assert running.judge_completeness(SITE, NOVEMBER, wrong, written) == bad(
        "completeness",
        f"2026-11, counted 20 days ago: {says} of 1,200 who were due",
        f"make completeness STAGE=prod PERIOD=2026-11; docs/operating.md#{section}",
    )
    assert running.judge_completeness(SITE, NOVEMBER, COUNTED, written) == fine(
        "completeness", "2026-11, counted 20 days ago: all 1,200 who were due were allocated"
    )


def test_a_month_is_counted_by_the_afternoon_of_the_2nd() -> None:
    assert running.counted_period(datetime(2026, 12, 2, 14, 59, tzinfo=UTC)) == NOVEMBER
    assert running.counted_period(datetime(2026, 12, 2, 15, 0, tzinfo=UTC)) == Period(2026, 12)


def test_a_month_that_was_not_counted_is_said_unless_the_stack_is_newer() -> None:
    assert running.judge_no_count(OLD, NOVEMBER) == bad(
        *("completeness", "2026-11 was not counted"),
        "Count it now: make completeness STAGE=prod PERIOD=2026-11",
    )
    assert replace(SITE, stage="local").make("deploy", "A=1") == "make deploy A=1"
    assert (DEV.make("deploy"), OLD.outputs) == ("make deploy STAGE=dev", {})
    assert running.judge_no_count(stack_made(timedelta(days=20)), NOVEMBER).state is State.FINE
    assert running.judge_no_count(stack_made(timedelta(days=28)), NOVEMBER).state is State.BAD


def counts_in_a_bucket(kept: dict[str, tuple[datetime, Json]]) -> Any:
    """S3, with reports by their keys: each with the time it was written at. A page has two."""

    def paginate(Bucket: str, Prefix: str) -> Iterator[Json]:  # noqa: N803 - AWS's names
        assert Bucket == "reports"
        keys = [key for key in sorted(kept) if key.startswith(Prefix)]
        yield {}
        for start in range(0, len(keys), 2):
            listed = [{"Key": key, "LastModified": kept[key][0]} for key in keys[start : start + 2]]
            yield {"Contents": listed}

    def get_object(Bucket: str, Key: str) -> Json:  # noqa: N803 - AWS's names
        assert Bucket == "reports"
        return {"Body": io.BytesIO(json.dumps(kept[Key][1]).encode())}

    return SimpleNamespace(
        get_paginator=lambda _: SimpleNamespace(paginate=paginate),
        get_object=get_object,
        describe_stacks=lambda **_: {
            "Stacks": [{"Outputs": [{"OutputKey": "ReportsBucketName", "OutputValue": "reports"}]}]
        },
    )


def test_of_several_counts_of_a_month_the_last_one_made_is_told_whatever_their_names() -> None:
    hour = timedelta(hours=1)
    missing = COUNTED | {"complete": False, "missing": 3}
    kept = {
        "completeness/2026-11/a/summary.json": (NOW - 5 * hour, missing),
        "completeness/2026-11/b/summary.json": (NOW - 3 * hour, COUNTED),
        "completeness/2026-11/b/zones/Europe/Paris.json": (NOW - hour, missing),
        "completeness/2026-11/c/summary.json": (NOW - 4 * hour, missing),
        "completeness/2026-10/d/summary.json": (NOW - 2 * hour, missing),
    }
    (found,) = running.completeness(made_of(counts_in_a_bucket(kept)))
    assert found.state is State.FINE
    assert found.says.startswith("2026-11, counted 3 hours ago: all 1,200")


def test_the_month_before_is_told_too_where_the_same_run_counted_it() -> None:
    """As the schedule does when months begin on anniversaries."""
    missing = COUNTED | {"complete": False, "missing": 3}
    kept = {
        "completeness/2026-11/a/summary.json": (NOW, COUNTED),
        "completeness/2026-10/a/summary.json": (NOW, missing),
        "completeness/2026-10/d/summary.json": (NOW, COUNTED),
    }
    this, before = running.completeness(made_of(counts_in_a_bucket(kept)))
    assert (this.state, this.says[:7]) == (State.FINE, "2026-11")
    assert (before.state, before.says[:7]) == (State.BAD, "2026-10")


def test_a_month_that_nobody_has_counted_yet_leaves_the_one_before() -> None:
    kept = {"completeness/2026-11/a/summary.json": (NOW, COUNTED)}
    first = replace(made_of(counts_in_a_bucket(kept)), now=datetime(2026, 12, 1, 3, tzinfo=UTC))
    (found,) = running.completeness(first)
    assert found.says.startswith("2026-11, counted 44 hours ago")
    # Somebody counts by hand, before the schedule does.
    kept["completeness/2026-12/a/summary.json"] = (NOW + timedelta(hours=40), COUNTED)
    found, _ = running.completeness(first)
    assert found.says.startswith("2026-12, counted 4 hours ago")


# --- The account ----------------------------------------------------------------------------------


def test_a_region_that_is_not_clear_is_a_warning() -> None:
    assert judge_region(Region("eu-west-1", "REGION"), "x") == fine("account", "x")
    unclear = Region("eu-west-1", "AWS_REGION", "AWS_DEFAULT_REGION=us-east-1")
    assert judge_region(unclear, "x").state is State.WARNING


# --- Making the checks ----------------------------------------------------------------------------


def failing(error: Exception) -> examination.Check:
    def check(_: Site) -> Iterator[Finding]:
        yield fine("failing", "so far")
        raise error

    return check


def passing(_: Site) -> Iterator[Finding]:
    yield fine("passing", "all is well")


@pytest.mark.parametrize(
    ("error", "says", "fix"),
    [
        (
            refused("AccessDenied", "not authorized: lambda:GetAccountSettings"),
            "AWS refuses",
            "Ask",
        ),
        (refused("ExpiredToken"), "your login has expired", "aws sso login"),
        (EndpointConnectionError(endpoint_url="https://x"), "cannot be reached", "network"),
        (ReadTimeoutError(endpoint_url="https://x"), "cannot be reached", "network"),
        (CredentialsError("no.", "Log in: now"), "does not know who you are", "Log in: now"),
        (AwsError("It is lost.\nTry a.\nOr b."), "It is lost.", "Try a.; Or b."),
        (AttributeError("None"), "makes no sense (AttributeError: None)", ""),
        (KeyError("AccountLimit"), "makes no sense (KeyError: 'AccountLimit')", ""),
        (TypeError("None"), "makes no sense", ""),
        (OSError("lost"), "makes no sense", ""),
        (UNTYPED.NoRootSOA("odd"), "makes no sense", ""),
    ],
)
def test_what_stands_in_the_way_of_a_check_is_unknown_and_stops_no_neighbour(
    error: Exception, says: str, fix: str
) -> None:
    checks = {"failing": failing(error), "passing": passing}
    first, trouble, last = examination.examine(checks, SITE)
    assert first == fine("failing", "so far")
    assert (trouble.check, trouble.state) == ("failing", State.UNKNOWN)
    assert says in trouble.says
    assert "\n" not in trouble.says
    assert fix in trouble.fix
    assert last == fine("passing", "all is well")


def test_a_check_that_does_not_end_is_left_alone_and_its_neighbours_are_not() -> None:
    released = threading.Event()

    def endless(_: Site) -> Iterator[Finding]:
        assert threading.current_thread().daemon, "it would keep the command from ending"
        yield fine("endless", "so far")
        released.wait()

    looked_at: list[str] = []
    checks = {"endless": endless, "passing": passing}
    found = list(examination.examine(checks, SITE, looked_at.append, deadline=0.2))
    released.set()
    assert found == [
        fine("endless", "so far"),
        unknown("endless", "no answer within 0 s", "Try again"),
        fine("passing", "all is well"),
    ]
    assert looked_at == ["endless", "passing"]


def test_all_checks_together_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are looked at after it are not waited for."""
    released = threading.Event()

    def endless(_: Site) -> Iterator[Finding]:
        released.wait(20)
        yield fine("endless", "at last")

    times = itertools.chain([0.0], itertools.repeat(60.0))
    monkeypatch.setattr(examination, "time", SimpleNamespace(monotonic=lambda: next(times)))
    began = time.monotonic()
    found = [each.says for each in examination.examine({"a": endless, "b": endless}, SITE)]
    took = time.monotonic() - began
    released.set()
    assert found == ["no answer within 30 s"] * 2
    assert took < 10


def test_the_local_stage_is_not_asked_what_only_matters_in_aws() -> None:
    local_site = replace(SITE, stage="local")
    checks = dict.fromkeys(
        ("python", "parameters", "scopes", "mail product", "mail identity", "alarm topic"), passing
    )
    every = {**checks, "passing": passing}
    assert len(list(examination.examine(every, local_site))) == 1
    assert len(list(examination.examine(every, SITE))) == 7


def test_every_check_is_made_under_its_name() -> None:
    tables = (examination.HERE, examination.ACCOUNT, examination.RUNNING)
    modules = {
        name: f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        for table in tables
        for name, check in table.items()
    }
    assert modules == {
        **{name: f"account.{name}" for name in ("python", "parameters", "concurrency")},
        "issuer": "issuer.keys",
        "scopes": "issuer.scopes",
        "access log": "account.access_log",
        **{f"mail {name}": f"mail.{name}" for name in ("product", "account", "identity")},
        "stack": "stack.state",
        "names": "stack.names",
        **{name: f"running.{name}" for name in ("shadow", "alarms", "ticks", "audit")},
        "completeness": "running.completeness",
        "dead letters": "running.dead_letters",
        "alarm topic": "running.subscriptions",
    }
    assert [len(table) for table in tables] == [5, 6, 7]


# --- The report -----------------------------------------------------------------------------------

FINDINGS = [
    fine("names", "nothing is there"),
    warning("mail rate", "15 a second, and SES takes 14", "Set MailsASecond = 14"),
    bad("stack", "it [red]failed[/red]", "aws [prod] delete-stack " + "x" * 90),
    unknown("issuer", "who knows"),
]


def shown(**settings: Any) -> str:
    stream = io.StringIO()
    report.show(FINDINGS, Console(file=stream, **settings))
    return stream.getvalue()


def test_what_is_not_a_terminal_gets_whole_lines_and_no_colours() -> None:
    text = shown()
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0].split() == ["✓", "names", "nothing", "is", "there"]
    assert lines[3].split(maxsplit=2) == ["✗", "stack", "it [red]failed[/red]"]
    assert lines[4].strip() == "-> aws [prod] delete-stack " + "x" * 90
    stream = io.StringIO()
    report.show([fine("names", "word " * 40 + "end")], Console(file=stream))
    assert len(stream.getvalue().splitlines()) == 1, "grep finds whole findings"


@pytest.mark.parametrize("width", [10, 30, 60, 100, 250])
def test_a_terminal_of_any_width_shows_every_word_and_commands_in_one_piece(width: int) -> None:
    text = shown(width=width, force_terminal=True, color_system=None)
    squeezed = "".join(text.split())
    for finding in FINDINGS:
        assert "".join(finding.says.split()) in squeezed
    commands = [line for line in text.splitlines() if "->" in line]
    assert [line.strip() for line in commands] == [
        f"-> {finding.fix}" for finding in FINDINGS if finding.fix
    ]
    others = set(text.splitlines()) - set(commands)
    assert max(map(len, others)) <= max(width, 14 + report._NARROWEST)


def test_what_strangers_wrote_into_dns_does_not_reach_the_terminal_as_commands() -> None:
    stream = io.StringIO()
    wild = warning("mail DNS", "TXT is v=spf1 \x1b[2J\rowned", "Leave \x1b[1A\x07one")
    report.show([wild], Console(file=stream, force_terminal=True, color_system=None))
    assert not set(stream.getvalue()) & {"\x1b", "\r", "\x07"}
    assert "\N{REPLACEMENT CHARACTER}[2J" in stream.getvalue()


def test_a_terminal_has_colours_and_one_without_our_letters_has_words() -> None:
    coloured = shown(width=80, force_terminal=True, color_system="standard")
    for code, mark in ((32, "✓"), (33, "?"), (33, "!"), (31, "✗")):
        assert f"\x1b[{code}m{mark}" in coloured
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report.show(FINDINGS, Console(file=ascii_only))
    ascii_only.flush()
    text = ascii_only.buffer.getvalue().decode()
    assert text.split()[:2] == ["ok", "names"]
    assert "X   stack" in text


def test_programs_get_every_finding_and_whether_something_must_be_done() -> None:
    found = json.loads(report.as_json("prod", "there", FINDINGS))
    assert (found["stage"], found["place"], found["fine"]) == ("prod", "there", False)
    assert found["findings"][2]["state"] == "bad"
    others = [each for each in FINDINGS if each.state is not State.BAD]
    assert json.loads(report.as_json("prod", "there", others))["fine"], "what is unknown is not bad"
    assert report.summary(FINDINGS) == (
        "Of 4 findings: 1 to be done, 1 worth knowing, 1 could not be looked at, 1 fine."
    )


# --- Before a deployment --------------------------------------------------------------------------


def looked_before(
    monkeypatch: pytest.MonkeyPatch, found: list[Finding], *, is_heeded: bool = True
) -> str:
    stream = io.StringIO()

    def examine(checks: Any, site: Site) -> Iterator[Finding]:
        # In this order: what can be mended here comes first.
        assert [*checks.items()] == [*examination.HERE.items(), *examination.ACCOUNT.items()]
        assert site is SITE
        return iter(found)

    monkeypatch.setattr(before, "examine", examine)
    before.look(SITE, Console(file=stream), is_heeded=is_heeded)
    return stream.getvalue()


def test_a_deployment_that_would_fail_is_not_begun_unless_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping = [fine("python", "it is"), bad("names", "taken", "look", stops=True)]
    with pytest.raises(AwsError, match="make deploy STAGE=prod IGNORE_FINDINGS=1"):
        looked_before(monkeypatch, stopping)
    text = looked_before(monkeypatch, stopping, is_heeded=False)
    assert "✗  names  taken" in text
    assert "python" not in text
    assert text.endswith("\nOf 2 findings: 1 to be done, 1 fine.\n")


def test_a_deployment_to_prod_is_refused_while_emails_are_in_nobodys_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = list(mail.product(replace(SITE, parameters={})))
    with pytest.raises(AwsError, match="Not deployed, for what is marked above"):
        looked_before(monkeypatch, nobody)
    text = looked_before(monkeypatch, list(mail.product(replace(DEV, parameters={}))))
    for parameter in PRODUCT:
        assert parameter in text


def test_what_would_not_make_a_deployment_fail_or_is_not_known_stops_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [bad("issuer", "no keys", "look"), unknown("names", "no right"), FINDINGS[1]]
    text = looked_before(monkeypatch, others)
    assert all(finding.check in text for finding in others)


def resolved(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> list[str]:
    monkeypatch.setattr(dns.resolver.Resolver, "resolve", answer)
    return resolver.resolve("example.com", "TXT")


def test_a_name_without_entries_is_empty_and_a_failure_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(absent: Exception, *_: Any, **given: Any) -> Any:
        # The domains that this machine searches are not those of the readers of emails.
        assert given["search"] is False
        raise absent

    def failure(*_: Any, lifetime: float, **__: Any) -> Any:
        assert lifetime == resolver.PATIENCE_SECONDS
        raise dns.resolver.NoNameservers

    of_another_kind = UNTYPED.NoAnswer(response=dns.message.make_query("a", "A"))
    for absent in (UNTYPED.NXDOMAIN(), of_another_kind):
        assert resolved(monkeypatch, partial(nothing, absent)) == []
    text = dns.rdata.from_text("IN", "TXT", '"v=\\255" "spf1"')
    assert resolved(monkeypatch, lambda *_, **__: [text]) == ["v=\N{REPLACEMENT CHARACTER}spf1"]
    assert resolver.PATIENCE_SECONDS < examination.DEADLINE_SECONDS / 2
    with pytest.raises(dns.resolver.NoNameservers):
        resolved(monkeypatch, failure)


# --- Several at once ------------------------------------------------------------------------------


def test_each_alarm_that_rings_is_told_with_its_own_name_and_moment() -> None:
    later = NOW + timedelta(hours=1)
    first = alarm("dead-letters-sweeps", "ALARM")
    second = alarm("api-5xx", "ALARM", StateUpdatedTimestamp=later)
    found = list(running.judge_alarms(SITE, [first, alarm("queue-age-sweeps"), second]))
    assert [finding.says.split(". ")[0] for finding in found] == [
        "dead-letters-sweeps rings since 2026-11-29T07:00:00Z",
        "api-5xx rings since 2026-11-29T08:00:00Z",
    ]


def in_pages(name: str, field: str, *pages: list[Json]) -> Any:
    """An AWS whose listing has several pages; a plain call gives the first, as AWS's does."""

    def first(**_: Any) -> Json:
        return {field: pages[0], "NextToken": "2"}

    asked: list[Json] = []

    def paginate(**given: str) -> list[Json]:
        asked.append(given)
        return [{field: page} for page in pages]

    def paginator(of: str) -> Any:
        assert of == name
        return SimpleNamespace(paginate=paginate)

    return SimpleNamespace(**{name: first}, get_paginator=paginator, asked=asked)


def test_an_alarm_that_rings_is_found_on_any_page_of_cloudwatch() -> None:
    """A stage has more alarms than the fifty of a page."""
    first, second = (
        [alarm("api-5xx"), alarm("api-latency")],
        [alarm("dead-letters-checks", "ALARM")],
    )
    aws = in_pages("describe_alarms", "MetricAlarms", first, second)
    ringing = only(running.alarms(made_of(aws)))
    assert ringing.says.startswith("dead-letters-checks rings")
    assert only(running.alarms(made_of(aws, DEV))).state is State.BAD
    prefixes = [{"AlarmNamePrefix": "credits-prod-"}, {"AlarmNamePrefix": "credits-dev-"}]
    assert aws.asked == prefixes, "the account's other alarms are not this stage's"
    aws = in_pages("describe_alarms", "MetricAlarms", first, [alarm("queue-age-checks")])
    assert only(running.alarms(made_of(aws))) == fine("alarms", "none of 3 rings")


def test_who_has_not_confirmed_is_found_on_any_page_of_sns() -> None:
    pager = subscription("https", "https://pager.example.com/key-0815")
    waiting = subscription("email", "ops@example.com", running.PENDING)
    aws = in_pages("list_subscriptions_by_topic", "Subscriptions", [pager], [waiting, pager])
    site = made_of(aws)
    site.__dict__["outputs"] = {"AlarmsTopicArn": "arn:aws:sns:eu-west-1:1:credits-prod-alarms"}
    pending, confirmed = running.subscriptions(site)
    assert pending.says.startswith("ops@example.com has not confirmed")
    assert confirmed == fine("alarm topic", "2 subscriptions confirmed")


def test_what_is_of_the_stack_is_known_from_every_page_of_its_resources() -> None:
    """Else a table of the stack's own would count as one that is in the way."""
    table = {
        "ResourceType": "AWS::DynamoDB::Table",
        "PhysicalResourceId": "credits-prod-ledger",
        "ResourceStatus": "CREATE_COMPLETE",
    }
    queue = table | {"ResourceType": "AWS::SQS::Queue", "PhysicalResourceId": "credits-prod-sweeps"}
    gone = table | {"PhysicalResourceId": "credits-prod-old", "ResourceStatus": "DELETE_COMPLETE"}
    kept = gone | {"ResourceStatus": "DELETE_SKIPPED"}
    aws = in_pages("list_stack_resources", "StackResourceSummaries", [queue], [gone, kept, table])
    found = [each["PhysicalResourceId"] for each in resources_of(aws, "credits-prod")]
    assert found == ["credits-prod-sweeps", "credits-prod-ledger"]
    del queue["PhysicalResourceId"]  # of a resource that could not be made
    assert list(stack._resources(made_of(aws))) == [
        ("AWS::SQS::Queue", ""),
        ("AWS::DynamoDB::Table", "credits-prod-ledger"),
    ]


def test_aws_is_given_up_before_the_doctor_gives_up_on_the_check() -> None:
    """Then the finding says why, and not only that there was no answer."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def client(service: str, **settings: Any) -> Any:
        asked.append((service, settings))

    replace(SITE, client=client, _clients={}).ask("sqs")
    ((_, settings),) = asked
    attempts = settings["retries"]["total_max_attempts"]
    longest = attempts * max(settings["connect_timeout"], settings["read_timeout"])
    assert longest < examination.DEADLINE_SECONDS


def test_a_client_is_made_once_for_all_checks_of_its_service() -> None:
    made: list[str] = []
    region = Region("us-east-2", "REGION")
    aws = Session("210987654321", region, lambda service, **_: made.append(service))
    site = Site.of("dev", "credits-dev", {}, aws)
    for service in ("sqs", "sns", "sqs"):
        site.ask(service)
    assert made == ["sqs", "sns"]
    assert (site.account, site.region) == ("210987654321", "us-east-2")
    assert site.place == "AWS account 210987654321, region us-east-2 (from REGION)"
    assert abs(site.now - datetime.now(UTC)) < timedelta(minutes=1)
    nowhere = Site.without_account("dev", "credits-dev", {})
    assert (nowhere.account, nowhere.region, nowhere.place) == ("", "", "no account")
    with pytest.raises(AwsError, match="There is no account to ask about sqs"):
        nowhere.ask("sqs")


def test_names_of_the_stacks_own_resources_are_not_in_its_way() -> None:
    """All is there, and all of it is its own but one queue."""
    own = [
        {"ResourceType": named.kind, "PhysicalResourceId": named.name, "ResourceStatus": "MADE"}
        for named in template.names(SITE)
        if named.name != "credits-prod-sweeps"
    ]
    pages = SimpleNamespace(paginate=lambda **_: [{"StackResourceSummaries": own}])
    aws = SimpleNamespace(
        describe_stacks=lambda **_: {"Stacks": [{"StackStatus": "UPDATE_COMPLETE"}]},
        get_paginator=lambda _: pages,
        get_queue_url=lambda **_: {},
    )
    found = only(stack.names(made_of(aws)))
    assert found.says == "1 queue there already, and not of credits-prod: credits-prod-sweeps"


def test_numbers_are_said_with_their_plurals() -> None:
    said = [plural(number, "mail") for number in (0, 1, 1_200)]
    assert said == ["0 mails", "1 mail", "1,200 mails"]
    assert many("event bus") == "event buses"


def test_what_is_moved_back_to_a_queue_has_one() -> None:
    queues = {each.name for each in template.names(SITE) if each.kind == "AWS::SQS::Queue"}
    alone = {
        name.removeprefix("credits-prod-").removesuffix("-dlq")
        for name in queues
        if name.endswith("-dlq") and name.removesuffix("-dlq") not in queues
    }
    assert {*running.BACK_TO_NO_QUEUE} == alone


def test_dead_letters_are_counted_in_every_queue_hidden_ones_among_them() -> None:
    counts = {"sweeps": (2, 3), "mail-events": (0, 1), "ledger-stream": (4, 0)}

    class Sqs:
        def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:  # noqa: N803
            queue = QueueUrl.removeprefix("https://sqs/1/credits-prod-").removesuffix("-dlq")
            visible, hidden = counts[queue]
            numbers = {"": str(visible), "NotVisible": str(hidden)}
            prefix = "ApproximateNumberOfMessages"
            return {"Attributes": {name: numbers[name[len(prefix) :]] for name in AttributeNames}}

    urls = {f"{queue}DlqQueueUrl": f"https://sqs/1/credits-prod-{queue}-dlq" for queue in counts}
    site = made_of(Sqs(), SITE)
    site.__dict__["outputs"] = {**urls, "ChecksQueueUrl": "https://sqs/1/credits-prod-checks"}
    found = list(running.dead_letters(site))
    assert [finding.says for finding in found] == [
        "5 messages of sweeps failed for good",
        "1 message of mail-events failed for good",
        "4 messages of ledger-stream failed for good",
    ]
    runbook = "docs/operating.md#dead-letters"
    # These two come from no queue, and cannot be moved back to one.
    assert [finding.fix for finding in found] == [
        f"make redrive STAGE=prod QUEUE=sweeps; {runbook}",
        runbook,
        runbook,
    ]


def test_both_kinds_of_ticks_are_looked_for_each_by_its_own_metric() -> None:
    asked: list[str] = []

    class CloudWatch:
        def get_metric_statistics(self, MetricName: str, **_: Any) -> Any:  # noqa: N803
            asked.append(MetricName)
            late = timedelta(hours=1 if MetricName == "ExpiryTicks" else 0)
            return {"Datapoints": [{"Timestamp": NOW - late, "Sum": 1.0}]}

    found = list(running.ticks(made_of(CloudWatch(), OLD)))
    assert asked == ["AllocationTicks", "ExpiryTicks"]
    assert [(finding.check, finding.state) for finding in found] == [
        ("allocation tick", State.FINE),
        ("expiry tick", State.BAD),
    ]
