"""The template that is deployed, as packaged for production."""

import copy
import gzip
import json
import marshal
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore
import pytest
from chalice.config import Config

from app import app
from chalicelib.api import lanes, problems
from infra.deployment import caller_limits, gateway, packaging
from tests.aws import contract
from tests.aws.world import MOST_RECEIVES
from tests.stack.resolved import Json, Template, resolve, transform

FUNCTION = "AWS::Serverless::Function"

# Which function reads which queue, and through which event source.
READERS = {
    "SweepZone": "SweepsQueue",
    "AllocateAccounts": "AllocationsQueue",
    "ExpireBatches": "ExpiriesQueue",
    "SendNotifications": "NotificationsQueue",
    "CheckZone": "ChecksQueue",
    "PublishEvents": "EventsQueue",
}
FUNCTIONS = {
    "AllocationTick",
    "ExpiryTick",
    "ManualAllocate",
    "Authorizer",
    "APIHandler",
    "QueueNotifications",
    "WatchLedger",
    "MailEvents",
    "AuditLedgers",
    "CheckCompleteness",
    "StripeWebhook",
    *READERS,
}
QUEUES = {
    "SweepsQueue": "SweepsDlq",
    "AllocationsQueue": "AllocationsDlq",
    "ExpiriesQueue": "ExpiriesDlq",
    "NotificationsQueue": "NotificationsDlq",
    "ChecksQueue": "ChecksDlq",
    "EventsQueue": "EventsDlq",
}
EVERY_QUEUE = (*QUEUES, *QUEUES.values(), "MailEventsDlq", "LedgerStreamDlq", "WebhookDlq")
STAGE = {"Ref": "Stage"}


def resources_of_type(template: Template, resource_type: str) -> dict[str, Any]:
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] == resource_type
    }


def properties(template: Template, name: str) -> Any:
    return template["Resources"][name]["Properties"]


def setting(template: Template, value: Any, stage: str) -> Any:
    """What a value that is looked up in the stages' settings is in `stage`."""
    stages, of_stage, key = value["Fn::FindInMap"]
    assert of_stage == STAGE
    return template["Mappings"][stages][stage][key]


def statements(template: Template, function: str) -> list[Any]:
    role = properties(template, function)["Role"]["Fn::GetAtt"][0]
    (policy,) = properties(template, role)["Policies"]
    found: list[Any] = policy["PolicyDocument"]["Statement"]
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def rights(template: Template, function: str) -> set[tuple[str, str]]:
    """The (action, resource) pairs that a function's role allows, its own logs left out."""
    return {
        (action, resource_name(resource))
        for statement in statements(template, function)
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
        if not action.startswith("logs:")
    }


def resource_name(resource: Any) -> str:
    match resource:
        case {"Fn::GetAtt": [name, "Arn"]}:
            return str(name)
        case {"Fn::GetAtt": [name, part]}:
            return f"{name}.{part}"
        case {"Fn::Sub": text}:
            name = str(text).rpartition("${AWS::AccountId}:")[2]
            return name.replace("${", "").replace(".Arn}", "").replace("}", "")
        # In the stage `local` alone: the emulator checks SendEmail against no resource.
        case {"Fn::If": ["IsLocal", "*", {"Fn::Sub": text}]}:
            return resource_name({"Fn::Sub": text})
        case "*":
            return "*"
        case _:
            return pytest.fail(f"names its resource in an unexpected way: {resource}")


def test_cfn_lint_has_nothing_to_say(template_file: Path) -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    lint = subprocess.run([program, template_file], capture_output=True, text=True, check=False)
    assert (lint.stdout, lint.stderr, lint.returncode) == ("", "", 0)


def test_there_are_exactly_the_functions_we_know(template: Template) -> None:
    assert set(resources_of_type(template, FUNCTION)) == FUNCTIONS


def test_every_stage_configures_the_same_functions_with_their_own_policies() -> None:
    config = json.loads((packaging.ROOT / ".chalice" / "config.json").read_text())
    functions = set(config["lambda_functions"])
    for name, stage in config["stages"].items():
        assert set(stage.get("lambda_functions", {})) <= functions
        policies = {
            function: Config(name, function, config_from_disk=config).iam_policy_file
            for function in functions
        }
        assert len(set(policies.values())) == len(FUNCTIONS)
        assert policies == {
            function: settings["iam_policy_file"]
            for function, settings in config["lambda_functions"].items()
        }


def test_every_stage_that_can_be_deployed_has_its_settings(template: Template) -> None:
    assert template["Parameters"]["Stage"]["AllowedValues"] == packaging.stages()
    assert set(template["Mappings"]["Stages"]) == set(packaging.stages())


def test_each_function_has_its_time_and_its_memory(template: Template) -> None:
    found = {
        name: (function["Properties"]["Timeout"], function["Properties"]["MemorySize"])
        for name, function in resources_of_type(template, FUNCTION).items()
    }
    queued = (*("SweepZone", "CheckZone", "SendNotifications"), "PublishEvents")
    assert found == {
        "Authorizer": (10, 512),
        # API Gateway gives up after 29 seconds.
        **dict.fromkeys(("APIHandler", "ManualAllocate", "StripeWebhook"), (29, 512)),
        **dict.fromkeys(("AllocationTick", "ExpiryTick", "CheckCompleteness"), (60, 256)),
        "MailEvents": (60, 256),
        **dict.fromkeys((*queued, "QueueNotifications", "WatchLedger"), (60, 512)),
        **dict.fromkeys(("AllocateAccounts", "ExpireBatches"), (60, 1024)),
        "AuditLedgers": (300, 1024),
    }


SETTINGS = (
    "VisibilityTimeout MaximumReceives RetrySeconds Concurrency MailSenders MailRetrySeconds "
    "RequestRate RequestBurst ManagementRate ManagementBurst KeyRate KeyBurst BackendRate "
    "BackendBurst AccessLogDays"
)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("dev", (360, 20, 90, 5, 2, 10, 50, 100, 5, 10, 10, 20, 30, 60, 14)),
        ("prod", (360, 20, 90, 20, 2, 10, 500, 1000, 5, 10, 100, 200, 300, 600, 365)),
    ],
)
def test_each_stage_has_its_own_numbers(
    template: Template, stage: str, settings: tuple[int, ...]
) -> None:
    found = template["Mappings"]["Stages"][stage]
    numbers = {name: value for name, value in found.items() if isinstance(value, int)}
    assert numbers == dict(zip(SETTINGS.split(), settings, strict=True))


@pytest.mark.parametrize("tick", ["AllocationTick", "ExpiryTick"])
def test_ticks_come_on_the_quarter_hours(template: Template, tick: str) -> None:
    (event,) = properties(template, tick)["Events"].values()
    assert event["Type"] == "Schedule"
    assert event["Properties"]["Schedule"] == "cron(0/15 * * * ? *)"
    assert event["Properties"]["Enabled"] is True


@pytest.mark.parametrize(("function", "queue"), READERS.items())
def test_a_queue_feeds_its_function_and_is_told_which_messages_failed(
    template: Template, function: str, queue: str
) -> None:
    (event,) = properties(template, function)["Events"].values()
    assert event["Type"] == "SQS"
    source = event["Properties"]
    assert source["Queue"] == {"Fn::Sub": f"${{{queue}.Arn}}"}
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["MaximumBatchingWindowInSeconds"] == 0, "a message waits for no other"
    # A zone or a range has an invocation to itself; small work shares one.
    assert source["BatchSize"] == (1 if queue in ("SweepsQueue", "ChecksQueue") else 10)
    # Emails are few at a time: SES refuses what is over the account's rate.
    concurrency = setting(template, source["ScalingConfig"]["MaximumConcurrency"], "prod")
    assert concurrency == (2 if function == "SendNotifications" else 20)


def loops(template: Template) -> set[str]:
    """The functions that may be set off by what they may send, however many are in between."""
    reads = {function: {queue} for function, queue in READERS.items()}
    sends = {
        function: {resource for action, resource in rights(template, function) if is_send(action)}
        for function in FUNCTIONS
    }
    found = set()
    for function in READERS:
        reached: set[str] = set()
        ahead = [function]
        while ahead:
            queues = sends[ahead.pop()] - reached
            reached |= queues
            ahead += [reader for reader, queue in reads.items() if queue & queues]
        if reads[function] & reached:
            found.add(function)
    return found


def is_send(action: str) -> bool:
    return fnmatchcase("sqs:SendMessage", action) or fnmatchcase("sqs:SendMessageBatch", action)


def test_only_functions_that_send_to_the_queue_they_read_may_loop(
    template: Template,
) -> None:
    """Lambda drops the rest of a chain of about 16 without a word. `tests/unit/test_very_many.py`
    holds that no chain of these is longer than five."""
    assert loops(template) == {"SweepZone", "CheckZone"}
    deployed = transform(template)
    allowed = {
        name
        for name, function in resources_of_type(deployed, "AWS::Lambda::Function").items()
        if function["Properties"].get("RecursiveLoop") == "Allow"
    }
    assert allowed == loops(template)


def test_a_loop_over_several_functions_is_found(template: Template) -> None:
    more = copy.deepcopy(template)
    (send,) = [s for s in statements(more, "SweepZone") if s["Sid"] == "HandOnToWorkersAndContinue"]
    statements(more, "ExpireBatches").append(send)
    assert loops(more) == {"SweepZone", "CheckZone", "ExpireBatches"}


def test_no_other_function_has_an_event_source(template: Template) -> None:
    functions = resources_of_type(template, FUNCTION)
    fed = {name for name, function in functions.items() if "Events" in function["Properties"]}
    assert fed == {
        *("AllocationTick", "ExpiryTick", "QueueNotifications", "WatchLedger", "MailEvents"),
        *("AuditLedgers", "CheckCompleteness"),
        *READERS,
    }


@pytest.mark.parametrize(("queue", "dead_letter_queue"), QUEUES.items())
def test_a_message_that_keeps_failing_is_kept_for_two_weeks(
    template: Template, queue: str, dead_letter_queue: str
) -> None:
    redrive = properties(template, queue)["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": [dead_letter_queue, "Arn"]}
    receives = redrive["maxReceiveCount"]
    if queue == "NotificationsQueue":
        assert receives == MOST_RECEIVES
    else:
        assert setting(template, receives, "prod") == 20
    two_weeks = 14 * 24 * 60 * 60
    for name in (queue, dead_letter_queue):
        assert properties(template, name)["MessageRetentionPeriod"] == two_weeks


def test_there_is_a_dead_letter_queue_behind_every_queue(template: Template) -> None:
    queues = set(resources_of_type(template, "AWS::SQS::Queue"))
    # The ledger's stream, the email events and the webhook have one too, and no queue in front.
    alone = {"LedgerStreamDlq", "MailEventsDlq", "WebhookDlq"}
    assert queues == {*QUEUES, *QUEUES.values(), *alone}


def test_an_email_event_that_keeps_failing_is_kept(template: Template) -> None:
    assert properties(template, "MailEvents")["DeadLetterQueue"] == {
        "Type": "SQS",
        "TargetArn": {"Fn::GetAtt": ["MailEventsDlq", "Arn"]},
    }


def test_a_stage_sends_events_when_its_parameter_says_so_and_only_then(template: Template) -> None:
    assert template["Parameters"]["Events"]["Default"] == "off"
    assert template["Conditions"]["SendsEvents"] == {"Fn::Equals": [{"Ref": "Events"}, "on"]}
    variables = properties(template, "QueueNotifications")["Environment"]["Variables"]
    assert variables["EVENTS_QUEUE_URL"] == {"Fn::If": ["SendsEvents", {"Ref": "EventsQueue"}, ""]}
    assert variables["LOW_BALANCE"] == {"Fn::Sub": "${LowBalance}"}
    (source,) = properties(template, "PublishEvents")["Events"].values()
    # Polling an empty queue costs money.
    assert source["Properties"]["Enabled"] == {"Fn::If": ["SendsEvents", True, False]}


def test_what_queues_emails_or_events_is_told_whether_the_stage_is_a_shadow(
    template: Template,
) -> None:
    assert template["Parameters"]["Shadow"]["Default"] == "off"
    told = {
        name
        for name, resource in template["Resources"].items()
        if resource.get("Properties", {})
        .get("Environment", {})
        .get("Variables", {})
        .get("SHADOW_UNTIL")
        == {"Ref": "Shadow"}
    }
    sending = set()
    for path in (packaging.ROOT / ".chalice").glob("policy-*.json"):
        for statement in json.loads(path.read_text("utf-8"))["Statement"]:
            of_queue = re.search("NotificationsQueue|EventsQueue", json.dumps(statement))
            if of_queue and "sqs:SendMessage" in statement.get("Action", ""):
                sending.add("".join(word.title() for word in path.stem.split("-")[1:]))
    assert sending == {"QueueNotifications", "SweepZone"}
    # The API says so to those who answer users.
    assert told == sending | {"APIHandler"}


def test_a_webhook_is_made_when_it_has_an_address_and_only_then(template: Template) -> None:
    of_webhook = {
        name: resource
        for name, resource in template["Resources"].items()
        if resource.get("Condition") == "HasWebhook"
    }
    assert set(of_webhook) == {
        *("WebhookSecret", "WebhookConnection", "WebhookDestination", "WebhookRule", "WebhookRole")
    }
    assert template["Parameters"]["EventsWebhookUrl"]["Default"] == ""
    (target,) = properties(template, "WebhookRule")["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["WebhookDestination", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["WebhookDlq", "Arn"]}}
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == 24 * 60 * 60
    assert properties(template, "WebhookRule")["EventBusName"] == {"Ref": "EventBus"}


def test_the_webhooks_secret_is_in_no_parameter_and_no_template(template: Template) -> None:
    connection = properties(template, "WebhookConnection")["AuthParameters"]
    value = connection["ApiKeyAuthParameters"]["ApiKeyValue"]
    assert value == {"Fn::Sub": "{{resolve:secretsmanager:${WebhookSecret}}}"}
    assert "SecretString" not in properties(template, "WebhookSecret")
    assert not [name for name in template["Parameters"] if "Secret" in name]


def test_eventbridge_may_post_to_the_webhook_and_keep_what_failed_and_nothing_else(
    template: Template,
) -> None:
    (policy,) = properties(template, "WebhookRole")["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "events:InvokeApiDestination"
    assert statement["Resource"] == {"Fn::GetAtt": ["WebhookDestination", "Arn"]}
    keeping = properties(template, "WebhookDlqPolicy")["PolicyDocument"]["Statement"]
    (allowed,) = [statement for statement in keeping if statement["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert allowed["Action"] == "sqs:SendMessage"
    bus, rule = (properties(template, name)["Name"] for name in ("EventBus", "WebhookRule"))
    of_rule = allowed["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::Sub"]
    assert of_rule.endswith(f":rule/{bus['Fn::Sub']}/{rule['Fn::Sub']}")


def test_a_stage_is_traced_when_its_parameter_says_so_and_only_then(template: Template) -> None:
    assert template["Parameters"]["Tracing"]["Default"] == "PassThrough"
    assert template["Globals"]["Function"]["Tracing"] == {"Ref": "Tracing"}
    assert template["Globals"]["Api"]["TracingEnabled"] == {"Fn::If": ["IsTraced", True, False]}
    policy = template["Resources"]["TracingPolicy"]
    assert policy["Condition"] == "IsTraced"
    (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    roles = resources_of_type(template, "AWS::IAM::Role")
    assert {role["Ref"] for role in policy["Properties"]["Roles"]} == set(roles) - {"WebhookRole"}
    # What a function says of itself would win over what is said of all.
    functions = resources_of_type(transform(template), "AWS::Lambda::Function")
    for function in functions.values():
        assert function["Properties"]["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize(("function", "queue"), READERS.items())
def test_a_message_is_not_delivered_again_while_its_function_may_still_be_trying(
    template: Template, stage: str, function: str, queue: str
) -> None:
    timeout = properties(template, function)["Timeout"]
    visibility = setting(template, properties(template, queue)["VisibilityTimeout"], stage)
    assert visibility == 6 * timeout


def test_tables_are_on_demand_encrypted_and_protected(template: Template) -> None:
    tables = resources_of_type(template, "AWS::DynamoDB::Table")
    assert set(tables) == {
        *("LedgerTable", "SubscriptionsTable", "EditsTable", "MailsTable"),
        "StripeTable",
    }
    keeps_data = {"Fn::If": ["KeepsData", True, False]}
    assert template["Conditions"]["KeepsData"] == {"Fn::Equals": [STAGE, "prod"]}
    for table in tables.values():
        settings = table["Properties"]
        assert settings["BillingMode"] == "PAY_PER_REQUEST"
        assert settings["SSESpecification"] == {"SSEEnabled": True}
        assert settings["DeletionProtectionEnabled"] == keeps_data
        recovery = settings["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        assert recovery == keeps_data
        assert setting(template, table["DeletionPolicy"], "prod") == "RetainExceptOnCreate"
        assert setting(template, table["UpdateReplacePolicy"], "prod") == "Retain"
        assert setting(template, table["DeletionPolicy"], "local") == "Delete"


@pytest.mark.parametrize("name", ["ReportsBucket", "AnchorsBucket"])
def test_the_reports_are_private_encrypted_versioned_and_kept(
    template: Template, name: str
) -> None:
    assert set(resources_of_type(template, "AWS::S3::Bucket")) == {"ReportsBucket", "AnchorsBucket"}
    bucket = template["Resources"][name]
    settings = bucket["Properties"]
    assert set(settings["PublicAccessBlockConfiguration"].values()) == {True}
    assert settings["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = settings["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert setting(template, bucket["DeletionPolicy"], "prod") == "RetainExceptOnCreate"


@pytest.mark.parametrize(
    ("stage", "mode"), [("local", "GOVERNANCE"), ("dev", "GOVERNANCE"), ("prod", "COMPLIANCE")]
)
def test_anchors_are_locked_and_in_production_against_everybody(
    template: Template, stage: str, mode: str
) -> None:
    settings = properties(template, "AnchorsBucket")
    assert settings["ObjectLockEnabled"] is True
    retention = settings["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert setting(template, retention["Mode"], stage) == mode
    assert retention["Days"] == {"Ref": "AnchorDays"}
    # No rule deletes one while it is locked.
    (rule,) = settings["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == {"Ref": "AnchorDays"}
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rule["Status"] == "Enabled"
    assert template["Parameters"]["AnchorDays"]["Default"] == 365


def test_the_ledgers_second_reader_is_woken_for_entries_and_for_every_change(
    template: Template,
) -> None:
    (event,) = properties(template, "WatchLedger")["Events"].values()
    source = event["Properties"]
    assert source["Stream"] == {"Fn::GetAtt": ["LedgerTable", "StreamArn"]}
    assert source["StartingPosition"] == "TRIM_HORIZON"
    patterns = [json.loads(each["Pattern"]) for each in source["FilterCriteria"]["Filters"]]
    assert patterns == [
        {
            "eventName": ["INSERT"],
            "dynamodb": {"Keys": {"entry": {"S": [{"prefix": "entry#"}]}}},
        },
        {"eventName": ["MODIFY", "REMOVE"]},
    ]
    assert (source["BatchSize"], source["MaximumBatchingWindowInSeconds"]) == (10_000, 300)
    assert source["BisectBatchOnFunctionError"] is True
    assert source["MaximumRecordAgeInSeconds"] == 72_000
    destination = {"Destination": {"Fn::GetAtt": ["LedgerStreamDlq", "Arn"]}}
    assert source["DestinationConfig"] == {"OnFailure": destination}
    # The first one hears of entries alone, and soon.
    (event,) = properties(template, "QueueNotifications")["Events"].values()
    entries = source["FilterCriteria"]["Filters"][:1]
    soon = {"BatchSize": 100, "MaximumBatchingWindowInSeconds": 0}
    assert event["Properties"] == source | soon | {"FilterCriteria": {"Filters": entries}}


def test_no_more_than_two_read_the_ledgers_stream(template: Template) -> None:
    """Amazon DynamoDB Developer Guide, "Change data capture for DynamoDB Streams"."""
    readers = [
        name
        for name, function in resources_of_type(template, FUNCTION).items()
        for event in function["Properties"].get("Events", {}).values()
        if event["Type"] == "DynamoDB"
    ]
    assert sorted(readers) == ["QueueNotifications", "WatchLedger"]


def test_queues_are_encrypted(template: Template) -> None:
    for queue in resources_of_type(template, "AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True


def test_the_ledger_streams_its_new_entries(template: Template) -> None:
    ledger = properties(template, "LedgerTable")
    assert ledger["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}


def test_tables_have_the_keys_of_the_store(template: Template) -> None:
    def keys(schema: list[Any]) -> list[tuple[str, str]]:
        return [(key["AttributeName"], key["KeyType"]) for key in schema]

    ledger = properties(template, "LedgerTable")
    (expiring,) = ledger["GlobalSecondaryIndexes"]
    assert keys(ledger["KeySchema"]) == [("user_id", "HASH"), ("entry", "RANGE")]
    assert keys(expiring["KeySchema"]) == [("expiry_partition", "HASH"), ("expiry_key", "RANGE")]

    subscriptions = properties(template, "SubscriptionsTable")
    by_timezone, by_anniversary, by_address = subscriptions["GlobalSecondaryIndexes"]
    assert keys(subscriptions["KeySchema"]) == [("user_id", "HASH")]
    assert keys(by_timezone["KeySchema"]) == [("allocation_timezone", "HASH"), ("spread", "RANGE")]

    assert keys(by_anniversary["KeySchema"]) == [("anniversary", "HASH"), ("spread", "RANGE")]
    assert keys(by_address["KeySchema"]) == [("address", "HASH"), ("user_id", "RANGE")]

    stripe = properties(template, "StripeTable")
    assert keys(stripe["KeySchema"]) == [("about", "HASH"), ("part", "RANGE")]

    for index in (expiring, by_timezone, by_anniversary, by_address):
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}


def test_what_waits_for_stripe_is_forgotten_in_the_end(template: Template) -> None:
    table = properties(template, "StripeTable")
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_what_is_generated_in_the_place_of_stripes_secret_never_changes(
    template: Template,
) -> None:
    """CloudFormation would generate anew, over the secret that somebody has put there."""
    secret = properties(template, "StripeSecret")
    assert secret["GenerateSecretString"] == {"PasswordLength": 64, "ExcludePunctuation": True}
    assert "SecretString" not in secret


def test_every_function_has_a_role_and_a_name_of_its_own(template: Template) -> None:
    functions = resources_of_type(template, FUNCTION).values()
    roles = {function["Properties"]["Role"]["Fn::GetAtt"][0] for function in functions}
    names = {function["Properties"]["FunctionName"]["Fn::Sub"] for function in functions}
    assert len(roles) == len(names) == len(FUNCTIONS)


def test_every_function_may_write_its_own_log_and_no_other(template: Template) -> None:
    found = resources_of_type(template, "AWS::Logs::LogGroup")
    groups = [group for name, group in found.items() if name != "ApiAccessLog"]
    assert {group["Properties"]["LogGroupName"]["Fn::Sub"] for group in groups} == {
        f"/aws/lambda/${{{function}}}" for function in FUNCTIONS
    }
    assert {group["Properties"]["RetentionInDays"] for group in groups} == {365}
    for function in FUNCTIONS:
        (logging,) = [s for s in statements(template, function) if s["Sid"] == "WriteOwnLogs"]
        assert logging["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
        name = properties(template, function)["FunctionName"]["Fn::Sub"]
        assert logging["Resource"]["Fn::Sub"].endswith(f":log-group:/aws/lambda/{name}:*")


def all_statements(template: Template) -> Iterator[Any]:
    for role in resources_of_type(template, "AWS::IAM::Role").values():
        for policy in role["Properties"]["Policies"]:
            yield from policy["PolicyDocument"]["Statement"]


def test_no_role_is_open_to_every_resource_or_every_action(template: Template) -> None:
    for statement in all_statements(template):
        assert statement["Effect"] == "Allow"
        assert "NotAction" not in statement
        assert "NotResource" not in statement
        for resource in as_list(statement["Resource"]):
            if statement["Action"] == "dynamodb:ListStreams":
                continue  # it names none: Service Authorization Reference, Amazon DynamoDB
            assert resource != "*"
            assert isinstance(resource, dict)
        for action in as_list(statement["Action"]):
            assert "*" not in action


CONSUME = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
"""What Lambda does for a function that reads a queue."""
HAND_BACK = "sqs:ChangeMessageVisibility"
"""What the function itself does: what failed comes back sooner than its queue would have it."""
APPEND = {("dynamodb:Query", "LedgerTable"), ("dynamodb:PartiQLInsert", "LedgerTable")}
APPEND_ON_REQUEST = {*APPEND, ("dynamodb:GetItem", "LedgerTable")}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("AllocationTick", {("sqs:SendMessage", "SweepsQueue")}),
        ("ExpiryTick", {("sqs:SendMessage", "SweepsQueue")}),
        (
            "SweepZone",
            {
                *((action, "SweepsQueue") for action in (*CONSUME, HAND_BACK)),
                ("dynamodb:Query", "SubscriptionsTable/index/by_timezone"),
                ("dynamodb:Query", "SubscriptionsTable/index/by_anniversary"),
                ("dynamodb:Query", "LedgerTable/index/expiring"),
                ("sqs:SendMessage", "AllocationsQueue"),
                ("sqs:SendMessage", "ExpiriesQueue"),
                ("sqs:SendMessage", "SweepsQueue"),
                ("sqs:SendMessage", "NotificationsQueue"),
            },
        ),
        (
            "AllocateAccounts",
            {
                *((action, "AllocationsQueue") for action in (*CONSUME, HAND_BACK)),
                *APPEND,
                ("dynamodb:BatchGetItem", "SubscriptionsTable"),
            },
        ),
        (
            "ExpireBatches",
            {*((action, "ExpiriesQueue") for action in (*CONSUME, HAND_BACK)), *APPEND},
        ),
        ("ManualAllocate", {*APPEND_ON_REQUEST, ("dynamodb:GetItem", "SubscriptionsTable")}),
        (
            "QueueNotifications",
            {
                ("dynamodb:DescribeStream", "LedgerTable.StreamArn"),
                ("dynamodb:GetRecords", "LedgerTable.StreamArn"),
                ("dynamodb:GetShardIterator", "LedgerTable.StreamArn"),
                ("dynamodb:ListStreams", "*"),
                ("sqs:SendMessage", "NotificationsQueue"),
                ("sqs:SendMessage", "EventsQueue"),
                ("sqs:SendMessage", "LedgerStreamDlq"),
            },
        ),
        (
            "PublishEvents",
            {
                *((action, "EventsQueue") for action in (*CONSUME, HAND_BACK)),
                ("events:PutEvents", "EventBus"),
            },
        ),
        (
            "SendNotifications",
            {
                *((action, "NotificationsQueue") for action in (*CONSUME, HAND_BACK)),
                ("dynamodb:Query", "LedgerTable"),
                ("dynamodb:BatchGetItem", "LedgerTable"),
                ("dynamodb:BatchGetItem", "SubscriptionsTable"),
                *(
                    (f"dynamodb:{action}Item", "MailsTable")
                    for action in ("Put", "Update", "Delete")
                ),
                ("ses:SendEmail", "identity/*"),
                ("ses:SendEmail", "configuration-set/MailConfigurationSet"),
                ("secretsmanager:GetSecretValue", "UnsubscribeSecret.Id"),
            },
        ),
        (
            "MailEvents",
            {
                ("dynamodb:GetItem", "SubscriptionsTable"),
                ("dynamodb:PartiQLUpdate", "SubscriptionsTable"),
                ("dynamodb:PartiQLInsert", "EditsTable"),
                ("dynamodb:GetItem", "EditsTable"),
                ("sqs:SendMessage", "MailEventsDlq"),
            },
        ),
        ("CheckCompleteness", {("sqs:SendMessage", "ChecksQueue")}),
        (
            "CheckZone",
            {
                *((action, "ChecksQueue") for action in (*CONSUME, HAND_BACK)),
                ("sqs:SendMessage", "ChecksQueue"),
                ("dynamodb:Query", "SubscriptionsTable/index/by_timezone"),
                ("dynamodb:BatchGetItem", "SubscriptionsTable"),
                ("dynamodb:Scan", "SubscriptionsTable"),
                ("dynamodb:Query", "LedgerTable"),
                ("s3:ListBucket", "ReportsBucket"),
                ("s3:PutObject", "ReportsBucket/completeness/*"),
                ("s3:GetObject", "ReportsBucket/completeness/*"),
            },
        ),
        (
            "WatchLedger",
            {
                ("dynamodb:DescribeStream", "LedgerTable.StreamArn"),
                ("dynamodb:GetRecords", "LedgerTable.StreamArn"),
                ("dynamodb:GetShardIterator", "LedgerTable.StreamArn"),
                ("dynamodb:ListStreams", "*"),
                ("s3:PutObject", "AnchorsBucket/heads/*"),
                ("sqs:SendMessage", "LedgerStreamDlq"),
            },
        ),
        (
            "AuditLedgers",
            {
                *(
                    (f"dynamodb:{action}", "LedgerTable")
                    for action in ("Query", "BatchGetItem", "Scan")
                ),
                ("s3:ListBucketVersions", "AnchorsBucket"),
                ("s3:GetObjectVersion", "AnchorsBucket/*"),
                ("s3:PutObject", "AnchorsBucket/digests/*"),
                ("dynamodb:Scan", "SubscriptionsTable"),
                ("dynamodb:GetItem", "SubscriptionsTable"),
                ("dynamodb:Query", "SubscriptionsTable/index/by_timezone"),
            },
        ),
        ("Authorizer", set()),
        (
            "StripeWebhook",
            {
                *APPEND_ON_REQUEST,
                ("dynamodb:GetItem", "SubscriptionsTable"),
                ("dynamodb:PartiQLInsert", "SubscriptionsTable"),
                ("dynamodb:PartiQLUpdate", "SubscriptionsTable"),
                ("dynamodb:PartiQLInsert", "EditsTable"),
                ("dynamodb:GetItem", "EditsTable"),
                *((f"dynamodb:{action}Item", "StripeTable") for action in ("Get", "Put", "Delete")),
                ("secretsmanager:GetSecretValue", "StripeSecret.Id"),
            },
        ),
        (
            "APIHandler",
            {
                *APPEND_ON_REQUEST,
                ("dynamodb:BatchGetItem", "LedgerTable"),  # what opened and what ended a hold
                ("dynamodb:GetItem", "SubscriptionsTable"),
                ("dynamodb:BatchGetItem", "SubscriptionsTable"),
                ("dynamodb:PartiQLInsert", "SubscriptionsTable"),
                ("dynamodb:PartiQLUpdate", "SubscriptionsTable"),
                ("dynamodb:PartiQLInsert", "EditsTable"),
                ("dynamodb:GetItem", "EditsTable"),
                ("dynamodb:Query", "EditsTable"),
                ("dynamodb:Scan", "SubscriptionsTable"),
                ("dynamodb:BatchGetItem", "MailsTable"),
                ("dynamodb:Query", "SubscriptionsTable/index/by_timezone"),
                ("dynamodb:Query", "SubscriptionsTable/index/by_address"),
                ("s3:ListBucket", "ReportsBucket"),
                ("s3:GetObject", "ReportsBucket/completeness/*"),
                *(("sqs:GetQueueAttributes", queue) for queue in EVERY_QUEUE),
                ("cloudwatch:DescribeAlarms", "alarm:*"),
                ("sqs:SendMessage", "SweepsQueue"),
                ("secretsmanager:GetSecretValue", "UnsubscribeSecret.Id"),
            },
        ),
    ],
)
def test_a_role_allows_what_its_function_does_and_nothing_else(
    template: Template, function: str, expected: set[tuple[str, str]]
) -> None:
    assert rights(template, function) == expected


def test_emails_are_sent_from_one_address_whatever_identity_ses_checks(template: Template) -> None:
    """In the sandbox it can be the recipient's: the condition, and not the identity, binds us."""
    (statement,) = [s for s in statements(template, "SendNotifications") if s["Sid"] == "SendMails"]
    address = {"Fn::Sub": "credits@${MailDomain}"}
    assert statement["Condition"] == {
        "Fn::If": [
            "IsLocal",
            {"Ref": "AWS::NoValue"},
            {"StringEquals": {"ses:FromAddress": address}},
        ]
    }
    sender = properties(template, "SendNotifications")["Environment"]["Variables"]["MAIL_FROM"]
    assert sender == address


@pytest.mark.parametrize(
    ("function", "number"),
    [("APIHandler", 2), ("CheckZone", 2), ("WatchLedger", 1), ("AuditLedgers", 3)],
)
def test_reports_are_written_to_a_bucket_of_this_account(
    template: Template, function: str, number: int
) -> None:
    """The name of a bucket is anybody's: once it is deleted, another account can take it."""
    about_s3 = [
        statement
        for statement in statements(template, function)
        if as_list(statement["Action"])[0].startswith("s3:")
    ]
    assert len(about_s3) == number
    for statement in about_s3:
        account = {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}
        assert statement["Condition"] == {"StringEquals": account}


def test_what_marks_bounces_touches_the_mark_and_the_version_and_nothing_else(
    template: Template,
) -> None:
    (update,) = [
        statement
        for statement in statements(template, "MailEvents")
        if "dynamodb:PartiQLUpdate" in as_list(statement["Action"])
    ]
    assert update["Condition"] == {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["user_id", "version", "suppressed"]},
        # For all of none holds, too.
        "Null": {"dynamodb:Attributes": "false"},
        "StringEqualsIfExists": {"dynamodb:ReturnValues": "NONE"},
    }


def test_every_function_is_told_only_what_it_may_use(template: Template) -> None:
    named = {
        "LEDGER_TABLE": "LedgerTable",
        "SUBSCRIPTIONS_TABLE": "SubscriptionsTable",
        "SWEEPS_QUEUE_URL": "SweepsQueue",
        "ALLOCATIONS_QUEUE_URL": "AllocationsQueue",
        "EXPIRIES_QUEUE_URL": "ExpiriesQueue",
        "NOTIFICATIONS_QUEUE_URL": "NotificationsQueue",
        "CHECKS_QUEUE_URL": "ChecksQueue",
        "EVENTS_QUEUE_URL": "EventsQueue",
        "EVENT_BUS": "EventBus",
        "EDITS_TABLE": "EditsTable",
        "MAILS_TABLE": "MailsTable",
        "ANCHORS_BUCKET": "AnchorsBucket",
        "UNSUBSCRIBE_SECRET": "UnsubscribeSecret",
        "STRIPE_TABLE": "StripeTable",
        "STRIPE_SECRET": "StripeSecret",
        "MAIL_CONFIGURATION_SET": "MailConfigurationSet",
    }
    # What AWS itself uses for a function, and what is named in a function's other settings.
    unnamed = {"LedgerTable.StreamArn", "*", "LedgerStreamDlq", "identity"}
    unnamed |= {"MailEventsDlq", "alarm:*"}
    # The function that starts the count has no rights to the bucket: it answers its name.
    unnamed.add("ReportsBucket")
    for function in FUNCTIONS:
        variables = properties(template, function)["Environment"]["Variables"]
        assert variables["STAGE"] == "prod"
        where_wanted = [{"Fn::If": ["SendsEvents", {"Ref": "EventsQueue"}, ""]}]
        assert all(
            variables[name] in ({"Ref": named[name]}, *where_wanted)
            for name in named
            if name in variables
        )
        consumed = READERS.get(function)
        usable = {
            resource.removeprefix("configuration-set/").removesuffix(".Id").split("/")[0]
            for action, resource in rights(template, function)
            if (action not in CONSUME or resource != consumed)
            and (action == "sqs:GetQueueAttributes" or not resource.startswith(tuple(unnamed)))
        }
        counted = variables.get("QUEUE_URLS", {"Fn::Join": [" ", []]})["Fn::Join"][1]
        told = {named[name] for name in variables if name in named}
        assert told | {queue["Ref"] for queue in counted} == usable


def test_the_api_is_regional_and_has_a_stage_of_its_own(template: Template) -> None:
    api = properties(template, "RestAPI")
    assert api["EndpointConfiguration"] == "REGIONAL"
    # What fits into a packet does not get faster by being compressed.
    assert api["MinimumCompressionSize"] == 1400
    assert api["StageName"] == "v1"
    assert "/api/health" in api["DefinitionBody"]["paths"]


PUBLIC = {
    ("/api/health", "get"),
    ("/api/openapi.json", "get"),
    ("/api/unsubscribe", "get"),
    ("/api/unsubscribe", "post"),
    ("/console", "get"),
    ("/console/{file}", "get"),
}


def operations(template: Template) -> Iterator[tuple[str, str, Any]]:
    for path, methods in properties(template, "RestAPI")["DefinitionBody"]["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_but_the_public_ones_is_behind_the_authorizer(template: Template) -> None:
    for path, method, operation in operations(template):
        is_route = method.upper() in app.routes[path]
        is_open = (path, method) in PUBLIC or not is_route
        assert operation.get("security", []) == ([] if is_open else [{"authorizer": []}])


def test_the_app_is_asked_whatever_the_method_so_that_it_can_refuse_it(template: Template) -> None:
    for path, methods in properties(template, "RestAPI")["DefinitionBody"]["paths"].items():
        assert set(methods) == {"get", "head", "post", "put", "patch", "delete", "options"}
        integrations = [o["x-amazon-apigateway-integration"] for o in methods.values()]
        assert all(integration == integrations[0] for integration in integrations)
        names = [[p["name"] for p in o.get("parameters", [])] for o in methods.values()]
        assert all(name == re.findall(r"{(\w+)}", path) for name in names)


def test_the_authorizer_is_asked_for_what_may_be_a_token_and_its_answer_is_kept_for_a_minute(
    template: Template,
) -> None:
    (scheme,) = properties(template, "RestAPI")["DefinitionBody"]["securityDefinitions"].values()
    assert (scheme["in"], scheme["name"]) == ("header", "Authorization")
    settings = scheme["x-amazon-apigateway-authorizer"]
    assert settings["authorizerResultTtlInSeconds"] == 60
    assert "${Authorizer.Arn}" in settings["authorizerUri"]["Fn::Sub"]
    expression = re.compile(settings["identityValidationExpression"])
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiI0Mi1fIn0.c2lnbmF0dXJlXy0"  # noqa: S105 - of nobody
    assert expression.fullmatch(f"Bearer {token}")
    assert expression.fullmatch(f"bearer {token}")
    for garbage in ("", "Bearer", "Bearer x", "Basic YWRhOmFkYQ==", token, "Bearer e.e."):
        assert not expression.fullmatch(garbage)


def test_the_authorizer_is_told_by_the_stacks_parameters_whose_tokens_to_take(
    template: Template,
) -> None:
    variables = properties(template, "Authorizer")["Environment"]["Variables"]
    tokens = {name: value for name, value in variables.items() if name.startswith("TOKEN_")}
    for name, value in tokens.items():
        parameter = "".join(word.capitalize() for word in name.split("_"))
        assert value == {"Ref": parameter}
    # What must be set has no default, so that nothing is deployed without it.
    required = {n for n, p in template["Parameters"].items() if "Default" not in p}
    assert required == {"Stage", "TokenIssuer", "TokenAudience"}


def test_what_the_gateway_answers_by_itself_are_problems(template: Template) -> None:
    responses = properties(template, "RestAPI")["GatewayResponses"]
    statuses = {
        "UNAUTHORIZED": 401,
        "ACCESS_DENIED": 401,
        "MISSING_AUTHENTICATION_TOKEN": 404,
        "REQUEST_TOO_LARGE": 413,
        "THROTTLED": 429,
        "QUOTA_EXCEEDED": 429,
        "AUTHORIZER_FAILURE": 503,
        "AUTHORIZER_CONFIGURATION_ERROR": 503,
        "INTEGRATION_TIMEOUT": 504,
        "DEFAULT_4XX": 404,
        "DEFAULT_5XX": 500,
    }
    assert {name: int(responses[name]["StatusCode"]) for name in statuses} == statuses
    problem = contract.document()["components"]["schemas"]["Problem"]
    for name, response in responses.items():
        body = json.loads(response["ResponseTemplates"]["application/json"])
        contract.check_value(problem, body)
        assert body["status"] == int(response["StatusCode"]), name
        assert body["request_id"] == "$context.requestId"
        headers = response["ResponseParameters"]["Headers"]
        assert headers["Content-Type"] == "'application/problem+json'"
        assert headers["X-Request-Id"] == "context.requestId"
        assert headers["Access-Control-Allow-Origin"] == "'*'"
        assert ("WWW-Authenticate" in headers) == (body["status"] == 401)
        assert ("Retry-After" in headers) == (body["status"] in (429, 503, 504))
        assert headers["X-Content-Type-Options"] == "'nosniff'"
        exposed = headers["Access-Control-Expose-Headers"]
        assert exposed == "'Retry-After,WWW-Authenticate,X-Request-Id'"
        assert "authorizer" not in json.dumps(body), "why a token is refused is told nobody"


def test_the_gateway_and_the_app_call_a_problem_the_same(template: Template) -> None:
    titles = problems.TITLES
    assert titles["forbidden"] == "The request is not allowed"
    for response in properties(template, "RestAPI")["GatewayResponses"].values():
        body = json.loads(response["ResponseTemplates"]["application/json"])
        assert body["title"] == titles[body["code"]]


def test_requests_are_throttled_method_by_method(template: Template) -> None:
    settings = {
        (item["ResourcePath"].replace("~1", "/").replace("//", "/"), item["HttpMethod"]): (
            setting(template, item["ThrottlingRateLimit"], "prod"),
            setting(template, item["ThrottlingBurstLimit"], "prod"),
        )
        for item in properties(template, "RestAPI")["MethodSettings"]
    }
    assert settings.pop(("/*", "*")) == (500, 1000)
    assert set(settings.values()) == {(5, 10)}
    assert all(method in app.routes[path] for path, method in settings)
    plan = properties(template, "UsagePlan")
    assert plan["ApiStages"] == [{"ApiId": {"Ref": "RestAPI"}, "Stage": {"Ref": "RestAPI.Stage"}}]
    assert setting(template, plan["Throttle"]["RateLimit"], "prod") == 100


def stage_of(template: Template, **parameters: str) -> Json:
    """The stage of the API, as CloudFormation has it."""
    ((_, stage),) = resolve(template, "prod", **parameters).of_type("AWS::ApiGateway::Stage")
    return stage


def test_requests_are_logged_where_the_stage_wants_it_and_only_there(template: Template) -> None:
    assert not stage_of(template).get("AccessLogSetting")
    log = stage_of(template, AccessLogs="on")["AccessLogSetting"]
    assert log["DestinationArn"] == "/aws/apigateway/credits-prod"
    assert template["Parameters"]["AccessLogs"]["Default"] == "off"


def test_a_line_of_the_access_log_has_neither_what_was_asked_nor_a_token(
    template: Template,
) -> None:
    text = stage_of(template, AccessLogs="on")["AccessLogSetting"]["Format"]
    assert "\n" not in text  # API Gateway takes a single line
    line = json.loads(text)
    assert set(line.values()) == {
        *("$context.requestTime", "$context.requestId", "$context.httpMethod"),
        *("$context.resourcePath", "$context.status", "$context.authorizer.principalId"),
        *("$context.identity.sourceIp", "$context.responseLatency", "$context.responseLength"),
        *("$context.error.responseType", "$context.waf.status"),
    }


def test_the_access_log_is_kept_as_long_as_the_logs_of_the_functions(template: Template) -> None:
    kept = properties(template, "ApiAccessLog")["RetentionInDays"]
    config = json.loads((packaging.ROOT / ".chalice" / "config.json").read_text("utf-8"))
    for stage, settings in config["stages"].items():
        assert setting(template, kept, stage) == settings["log_retention_in_days"]


def test_nothing_sets_the_role_that_api_gateway_has_in_the_whole_account(
    template: Template,
) -> None:
    assert resources_of_type(template, "AWS::ApiGateway::Account") == {}


def asked_for_keys(template: Template) -> dict[tuple[str, str], bool]:
    """Whether each method asks for a key, as SAM leaves it."""
    (api,) = resources_of_type(transform(template), "AWS::ApiGateway::RestApi").values()
    definition = api["Properties"]["Body"]
    assert definition["x-amazon-apigateway-api-key-source"] == "AUTHORIZER"
    return {
        (path, method): {"api_key": []} in operation.get("security", [])
        for path, item in definition["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, dict)
    }


def test_no_method_asks_for_a_key_unless_the_stage_wants_it(template: Template) -> None:
    assert template["Parameters"]["CallerLimits"]["Default"] == "off"
    assert not any(asked_for_keys(template).values())


def test_a_key_is_asked_for_where_the_authorizer_is_and_nowhere_else(template: Template) -> None:
    asking = copy.deepcopy(template)
    caller_limits.require(asking)
    (api,) = resources_of_type(asking, "AWS::Serverless::Api").values()
    paths = api["Properties"]["DefinitionBody"]["paths"]
    (scheme,) = [
        scheme
        for name, scheme in api["Properties"]["DefinitionBody"]["securityDefinitions"].items()
        if name == "api_key"
    ]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "x-api-key")
    for (path, method), asks in asked_for_keys(asking).items():
        assert asks is ({"authorizer": []} in paths[path][method].get("security", [])), path
    assert sum(asked_for_keys(asking).values()) == 31


def test_switching_the_keys_on_makes_a_new_deployment_of_the_api(template: Template) -> None:
    """SAM names a deployment by the text of the definition; a parameter alone would change none."""
    asking = copy.deepcopy(template)
    caller_limits.require(asking)
    before, after = (
        set(resources_of_type(transform(each), "AWS::ApiGateway::Deployment"))
        for each in (template, asking)
    )
    assert before != after


def test_every_lane_that_the_authorizer_can_name_has_a_key_in_one_plan(
    template: Template,
) -> None:
    authorizer = properties(template, "Authorizer")["Environment"]["Variables"]
    prefix = authorizer["LANE_KEYS"]["Fn::Sub"].replace("${Stage}", "dev")
    keys = {
        name: key["Properties"]["Value"]["Fn::Sub"].replace("${Stage}", "dev")
        for name, key in resources_of_type(template, "AWS::ApiGateway::ApiKey").items()
    }
    assert sorted(keys.values()) == sorted(lanes.key_of(prefix, lane) for lane in lanes.LANES)
    for key in resources_of_type(template, "AWS::ApiGateway::ApiKey").values():
        assert key["Properties"]["Enabled"] is True
    # What API Gateway takes for a value.
    assert all(re.fullmatch(r"[A-Za-z0-9]{20,128}", value) for value in keys.values())
    plans = {
        keys[key["Properties"]["KeyId"]["Ref"]]: key["Properties"]["UsagePlanId"]["Ref"]
        for key in resources_of_type(template, "AWS::ApiGateway::UsagePlanKey").values()
    }
    backend = lanes.key_of(prefix, lanes.BACKEND)
    assert plans == dict.fromkeys(keys.values(), "UsagePlan") | {backend: "BackendPlan"}


WEB_ACL = "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/credits/1111aaaa-22bb-33cc"


def test_a_web_acl_is_put_in_front_of_the_stage_if_there_is_one(template: Template) -> None:
    kind = "AWS::WAFv2::WebACLAssociation"
    assert list(resolve(template, "prod").of_type(kind)) == []
    ((_, found),) = resolve(template, "prod", WebAclArn=WEB_ACL).of_type(kind)
    assert found["WebACLArn"] == WEB_ACL
    assert re.fullmatch(
        r"arn:aws:apigateway:[a-z0-9-]+::/restapis/[^/]+/stages/v1", found["ResourceArn"]
    )


def test_the_api_has_one_stage_and_its_requests_are_throttled(template: Template) -> None:
    """Of what SAM makes of the template: by itself it adds a stage without throttles."""
    transformed = transform(template)
    stages = resources_of_type(transformed, "AWS::ApiGateway::Stage")
    assert [stage["Properties"]["StageName"] for stage in stages.values()] == ["v1"]
    deployments = resources_of_type(transformed, "AWS::ApiGateway::Deployment")
    assert not any("StageName" in each["Properties"] for each in deployments.values())
    (stage,) = stages.values()
    assert ("/*", "*") in {
        (item["ResourcePath"], item["HttpMethod"])
        for item in stage["Properties"]["MethodSettings"]
        if item["ThrottlingRateLimit"]
    }


def test_packaging_twice_gives_the_same_bytes(
    package: packaging.Package, source: Path, tmp_path: Path
) -> None:
    again = packaging.package("dev", tmp_path, region="eu-west-1", root=source)
    assert again.digest == package.digest


def test_the_archive_is_small_and_holds_no_leftovers(package: packaging.Package) -> None:
    assert package.archive.stat().st_size < 12_000_000
    with zipfile.ZipFile(package.archive) as archive:
        names = archive.namelist()
    assert "app.py" in names
    assert not [name for name in names if name.startswith(("boto3/data", "tests/", "infra/"))]
    leftovers = (".min.js", ".min.css", "dateutil-zoneinfo.tar.gz", "dist-info/RECORD")
    assert not [name for name in names if name.endswith(leftovers)]


def test_every_module_in_the_archive_is_compiled(package: packaging.Package) -> None:
    with zipfile.ZipFile(package.archive) as archive:
        names = set(archive.namelist())
    modules = [Path(name) for name in names if name.endswith(".py")]
    compiled = {
        str(path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"): path
        for path in modules
    }
    assert {Path("app.py"), Path("chalice/app.py")} <= set(modules)
    assert {path for cache, path in compiled.items() if cache not in names} == set()


def test_what_is_compiled_is_the_source_beside_it(package: packaging.Package) -> None:
    """Python does not look whether it is: what another source had left would run in its place."""
    with zipfile.ZipFile(package.archive) as archive:
        ours = [
            Path(name)
            for name in archive.namelist()
            if name == "app.py" or name.startswith("chalicelib/")
        ]
        caches = [path for path in ours if path.suffix == ".pyc"]
        sources = {path for path in ours if path.suffix == ".py"}
        for cache in caches:
            source = cache.parent.parent / f"{cache.name.partition('.')[0]}.py"
            assert source in sources
            wanted = compile(archive.read(str(source)), f"/var/task/{source}", "exec")
            assert marshal.loads(archive.read(str(cache))[16:]) == wanted  # noqa: S302 - ours


def test_the_archive_lacks_nothing_that_its_functions_import(
    package: packaging.Package, tmp_path: Path
) -> None:
    """The emulator's functions could borrow from the virtual environment. Lambda's cannot."""
    with zipfile.ZipFile(package.archive) as archive:
        archive.extractall(tmp_path)
    script = """
import importlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root))
import app, zoneinfo
zoneinfo.reset_tzpath([])
zoneinfo.ZoneInfo("Asia/Kathmandu")
for source in sorted(root.glob("chalicelib/**/*.py")):
    parts = source.relative_to(root).with_suffix("").parts
    importlib.import_module(".".join(parts).removesuffix(".__init__"))
import botocore.session
session = botocore.session.get_session()
for service in ("dynamodb", "sqs", "sesv2", "secretsmanager"):
    session.create_client(service, region_name="eu-west-1")
"""
    # -I and -S: neither the working directory, nor the environment, nor any installed package.
    command = [sys.executable, "-I", "-S", "-c", script, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stderr, run.returncode) == ("", 0)


def test_the_archive_describes_services_to_the_sdk_as_botocore_does(
    package: packaging.Package, tmp_path: Path
) -> None:
    """What is stripped from the descriptions (other services, texts) changes no client."""
    with zipfile.ZipFile(package.archive) as archive:
        archive.extractall(tmp_path)
    script = """
import json, sys
sys.path.insert(0, sys.argv[1])
import botocore.session
session = botocore.session.get_session()
session.set_credentials("key", "secret")

def described(shape, above=()):
    if shape is None or shape.name in above:
        return shape and shape.name
    above = (*above, shape.name)
    members = getattr(shape, "members", {})
    inner = {name: described(member, above) for name, member in members.items()}
    for part in ("member", "key", "value"):
        if hasattr(shape, part):
            inner[part + " of all"] = described(getattr(shape, part), above)
    return [shape.type_name, sorted(shape.metadata), sorted(shape.serialization), inner]

found = {}
for service in sys.argv[2:]:
    for region in ("us-east-1", "eu-central-1", "ap-southeast-4", "us-gov-west-1", "cn-north-1"):
        client = session.create_client(service, region_name=region)
        found[service + region] = client.meta.endpoint_url
    model = client.meta.service_model
    # Asked for by the first request to a service with such parameters, as S3 is.
    parameters = model.client_context_parameters
    found[service + " parameters"] = [[each.name, each.type] for each in parameters]
    found[service] = {
        name: [described(operation.input_shape), described(operation.output_shape)]
        for name in model.operation_names
        for operation in [model.operation_model(name)]
    }
print(json.dumps(found, sort_keys=True))
"""
    installed = Path(botocore.__file__).parents[1]
    as_packed, as_installed = (
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", script, path, *sorted(packaging.BOTOCORE_SERVICES)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for path in (str(tmp_path), str(installed))
    )
    assert as_packed == as_installed
    assert "BatchExecuteStatement" in as_packed


def test_the_archive_holds_no_texts_about_services(package: packaging.Package) -> None:
    """They are read at every cold start."""
    with zipfile.ZipFile(package.archive) as archive:
        names = archive.namelist()
        models = [name for name in names if name.endswith("/service-2.json.gz")]
        texts = [
            len(re.findall(rb'"documentation": "[^"]', gzip.decompress(archive.read(name))))
            for name in models
        ]
        endpoints = json.loads(archive.read("botocore/data/endpoints.json"))
    assert len(models) == len(packaging.BOTOCORE_SERVICES)
    assert set(texts) == {0}
    assert not [name for name in names if "examples-1.json" in name]
    kept = {name for partition in endpoints["partitions"] for name in partition["services"]}
    assert {"dynamodb", "sqs", "email"} <= kept
    assert len(kept) <= len(packaging.BOTOCORE_SERVICES)


# --- What only AWS shows --------------------------------------------------------------------------


def test_everybody_may_read_what_is_in_the_archive(package: packaging.Package) -> None:
    """Lambda unpacks it as one user and runs it as another, which no emulator does."""
    with zipfile.ZipFile(package.archive) as archive:
        modes = {member.external_attr >> 16 & 0o777 for member in archive.infolist()}
    assert {oct(mode) for mode in modes} == {"0o644"}


def test_python_does_not_look_whether_a_compiled_module_is_of_its_source(
    package: packaging.Package,
) -> None:
    """By time it would be of none: every member of the archive has the same, and compiles anew."""
    with zipfile.ZipFile(package.archive) as archive:
        caches = [name for name in archive.namelist() if name.endswith(".pyc")]
        flags = {int.from_bytes(archive.read(name)[4:8], "little") for name in caches}
    assert flags == {0b01}, "0b01: checked by a hash, and never"


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_what_fails_is_tried_for_half_an_hour_and_longer_than_its_function_runs(
    template: Template, stage: str
) -> None:
    """So long an on-demand table may take to double; a tick sweeps again in the meantime."""
    settings = template["Mappings"]["Stages"][stage]
    assert settings["RetrySeconds"] * settings["MaximumReceives"] >= 30 * 60
    config = json.loads((packaging.ROOT / ".chalice" / "config.json").read_text("utf-8"))
    levels = [config, config["stages"][stage]]
    for reader in READERS.keys() - {"SendNotifications"}:
        function = re.sub(r"(?<!^)(?=[A-Z])", "-", reader).lower()
        (timeout,) = {
            level["lambda_functions"][function]["lambda_timeout"]
            for level in levels
            if "lambda_timeout" in level.get("lambda_functions", {}).get(function, {})
        }
        assert settings["VisibilityTimeout"] >= 6 * timeout, function


CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/1"


def test_the_links_in_emails_lead_to_the_api_whatever_it_is_called(template: Template) -> None:
    for parameters, wanted in (
        ({}, "amazonaws.com/v1/api/unsubscribe"),
        (
            {"ApiDomain": "credits.example.com", "ApiCertificateArn": CERTIFICATE},
            "https://credits.example.com/v1/api/unsubscribe",
        ),
    ):
        resources = resolve(template, "prod", **parameters).resources
        variables = resources["SendNotifications"]["Properties"]["Environment"]["Variables"]
        assert variables["UNSUBSCRIBE_URL"].endswith(wanted)
        if parameters:
            # The name of one's own has the stage in its path, as the address of API Gateway has.
            assert resources["ApiMapping"]["Properties"]["BasePath"] == "v1"
    condition, own, given = template["Outputs"]["ApiUrl"]["Value"]["Fn::If"]
    variables = properties(template, "SendNotifications")["Environment"]["Variables"]
    other, own_link, (_, _, link) = (
        variables["UNSUBSCRIBE_URL"]["Fn::If"][0],
        variables["UNSUBSCRIBE_URL"]["Fn::If"][1],
        variables["UNSUBSCRIBE_URL"]["Fn::If"][2]["Fn::If"],
    )
    assert condition == other
    assert own_link["Fn::Sub"] == f"{own['Fn::Sub']}/api/unsubscribe"
    assert link["Fn::Sub"] == f"{given['Fn::Sub']}/api/unsubscribe"


def test_emails_come_from_the_address_that_the_role_may_send_from(template: Template) -> None:
    variables = properties(template, "SendNotifications")["Environment"]["Variables"]
    assert variables["MAIL_FROM"] == {"Fn::Sub": "credits@${MailDomain}"}


def test_a_month_is_counted_when_it_has_begun_for_a_day_in_every_zone(template: Template) -> None:
    (event,) = properties(template, "CheckCompleteness")["Events"].values()
    # Etc/GMT+12 begins its 1st at 12:00 UTC; the doctor looks for the count from 15:00 of the 2nd.
    assert event["Properties"]["Schedule"] == "cron(30 13 2,9 * ? *)"


def test_ledgers_are_audited_every_day(template: Template) -> None:
    (event,) = properties(template, "AuditLedgers")["Events"].values()
    assert event["Properties"]["Schedule"] == "cron(40 13 * * ? *)", "the doctor says so, too"


def test_the_authorizer_reads_each_parameter_as_what_it_is(template: Template) -> None:
    variables = properties(template, "Authorizer")["Environment"]["Variables"]
    told = {name: value for name, value in variables.items() if name.startswith("TOKEN_")}
    assert told == {
        "TOKEN_ISSUER": {"Ref": "TokenIssuer"},
        "TOKEN_AUDIENCE": {"Ref": "TokenAudience"},
        "TOKEN_AUDIENCE_CLAIM": {"Ref": "TokenAudienceClaim"},
        "TOKEN_JWKS_URL": {"Ref": "TokenJwksUrl"},
        "TOKEN_USER_CLAIM": {"Ref": "TokenUserClaim"},
        "TOKEN_SCOPE_CLAIMS": {"Ref": "TokenScopeClaims"},
        "TOKEN_SCOPE_NAMES": {"Ref": "TokenScopeNames"},
    }


def test_every_role_may_trace(template: Template) -> None:
    found = sorted(resources_of_type(template, "AWS::IAM::Role"))
    roles = [{"Ref": name} for name in found if name != "WebhookRole"]
    assert len(roles) == len(FUNCTIONS)
    assert properties(template, "TracingPolicy")["Roles"] == roles


def test_the_access_log_says_who_asked_for_what_and_what_came_of_it(template: Template) -> None:
    _, setting_of, _ = properties(template, "RestAPI")["AccessLogSetting"]["Fn::If"]
    assert json.loads(setting_of["Format"]) == {
        "time": "$context.requestTime",
        "requestId": "$context.requestId",
        "method": "$context.httpMethod",
        "route": "$context.resourcePath",
        "status": "$context.status",
        "caller": "$context.authorizer.principalId",
        "ip": "$context.identity.sourceIp",
        "milliseconds": "$context.responseLatency",
        "bytes": "$context.responseLength",
        "refused": "$context.error.responseType",
        "waf": "$context.waf.status",
    }


GATEWAY = {
    "UNAUTHORIZED": (401, "unauthenticated"),
    "ACCESS_DENIED": (401, "unauthenticated"),
    "MISSING_AUTHENTICATION_TOKEN": (404, "not_found"),
    "RESOURCE_NOT_FOUND": (404, "not_found"),
    "BAD_REQUEST_BODY": (400, "invalid_input"),
    "BAD_REQUEST_PARAMETERS": (400, "invalid_input"),
    "INVALID_API_KEY": (403, "forbidden"),
    "INVALID_SIGNATURE": (403, "forbidden"),
    "EXPIRED_TOKEN": (403, "forbidden"),
    "WAF_FILTERED": (403, "forbidden"),
    "REQUEST_TOO_LARGE": (413, "body_too_large"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "unsupported_media_type"),
    "THROTTLED": (429, "too_many_requests"),
    "QUOTA_EXCEEDED": (429, "too_many_requests"),
    "AUTHORIZER_FAILURE": (503, "unavailable"),
    "AUTHORIZER_CONFIGURATION_ERROR": (503, "unavailable"),
    "API_CONFIGURATION_ERROR": (500, "internal_error"),
    "INTEGRATION_FAILURE": (504, "unavailable"),
    "INTEGRATION_TIMEOUT": (504, "unavailable"),
    "DEFAULT_4XX": (404, "not_found"),
    "DEFAULT_5XX": (500, "internal_error"),
}
"""All that API Gateway tells apart, and what a caller is answered."""


def test_every_case_of_the_gateway_is_answered_as_the_api_would() -> None:
    found = {each.type: each for each in gateway.gateway_responses()}
    assert {name: (each.status, each.code) for name, each in found.items()} == GATEWAY
    for each in found.values():
        headers = each.headers
        assert headers["Cache-Control"] == "'no-store'", each.type
        assert headers.get("Retry-After") == ("'1'" if each.status in (429, 503, 504) else None), (
            each.type
        )
    assert "at most 16384 bytes" in found["REQUEST_TOO_LARGE"].detail
    for name in ("INTEGRATION_FAILURE", "INTEGRATION_TIMEOUT"):
        assert found[name].detail.endswith("send the request again, with the same idempotency key")
    document = json.dumps(contract.document())
    assert "at most 16384 are read" in document, "the contract's own example says another number"
