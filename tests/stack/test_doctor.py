"""The doctor, against the emulator: what it finds there is what is there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.commands import deploy as command
from infra.deployment import deploy, packaging
from infra.deployment.deployed import describe
from infra.deployment.errors import DeployError
from infra.deployment.stack_facts import stack_name
from infra.doctor import stack as of_stack
from infra.doctor import template as of_template
from infra.doctor.examination import ACCOUNT, RUNNING, examine
from infra.doctor.finding import Finding, State
from infra.doctor.site import Site
from infra.local import emulator, stacks
from infra.local.stacks import LocalStack, client_of
from infra.session import Region, Session
from tests.stack.conftest import Invoke, Packaged, client_with, wait_for

ACCOUNT_ID = "000000000000"


def site_of(local_stack: LocalStack, stage: str = "local", **parameters: str) -> Site:
    """A stage in the account that the emulator is."""
    return Site(
        stage=stage,
        stack=stack_name(stage),
        account=ACCOUNT_ID,
        region=emulator.REGION,
        place="the emulator",
        parameters=stacks.parameters(local_stack.issuer, stage) | parameters,
        client=local_stack.client,
        now=datetime.now(UTC),
        resolve=lambda _name, _kind: [],
    )


@pytest.fixture
def site(stack: LocalStack) -> Site:
    """The local stage."""
    return site_of(stack)


def of(findings: Any, check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def states(findings: Any) -> dict[str, State]:
    return {finding.check: finding.state for finding in findings}


# --- The command ----------------------------------------------------------------------------------


def run_doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    clean |= {"HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(
        [sys.executable, "-m", "infra", "doctor", *words],
        cwd=packaging.ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_looks_at_the_running_local_stack(stack: LocalStack, tmp_path: Path) -> None:
    """Which other tests share, and may have left dead letters in."""
    state_file = tmp_path / "local.json"
    state_file.write_text(stack.to_json())
    run = run_doctor("--json", CREDITS_STATE_FILE=str(state_file))
    report = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0 if report["fine"] else 1, "")
    assert report["stage"] == "local"
    found = {finding["check"]: finding["state"] for finding in report["findings"]}
    assert set(found) == {
        *("account", "issuer", "concurrency", "stack", "names", "mail account", "alarms"),
        *("dead letters", "allocation tick", "expiry tick", "audit", "completeness"),
    }
    for check in ("account", "issuer", "concurrency", "stack", "names", "mail account"):
        assert found[check] == "fine"
    assert "unknown" not in found.values()


def test_the_command_says_what_to_do_without_credentials_and_looks_at_what_needs_none() -> None:
    run = run_doctor("--stage", "prod", "--region", "eu-west-1")
    assert run.returncode == 1
    assert "AWS does not know who you are" in run.stdout
    assert "aws sso login" in run.stdout
    assert "parameters" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_the_command_says_that_there_is_no_network() -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    run = run_doctor(
        *("--stage", "prod", "--region", "eu-west-1"),
        HTTPS_PROXY="http://127.0.0.1:9",
        **credentials,
    )
    assert run.returncode == 1
    assert "AWS cannot be reached" in run.stdout
    assert "HTTPS_PROXY" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_the_command_needs_a_region_and_a_stage_that_there_is() -> None:
    assert "Which region? Add REGION=" in run_doctor("--stage", "prod").stdout
    run = run_doctor("--stage", "production")
    assert (run.returncode, run.stdout) == (1, "")
    assert "the stages are local, dev, prod" in run.stderr


def test_without_a_local_stack_the_command_says_how_to_start_one(tmp_path: Path) -> None:
    run = run_doctor(CREDITS_STATE_FILE=str(tmp_path / "none.json"))
    assert (run.returncode, run.stdout) == (1, "")
    assert "make up" in run.stderr


# --- Names ----------------------------------------------------------------------------------------


def test_all_that_the_stack_has_is_found_to_be_there_and_to_be_its_own(site: Site) -> None:
    names = list(of_template.names(site))
    assert [named for named in names if not of_stack.is_taken(site, named)] == []
    assert states(of_stack.names(site)) == {"names": State.FINE}


def test_nothing_of_a_stage_that_is_not_there_is_taken(stack: LocalStack) -> None:
    elsewhere = site_of(stack, "prod")
    assert states(examine({"names": ACCOUNT["names"]}, elsewhere)) == {"names": State.FINE}


def test_every_name_of_the_deployed_template_that_can_be_taken_is_looked_for(
    template: dict[str, Any], stack: LocalStack
) -> None:
    site = site_of(stack, "prod")
    assert "/aws/apigateway/credits-prod" not in {named.name for named in of_template.names(site)}
    webhook = {"Events": "on", "EventsWebhookUrl": "https://example.com/credits"}
    everything = replace(site, parameters={**site.parameters, "AccessLogs": "on", **webhook})
    known = {named.name for named in of_template.names(everything)}
    free = {
        # Not names of one thing: others of the same name can be beside it.
        *("AWS::ApiGateway::ApiKey", "AWS::ApiGateway::UsagePlan", "AWS::Serverless::Api"),
        # Nothing keeps them when their stack goes.
        *("AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"),
        *("AWS::Events::ApiDestination", "AWS::Events::Connection", "AWS::Events::Rule"),
    }
    for logical_id, resource in template["Resources"].items():
        if resource["Type"] in free:
            continue
        for name, value in resource["Properties"].items():
            if name.endswith("Name") and "${Stage}" in str(value):
                text = value["Fn::Sub"].replace("${Stage}", "prod")
                text = text.replace("${AWS::AccountId}", ACCOUNT_ID)
                text = text.replace("${AWS::Region}", emulator.REGION)
                assert text in known, logical_id


LOG_GROUP = "/aws/lambda/credits-dev-api"
"""One that a stage `dev` would make."""


def test_what_an_earlier_stack_left_is_found_before_it_makes_a_deployment_fail(
    elsewhere: LocalStack,
) -> None:
    elsewhere.client("logs").create_log_group(logGroupName=LOG_GROUP)
    (found,) = of(examine(ACCOUNT, site_of(elsewhere, "dev")), "names")
    elsewhere.client("logs").delete_log_group(logGroupName=LOG_GROUP)
    assert (found.state, found.stops) == (State.BAD, True)
    assert found.says == f"1 log group there already, and not of credits-dev: {LOG_GROUP}"
    assert f"aws logs delete-log-group --log-group-name {LOG_GROUP}" in found.fix


# --- The account ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def new_account() -> Iterator[Callable[..., Any]]:
    """What makes clients of an account as AWS gives it to somebody new: ten at once, a sandbox."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAMBDA_ACCOUNT_CONCURRENCY", "10")
        with emulator.emulator() as running:

            def client(service: str, **settings: Any) -> Any:
                return client_of(running.url, service, **settings)

            client("sesv2").put_account_details(
                MailType="TRANSACTIONAL",
                WebsiteURL="https://example.com",
                ProductionAccessEnabled=False,
            )
            yield client


def test_what_a_new_account_lacks_is_to_be_done_for_users_and_does_not_stop_a_deployment(
    stack: LocalStack, new_account: Callable[..., Any]
) -> None:
    for stage, state in (("prod", State.BAD), ("dev", State.WARNING)):
        site = replace(site_of(stack, stage, MailsASecond="14"), client=new_account)
        found = list(examine(ACCOUNT, site))
        assert states(found) == {
            "concurrency": state,
            "stack": State.FINE,
            "names": State.FINE,
            "mail account": state,
            "mail identity": State.FINE,
        }
        assert "runs 10 invocations at once" in of(found, "concurrency")[0].says
        assert not any(finding.stops for finding in found)


def test_an_email_subscriber_is_asked_first_and_a_queue_is_not(
    new_account: Callable[..., Any],
) -> None:
    sns = new_account("sns")
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = new_account("sqs").create_queue(QueueName="alarms")["QueueUrl"]
    arn = f"arn:aws:sqs:{emulator.REGION}:{ACCOUNT_ID}:{queue.rpartition('/')[2]}"
    asked = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.com")
    assert asked["SubscriptionArn"] == "pending confirmation"
    confirmed = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    listed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [each["SubscriptionArn"] for each in listed] == ["PendingConfirmation", confirmed]


def test_a_domain_that_a_stack_makes_waits_for_its_dns_entries(
    new_account: Callable[..., Any],
) -> None:
    properties = {"EmailIdentity": "new.example.com", "DkimAttributes": {"SigningEnabled": True}}
    resources = {"Identity": {"Type": "AWS::SES::EmailIdentity", "Properties": properties}}
    cloudformation = new_account("cloudformation")
    cloudformation.create_stack(StackName="mail", TemplateBody=json.dumps({"Resources": resources}))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="mail", WaiterConfig={"Delay": 1}
    )
    found = new_account("sesv2").get_email_identity(EmailIdentity="new.example.com")
    assert (found["VerifiedForSendingStatus"], found["VerificationStatus"]) == (False, "PENDING")
    dkim = found["DkimAttributes"]
    assert (dkim["Status"], dkim["SigningEnabled"], len(dkim["Tokens"])) == ("PENDING", True, 3)
    assert dkim["SigningHostedZone"] == "dkim.amazonses.com"


def test_metrics_are_taken_out_of_log_lines_that_embed_them_and_out_of_no_others(
    new_account: Callable[..., Any],
) -> None:
    now = datetime.now(UTC)
    milliseconds = int(now.timestamp() * 1000)
    metrics = [{"Name": "AllocationTicks", "Unit": "Count"}]
    directive = {"Namespace": "Credits", "Dimensions": [["service"]], "Metrics": metrics}
    lines = [
        {
            "_aws": {"Timestamp": milliseconds, "CloudWatchMetrics": [directive]},
            "service": "credits-prod",
            "AllocationTicks": [1.0, 2.0],
        },
        {"_aws": {"Timestamp": milliseconds, "CloudWatchMetrics": 1}},
        {"_aws": {"Timestamp": None, "CloudWatchMetrics": [directive]}},
        {"AllocationTicks": [100.0], "service": "credits-prod", "CloudWatchMetrics": []},
    ]
    logs = new_account("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    events = [{"timestamp": milliseconds, "message": json.dumps(line)} for line in lines]
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)
    kept = logs.get_log_events(logGroupName="g", logStreamName="s")["events"]
    assert len(kept) == len(lines)
    (point,) = new_account("cloudwatch").get_metric_statistics(
        Namespace="Credits",
        MetricName="AllocationTicks",
        Dimensions=[{"Name": "service", "Value": "credits-prod"}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=5),
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    assert point["Sum"] == 3.0


# What IAM calls an action where the SDK's name of the call is another.
IAM = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sesv2:GetAccount": "ses:GetAccount",
    "sesv2:GetConfigurationSet": "ses:GetConfigurationSet",
    "sesv2:GetEmailIdentity": "ses:GetEmailIdentity",
}


def actions(site: Site, checks: Any) -> set[str]:
    """What a role has to allow for checks."""
    called: set[str] = set()

    def client(service: str, **settings: Any) -> Any:
        made = site.client(service, **settings)

        def record(model: Any, **_: Any) -> None:
            call = f"{service}:{model.name}"
            called.add(IAM.get(call, call))

        made.meta.events.register("before-call", record)
        return made

    list(examine(checks, replace(site, client=client, _clients={})))
    return called


def test_the_pages_say_what_is_asked_of_aws_and_all_of_it_only_reads(stack: LocalStack) -> None:
    before_it = actions(site_of(stack, "prod"), ACCOUNT) | actions(site_of(stack), ACCOUNT)
    afterwards = actions(site_of(stack), {**ACCOUNT, **RUNNING}) - before_it
    for page, asked in (("deploying.md", before_it), ("operating.md", afterwards)):
        text = (packaging.ROOT / "docs" / page).read_text(encoding="utf-8")
        assert {action for action in asked if action.partition(":")[2] not in text} == set()
        assert all(re.search(r":(Get|List|Describe)", action) for action in asked)


def test_a_missing_right_is_reported_for_each_check_and_stops_nothing(stack: LocalStack) -> None:
    role = stack.client("lambda").get_function_configuration(
        FunctionName=stack.functions["allocation-tick"]
    )["Role"]
    given = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    client = partial(client_with, stack, given)
    site = site_of(stack, "dev")
    # What is asked of AWS only where the stage wants it is asked, too.
    everything = {**site.parameters, "AccessLogs": "on"}
    whole = replace(site, client=client, parameters=everything)
    found = list(examine({**ACCOUNT, **RUNNING}, whole))
    assert {finding.check for finding in found} == {*ACCOUNT, *RUNNING}
    assert {finding.state for finding in found} == {State.UNKNOWN}
    assert all("AWS refuses" in finding.says for finding in found)
    assert not any(finding.stops for finding in found)


# --- A running stack ------------------------------------------------------------------------------


def test_ticks_audits_and_counts_are_seen_where_they_leave_their_traces(
    site: Site, invoke: Invoke
) -> None:
    for function, event in (
        ("allocation-tick", {"time": "2026-03-01T05:00:00Z", "zones": ["America/New_York"]}),
        ("expiry-tick", {"time": "2026-03-01T05:00:00Z", "zones": ["America/New_York"]}),
        ("audit-ledgers", {"sample": 1}),
        ("check-completeness", {"period": f"{site.now:%Y-%m}", "zones": ["Antarctica/Vostok"]}),
    ):
        assert invoke(function, event).error is None

    def seen() -> dict[str, str] | None:
        now = replace(site, now=datetime.now(UTC), _clients={})
        says = {finding.check: finding.says for finding in examine(RUNNING, now)}
        # Of a stack that other tests have counted in before, so the count may be seen first.
        ticks = (says["allocation tick"], says["expiry tick"])
        has_all = "counted 0 minutes ago" in says["completeness"] and not any(
            tick.startswith("none yet") for tick in ticks
        )
        return says if has_all else None

    says = wait_for(seen, "the count and the ticks")
    for check in ("allocation tick", "expiry tick"):
        assert re.fullmatch(r"the last was \d minutes? ago", says[check])
    assert "ledger" in says["audit"]
    assert f"{site.now:%Y-%m}, counted 0 minutes ago: " in says["completeness"]


def test_an_alarm_that_rings_and_a_dead_letter_are_to_be_done(
    stack: LocalStack, site: Site
) -> None:
    sqs, url = stack.client("sqs"), stack.queues["sweeps-dlq"]
    cloudwatch, name = stack.client("cloudwatch"), "credits-local-dead-letters-sweeps"
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    try:
        found = list(examine(RUNNING, site))
    finally:
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="a test")
        sqs.purge_queue(QueueUrl=url)
    (ringing,) = (each for each in of(found, "alarms") if "dead-letters-sweeps" in each.says)
    assert (ringing.state, ringing.fix) == (State.BAD, "docs/operating.md#dead-letters")
    assert ringing.says.startswith("dead-letters-sweeps rings since ")
    (waiting,) = (each for each in of(found, "dead letters") if " of sweeps " in each.says)
    assert waiting.state is State.BAD
    assert waiting.fix.startswith("make redrive QUEUE=sweeps;")


# --- As a part of a deployment --------------------------------------------------------------------


@pytest.fixture
def deploy_dev(
    elsewhere: LocalStack,
    packaged: Packaged,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """`make deploy STAGE=dev`, with the emulator for AWS; its exit status, output and errors."""
    aws = Session(ACCOUNT_ID, Region(emulator.REGION, "REGION"), elsewhere.client)
    parameters = stacks.parameters(elsewhere.issuer, "dev") | {"AlarmEmail": "ops@example.com"}
    monkeypatch.setattr(command, "open_session", lambda _: aws)
    monkeypatch.setattr(command, "parameters_of", lambda _: parameters)
    monkeypatch.setattr(packaging, "check_python", lambda: None)
    monkeypatch.setattr(command, "deploy", partial(deploy.deploy, make_package=packaged))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deploy", "--stage", "dev", "--yes", *words])
        status = command.main()
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_deployment_that_would_fail_is_not_begun_and_one_that_is_told_to_is(
    elsewhere: LocalStack, deploy_dev: Callable[..., tuple[int, str, str]]
) -> None:
    elsewhere.client("logs").create_log_group(logGroupName=LOG_GROUP)
    status, said, error = deploy_dev()
    assert status == 1
    assert f"1 log group there already, and not of credits-dev: {LOG_GROUP}" in said
    assert "make deploy STAGE=dev IGNORE_FINDINGS=1" in error
    assert "Packaging" not in said
    with pytest.raises(DeployError, match="no stack"):
        describe("dev", elsewhere.client)

    # An issuer without https is to be corrected, and makes no deployment fail.
    elsewhere.client("logs").delete_log_group(logGroupName=LOG_GROUP)
    status, said, error = deploy_dev()
    assert (status, error) == (0, "")
    assert "must be an https:// address" in said
    assert "CREATE_COMPLETE" in said
    # What was just deployed waits for its DNS entries, and for somebody who hears its alarms.
    site = site_of(elsewhere, "dev")
    found = list(examine({**ACCOUNT, **RUNNING}, site))
    (identity,), (topic,) = of(found, "mail identity"), of(found, "alarm topic")
    assert (identity.state, topic.state) == (State.WARNING, State.WARNING)
    assert "(DKIM: PENDING)" in identity.says
    assert topic.says.startswith("ops@example.com has not confirmed")
    wanted = [finding.fix for finding in of(found, "mail DNS")]
    assert len(wanted) == 6
    assert wanted[0].startswith("Add it: ")
    assert "._domainkey.dev.example.com CNAME " in wanted[0]
    assert wanted[0].endswith(".dkim.amazonses.com")
    assert of(found, "names")[0].state is State.FINE

    # A queue needs not confirm.
    queue = f"arn:aws:sqs:{emulator.REGION}:{ACCOUNT_ID}:credits-dev-sweeps-dlq"
    arn = site.outputs["AlarmsTopicArn"]
    elsewhere.client("sns").subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue)
    pending, confirmed = of(examine(RUNNING, site), "alarm topic")
    assert (pending.state, confirmed.state) == (State.WARNING, State.FINE)
