"""What the template guards beside what `test_template.py` looks at: retention, time, names."""

import json
import re
from typing import Any

import pytest

from infra.deployment import alarms, packaging
from tests.stack.resolved import Template
from tests.stack.test_template import (
    as_list,
    properties,
    resources_of_type,
    setting,
)

TWO_WEEKS = 14 * 24 * 60 * 60
LONGEST_OF_API_GATEWAY = 29
KEPT = {
    *("LedgerTable", "SubscriptionsTable", "EditsTable", "MailsTable"),
    *("ReportsBucket", "AnchorsBucket", "UnsubscribeSecret", "StripeTable", "StripeSecret"),
}


def schedules(template: Template) -> dict[str, Any]:
    return {
        name: event["Properties"]
        for name, function in resources_of_type(template, "AWS::Serverless::Function").items()
        for event in function["Properties"].get("Events", {}).values()
        if event["Type"] == "Schedule"
    }


def test_every_queue_keeps_its_messages_for_two_weeks(template: Template) -> None:
    for queue in resources_of_type(template, "AWS::SQS::Queue").values():
        assert queue["Properties"]["MessageRetentionPeriod"] == TWO_WEEKS


def test_every_schedule_is_on_and_at_a_time_of_the_clock(template: Template) -> None:
    found = schedules(template)
    assert set(found) == {"AllocationTick", "ExpiryTick", "CheckCompleteness", "AuditLedgers"}
    for schedule in found.values():
        assert schedule["Enabled"] is True
        # A rate begins whenever it was deployed.
        assert schedule["Schedule"].startswith("cron(")


def test_what_is_kept_outlives_its_stack_in_production(template: Template) -> None:
    declared = {
        name: resource
        for name, resource in template["Resources"].items()
        if "DeletionPolicy" in resource
    }
    assert set(declared) == KEPT
    for resource in declared.values():
        assert setting(template, resource["DeletionPolicy"], "prod") == "RetainExceptOnCreate"
        assert setting(template, resource["UpdateReplacePolicy"], "prod") == "Retain"


def test_every_function_ends_in_time(template: Template) -> None:
    timeouts = {
        name: function["Properties"]["Timeout"]
        for name, function in resources_of_type(template, "AWS::Serverless::Function").items()
    }
    # What API Gateway waits for ends before it gives up; an audit takes its time; an admin waits
    # for a grant like a request does.
    for name in ("APIHandler", "Authorizer", "ManualAllocate", "StripeWebhook"):
        assert timeouts.pop(name) <= LONGEST_OF_API_GATEWAY
    assert timeouts.pop("AuditLedgers") <= 300
    assert set(timeouts.values()) == {60}


def test_no_lane_has_a_quota_that_one_caller_could_use_up_for_a_day(template: Template) -> None:
    for name in ("UsagePlan", "BackendPlan"):
        assert "Quota" not in properties(template, name)


def test_one_lane_and_the_backends_leave_something_of_a_methods_rate(template: Template) -> None:
    for stage in ("local", "dev", "prod"):
        of_stage = template["Mappings"]["Stages"][stage]
        for kind in ("Rate", "Burst"):
            lane, backend, method = (
                of_stage[name + kind] for name in ("Key", "Backend", "Request")
            )
            assert 0 < lane + backend <= 0.85 * method, (stage, kind)
    for name, key in (("UsagePlan", "Key"), ("BackendPlan", "Backend")):
        throttle = properties(template, name)["Throttle"]
        for limit, kind in (("RateLimit", "Rate"), ("BurstLimit", "Burst")):
            assert throttle[limit] == {"Fn::FindInMap": ["Stages", {"Ref": "Stage"}, key + kind]}
        (of_api,) = properties(template, name)["ApiStages"]
        assert of_api == {"ApiId": {"Ref": "RestAPI"}, "Stage": {"Ref": "RestAPI.Stage"}}


def test_emails_are_signed_and_what_comes_back_is_heard(template: Template) -> None:
    identity = properties(template, "MailIdentity")
    assert identity["DkimAttributes"] == {"SigningEnabled": True}
    assert identity["DkimSigningAttributes"] == {"NextSigningKeyLength": "RSA_2048_BIT"}
    # Half of the alarms about email ring by these.
    reputation = properties(template, "MailConfigurationSet")["ReputationOptions"]
    assert reputation == {"ReputationMetricsEnabled": True}


def test_emails_wait_before_they_are_tried_again(template: Template) -> None:
    assert template["Mappings"]["Stages"]["prod"]["MailRetrySeconds"] == 10


def test_what_waiting_does_not_mend_waits_before_it_is_tried_again(template: Template) -> None:
    assert template["Mappings"]["Stages"]["prod"]["RetrySeconds"] == 90


@pytest.mark.parametrize("name", ["ReportsBucket", "AnchorsBucket"])
def test_the_reports_belong_to_the_account(template: Template, name: str) -> None:
    controls = properties(template, name)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("TokenIssuer", "https://issuer.example.com", "issuer.example.com"),
        ("TokenIssuer", "https://issuer.example.com", ""),
        ("TokenJwksUrl", "", "keys.json"),
        ("RunbookUrl", "https://wiki.example.com/credits", "https://wiki.example.com/credits#top"),
        ("RunbookUrl", "docs/operating.md", "javascript:alert(1)"),
        ("MailDomain", "mail.example.com", "credits@example.com"),
        ("ProductName", "Café & Co", "Lighthouse <b>"),
        ("ProductUrl", "https://app.example.com/credits", "http://app.example.com"),
        ("ProductLogoUrl", "https://example.com/logo.png", "https://example.com;x/logo.png"),
        ("ProductAddress", "Harbour Street 1, Hamburg", "Harbour Street 1\nHamburg"),
        ("ProductSupport", "help@example.com", "ask us"),
        ("AlarmEmail", "", "on-call"),
        ("Shadow", "2026-12-31T10:00:00Z", "2026-12-31"),
        ("Shadow", "on", "yes"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    template: Template, name: str, good: str, bad: str
) -> None:
    pattern = template["Parameters"][name]["AllowedPattern"]
    assert re.fullmatch(pattern, good)
    assert not re.fullmatch(pattern, bad)
    assert template["Parameters"]["TokenAudience"]["MinLength"] == 1


def test_five_alarms_of_what_runs_all_the_time_take_a_deployment_back() -> None:
    # As many as CloudFormation takes; docs/deploying.md promises that they are watched.
    assert sorted(alarms.ROLLBACK_ALARMS) == [
        "api-5xx",
        "api-latency",
        "function-errors-allocation-tick",
        "function-errors-queue-notifications",
        "function-errors-sweep-zone",
    ]


def test_every_alarm_is_heard_when_it_rings_and_when_it_ends(template: Template) -> None:
    found = resources_of_type(template, "AWS::CloudWatch::Alarm")
    assert found
    for alarm in found.values():
        for actions in ("AlarmActions", "OKActions"):
            assert as_list(alarm["Properties"][actions]) == [{"Ref": "AlarmsTopic"}]


def test_rights_are_written_by_hand() -> None:
    config = json.loads((packaging.ROOT / ".chalice" / "config.json").read_text())
    assert config["autogen_policy"] is False
