"""Each failure that we know of rings its alarms, and no others; what rings is explained."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra import terminal
from infra.deployment import alarm_resources, alarms, deploy, packaging
from infra.deployment.symptoms import Missing
from infra.local import emulator, stacks
from infra.local.stacks import client_of
from tests.stack.cloudwatch import Series, evaluate, state_of
from tests.stack.conftest import Packaged, wait_for
from tests.stack.resolved import Template
from tests.stack.test_template import QUEUES, as_list, properties, resources_of_type

PREFIX = "credits-prod-"

HOUR = 60


@pytest.fixture(scope="module")
def production(packaged: Packaged) -> Iterator[str]:
    """The address of an emulator on which `prod` is deployed; its schedules are off."""
    with emulator.emulator() as running:
        endpoint_url = running.url
        deploy.deploy(
            "prod",
            lambda service: client_of(endpoint_url, service),
            region=emulator.REGION,
            parameters=stacks.parameters("https://issuer.example.com", "prod"),
            say=terminal.say_nothing,
            make_package=packaged,
        )
        events = client_of(endpoint_url, "events")
        for rule in events.list_rules(NamePrefix=PREFIX)["Rules"]:
            events.disable_rule(Name=rule["Name"])
        yield endpoint_url


@pytest.fixture(scope="module")
def deployed(production: str) -> dict[str, Any]:
    """The alarms of `prod` as the emulator describes them, by their names without the stage."""
    pages = client_of(production, "cloudwatch").get_paginator("describe_alarms").paginate()
    found = [alarm for page in pages for alarm in page["MetricAlarms"]]
    return {alarm["AlarmName"].removeprefix(PREFIX): alarm for alarm in found}


# --- What is published ----------------------------------------------------------------------------


def lasting(minutes: int, value: float, every: int = 1) -> list[tuple[float, float]]:
    """The same value every so many minutes, from `minutes` ago until now."""
    return [(ago, value) for ago in range(0, minutes, every)]


def once(value: float, minutes_ago: float = 0) -> list[tuple[float, float]]:
    return [(minutes_ago, value)]


def queue(name: str, metric: str, values: list[tuple[float, float]]) -> Series:
    return Series("AWS/SQS", metric, {"QueueName": PREFIX + name}, values)


def visible(name: str, values: list[tuple[float, float]]) -> Series:
    return queue(name, "ApproximateNumberOfMessagesVisible", values)


def age(name: str, values: list[tuple[float, float]]) -> Series:
    return queue(name, "ApproximateAgeOfOldestMessage", values)


def function(name: str, metric: str, values: list[tuple[float, float]]) -> Series:
    return Series("AWS/Lambda", metric, {"FunctionName": PREFIX + name}, values)


def table(name: str, metric: str, values: list[tuple[float, float]], index: str = "") -> Series:
    of_index = {"GlobalSecondaryIndexName": index} if index else {}
    return Series("AWS/DynamoDB", metric, {"TableName": PREFIX + name, **of_index}, values)


def api(metric: str, values: list[tuple[float, float]]) -> Series:
    return Series("AWS/ApiGateway", metric, {"ApiName": "credits-prod", "Stage": "v1"}, values)


def of_credits(metric: str, values: list[tuple[float, float]]) -> Series:
    return Series("Credits", metric, {"service": "credits-prod"}, values)


def mail(metric: str, values: list[tuple[float, float]]) -> Series:
    return Series("AWS/SES", metric, {}, values)


TICKS = [
    of_credits(f"{kind}Ticks", lasting(3 * HOUR, 1, every=15)) for kind in ("Allocation", "Expiry")
]
"""What goes on in the quietest of nights."""


# --- The table of failures ------------------------------------------------------------------------

FUNCTIONS = (
    *("allocation-tick", "expiry-tick", "sweep-zone", "allocate-accounts", "expire-batches"),
    *("manual-allocate", "api", "authorizer", "queue-notifications", "send-notifications"),
    *("mail-events", "check-completeness", "check-zone", "audit-ledgers", "watch-ledger"),
    *("stripe-webhook", "publish-events"),
)
QUEUE_READERS = (
    *("sweep-zone", "allocate-accounts", "expire-batches", "check-zone"),
    *("send-notifications", "publish-events"),
)
WORKED_OFF_AT_ONCE = ("sweeps", "allocations", "expiries", "checks", "events")
WITH_DEAD_LETTERS = (
    *WORKED_OFF_AT_ONCE,
    *("notifications", "ledger-stream", "mail-events", "webhook"),
)
TABLES = (
    ("ledger", ""),
    ("ledger", "expiring"),
    ("subscriptions", ""),
    ("subscriptions", "by_timezone"),
    ("subscriptions", "by_anniversary"),
    ("subscriptions", "by_address"),
    ("edits", ""),
    ("mails", ""),
    ("stripe", ""),
)

Row = tuple[str, list[Series], set[str]]

FAILURES: list[Row] = [
    *(
        (
            f"a message of {name} has failed for good",
            [visible(f"{name}-dlq", once(1))],
            {f"dead-letters-{name}"},
        )
        for name in WITH_DEAD_LETTERS
    ),
    *(
        (
            f"nobody works off {name}",
            [age(name, [(ago, 60 * (20 - ago)) for ago in range(20)]), visible(name, once(1000))],
            {f"queue-age-{name}"},
        )
        for name in WORKED_OFF_AT_ONCE
    ),
    (
        "mails have been waiting for more than a day",
        [age("notifications", lasting(10, 26 * 3600))],
        {"queue-age-notifications"},
    ),
    *(
        (
            f"{name} raises at each of its three attempts",
            [function(name, "Errors", [(10, 1), (9, 1), (7, 1)])],
            {f"function-errors-{name}"},
        )
        for name in FUNCTIONS
    ),
    *(
        (
            f"the account has no concurrency left for {name}",
            [function(name, "Throttles", lasting(5, 1))],
            {f"function-throttles-{name}"},
        )
        for name in FUNCTIONS
    ),
    *(
        (
            f"Lambda takes {name} for an endless loop",
            [function(name, "RecursiveInvocationsDropped", once(1))],
            {f"recursive-invocations-dropped-{name}"},
        )
        for name in QUEUE_READERS
    ),
    (
        "a broken worker meets the turn of the month",
        [
            function("allocate-accounts", "Errors", lasting(30, 40)),
            age("allocations", [(ago, 60 * (31 - ago)) for ago in range(30)]),
            visible("allocations-dlq", once(120)),
        ],
        {
            "function-errors-allocate-accounts",
            "queue-age-allocations",
            "dead-letters-allocations",
        },
    ),
    (
        "the ledger's stream is not read",
        [function("queue-notifications", "IteratorAge", lasting(10, 1_200_000))],
        {"stream-age-queue-notifications"},
    ),
    (
        "the ledger is not watched",
        [function("watch-ledger", "IteratorAge", lasting(10, 1_200_000))],
        {"stream-age-watch-ledger"},
    ),
    *(
        (
            f"{metric.lower()} of {name} {index} last",
            [table(name, f"{metric}ThrottleEvents", lasting(15, 20), index)],
            {
                "-".join(
                    word
                    for word in (
                        f"table-{metric.lower()}-throttles",
                        name,
                        index.replace("_", "-"),
                    )
                    if word
                )
            },
        )
        for metric in ("Read", "Write")
        for name, index in TABLES
    ),
    (
        "one request in twenty is answered with an error",
        [
            api("5XXError", [(ago / 20, float(ago % 20 == 0)) for ago in range(20 * 15)]),
            api("Latency", lasting(15, 60)),
        ],
        {"api-5xx"},
    ),
    (
        "the token issuer's keys cannot be had: each request is answered with an error",
        [api("5XXError", lasting(15, 1)), function("authorizer", "Errors", lasting(15, 1))],
        {"api-5xx", "function-errors-authorizer"},
    ),
    (
        "the API is slow",
        [api("Latency", lasting(20, 3000)), api("5XXError", lasting(20, 0))],
        {"api-latency"},
    ),
    ("the allocation ticks do not come", [of_credits("AllocationTicks", [])], {"allocation-ticks"}),
    ("the expiry ticks do not come", [of_credits("ExpiryTicks", [])], {"expiry-ticks"}),
    (
        "no tick comes: its rules are disabled",
        [of_credits("AllocationTicks", []), of_credits("ExpiryTicks", [])],
        {"allocation-ticks", "expiry-ticks"},
    ),
    (
        "a zone is allocated an hour late",
        [of_credits("AllocationLateness", [(7, 30), (3, 3610)])],
        {"allocation-lateness"},
    ),
    (
        "the check finds users without their allocation",
        [
            of_credits("Due", once(1000)),
            of_credits("Missing", once(3)),
            of_credits("Duplicate", once(0)),
        ],
        {"allocations-missing"},
    ),
    (
        "the check finds an allocation that was made twice",
        [
            of_credits("Due", once(1000)),
            of_credits("Missing", once(0)),
            of_credits("Duplicate", once(1)),
        ],
        {"allocations-duplicate"},
    ),
    (
        "the check finds users of a timezone that has left the database",
        [of_credits("Missing", once(0)), of_credits("TimezoneUnknown", once(12))],
        {"timezone-unknown"},
    ),
    (
        "the audit finds a ledger that does not verify",
        [of_credits("LedgersVerified", once(499)), of_credits("LedgersCorrupt", once(1))],
        {"ledger-corrupt"},
    ),
    (
        "an item of one user cannot be read",
        [of_credits("UnexpectedFailures", once(1))],
        {"unexpected-failures"},
    ),
    (
        "the audit fails once",
        [function("audit-ledgers", "Errors", once(1))],
        {"function-errors-audit-ledgers"},
    ),
    (
        "somebody changes one item of the ledger",
        [of_credits("LedgerItemsChanged", once(1))],
        {"ledger-changed"},
    ),
    (
        "Stripe tells of a customer whose user is not known",
        [of_credits("StripeEventsWaiting", once(1, 50))],
        {"stripe-events-waiting"},
    ),
    (
        "SES takes no mail for more than an hour",
        [of_credits("MailsFailed", lasting(75, 5)), age("notifications", lasting(75, 4500))],
        {"mails-failed"},
    ),
    (
        "many mails bounce",
        [mail("Reputation.BounceRate", once(0.03))],
        {"mail-bounces"},
    ),
    (
        "many of those who get a mail complain",
        [mail("Reputation.ComplaintRate", once(0.0006))],
        {"mail-complaints"},
    ),
]

NO_FAILURES: list[Row] = [
    ("nothing happens", [], set()),
    (
        "a tick is four minutes late",
        [of_credits("AllocationTicks", [(ago, 1) for ago in (19, 34, 49, 64)])],
        set(),
    ),
    (
        "an event fails twice and succeeds then",
        [function("allocation-tick", "Errors", [(3, 1), (2, 1), (0, 0)])],
        set(),
    ),
    (
        "a month turns for a million users",
        [
            age("allocations", [(ago, 30 * (10 - ago)) for ago in range(10)]),
            age("notifications", lasting(20 * HOUR, 19 * 3600)),
            of_credits("AllocationLateness", [(3, 210), (2, 260), (0, 290)]),
            of_credits("MailsFailed", lasting(20, 30)),
            table("ledger", "WriteThrottleEvents", [(6, 400)]),
            function("queue-notifications", "IteratorAge", lasting(15, 90_000)),
            function("watch-ledger", "IteratorAge", lasting(15, 390_000)),
        ],
        set(),
    ),
    (
        "the first re-sweep repairs what the first sweep could not do",
        [
            of_credits("AllocationLateness", once(905)),
            function("sweep-zone", "Errors", once(1, 15)),
        ],
        set(),
    ),
    (
        "one request in two thousand fails",
        [api("5XXError", [(ago / 200, float(ago == 700)) for ago in range(2000)])],
        set(),
    ),
    (
        "one cold start is slow",
        [api("Latency", [(1, 2900), *lasting(15, 50)])],
        set(),
    ),
    (
        "the check and the audit find everything in order",
        [
            *(
                of_credits(name, once(0))
                for name in ("Missing", "Duplicate", "TimezoneUnknown", "LedgersCorrupt")
            ),
            of_credits("LedgersVerified", once(500)),
        ],
        set(),
    ),
    (
        "a subscriber's mailbox bounces now and then",
        [mail("Reputation.BounceRate", once(0.01)), mail("Reputation.ComplaintRate", once(0.0001))],
        set(),
    ),
]


def ringing(deployed: dict[str, Any], published: list[Series]) -> set[str]:
    """The alarms that ring when this is published, and the ticks unless it says otherwise."""
    named = {series.metric for series in published}
    published = [*published, *(series for series in TICKS if series.metric not in named)]
    return {name for name, alarm in deployed.items() if state_of(alarm, published) == "ALARM"}


@pytest.mark.parametrize(
    ("published", "expected"), [pytest.param(*row, id=what) for what, *row in FAILURES]
)
def test_a_failure_rings_exactly_its_alarms(
    deployed: dict[str, Any], published: list[Series], expected: set[str]
) -> None:
    assert ringing(deployed, published) == expected


@pytest.mark.parametrize("published", [pytest.param(row[1], id=row[0]) for row in NO_FAILURES])
def test_what_is_no_failure_wakes_nobody(deployed: dict[str, Any], published: list[Series]) -> None:
    assert ringing(deployed, published) == set()


def test_every_alarm_is_rung_by_some_failure(deployed: dict[str, Any]) -> None:
    assert set().union(*(expected for _, _, expected in FAILURES)) == set(deployed)


def test_what_was_found_rings_until_it_is_looked_at_again(deployed: dict[str, Any]) -> None:
    for name, metric in (
        ("allocations-missing", "Missing"),
        ("timezone-unknown", "TimezoneUnknown"),
        ("ledger-corrupt", "LedgersCorrupt"),
    ):
        alarm = deployed[name]
        assert state_of(alarm, [of_credits(metric, once(1, 200))], before="ALARM") == "ALARM"
        assert state_of(alarm, [of_credits(metric, [(200, 1), (0, 0)])], before="ALARM") == "OK"


def test_the_alarm_of_dead_letters_ends_when_they_have_been_sent_back(
    deployed: dict[str, Any],
) -> None:
    sent_back = [visible("sweeps-dlq", [(5, 3), (4, 3), (0, 0)])]
    assert state_of(deployed["dead-letters-sweeps"], sent_back, before="ALARM") == "OK"


# --- What an alarm says, and to whom --------------------------------------------------------------


def sections() -> set[str]:
    """The sections of the runbook about alarms, as links name them."""
    text = (packaging.ROOT / alarms.RUNBOOK).read_text()
    of_alarms = text.partition("\n## The alarms\n")[2].partition("\n## ")[0]
    return {
        title.lower().replace(" ", "-")
        for title in re.findall("^### (.+)$", of_alarms, re.MULTILINE)
    }


def test_every_symptom_has_its_section_of_the_runbook() -> None:
    assert {symptom.name for symptom in alarms.SYMPTOMS} == set(sections())


def test_every_alarm_has_its_section_of_the_runbook_and_every_section_an_alarm(
    deployed: dict[str, Any],
) -> None:
    links = {alarm["AlarmDescription"].partition(" See ")[2] for alarm in deployed.values()}
    assert links == {f"{alarms.RUNBOOK}#{section}" for section in sections()}
    for name, alarm in deployed.items():
        assert name.startswith(alarm["AlarmDescription"].partition("#")[2])


def test_every_alarm_tells_the_topic_when_it_rings_and_when_it_ends(
    production: str, deployed: dict[str, Any]
) -> None:
    topics = client_of(production, "sns").list_topics()["Topics"]
    (topic,) = [t["TopicArn"] for t in topics if t["TopicArn"].endswith(":credits-prod-alarms")]
    for alarm in deployed.values():
        assert (alarm["AlarmActions"], alarm["OKActions"]) == ([topic], [topic])
        assert alarm["ActionsEnabled"]


def test_a_subscriber_of_the_topic_is_told_what_rings_and_where_to_read(production: str) -> None:
    sqs, sns = client_of(production, "sqs"), client_of(production, "sns")
    anybody_sends = {"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [anybody_sends]})
    pager = sqs.create_queue(QueueName="pager", Attributes={"Policy": policy})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=pager, AttributeNames=["QueueArn"])["Attributes"]
    (topic,) = [t["TopicArn"] for t in sns.list_topics()["Topics"] if "-alarms" in t["TopicArn"]]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
    client_of(production, "cloudwatch").set_alarm_state(
        AlarmName=f"{PREFIX}ledger-corrupt", StateValue="ALARM", StateReason="a trial"
    )
    received = wait_for(
        lambda: sqs.receive_message(QueueUrl=pager).get("Messages"), "the alarm to be told"
    )
    told = json.loads(json.loads(received[0]["Body"])["Message"])
    assert told["AlarmName"] == "credits-prod-ledger-corrupt"
    assert told["NewStateValue"] == "ALARM"
    assert told["AlarmDescription"].endswith("docs/operating.md#ledger-corrupt")


# --- The template ---------------------------------------------------------------------------------


def names_of(template: Template) -> set[str]:
    return {alarm.name for alarm in alarm_resources.alarms_of(template)}


def test_what_is_declared_is_watched(template: Template) -> None:
    queue_of = {"Type": "AWS::SQS::Queue"}
    added = {
        "NewQueue": queue_of | {"Properties": {"QueueName": {"Fn::Sub": "credits-${Stage}-new"}}},
        "NewDlq": queue_of | {"Properties": {"QueueName": {"Fn::Sub": "credits-${Stage}-new-dlq"}}},
        "NewFunction": {
            "Type": "AWS::Serverless::Function",
            "Properties": {"FunctionName": {"Fn::Sub": "credits-${Stage}-newcomer"}},
        },
    }
    more = template | {"Resources": template["Resources"] | added}
    assert names_of(more) - names_of(template) == {
        "queue-age-new",
        "dead-letters-new",
        "function-errors-newcomer",
        "function-throttles-newcomer",
    }


def test_a_dead_letter_queue_is_known_by_its_name(template: Template) -> None:
    assert {
        logical_id
        for logical_id, queue in resources_of_type(template, "AWS::SQS::Queue").items()
        if queue["Properties"]["QueueName"]["Fn::Sub"].endswith("-dlq")
    } == {*QUEUES.values(), "LedgerStreamDlq", "MailEventsDlq", "WebhookDlq"}


def test_an_alarm_is_about_a_resource_that_there_is(template: Template) -> None:
    for alarm in resources_of_type(template, "AWS::CloudWatch::Alarm").values():
        for dimension in alarm["Properties"]["Dimensions"]:
            match dimension["Value"]:
                case {"Ref": name} | {"Fn::GetAtt": [name, "QueueName"]}:
                    assert name in template["Resources"]


def test_the_alarms_that_take_a_deployment_back_exist_and_are_as_many_as_cloudformation_takes(
    template: Template,
) -> None:
    assert len(set(alarms.ROLLBACK_ALARMS)) <= 5
    assert set(alarms.ROLLBACK_ALARMS) <= names_of(template)


def test_alarms_are_named_after_what_they_are_about(template: Template) -> None:
    names = [
        alarm["Properties"]["AlarmName"]["Fn::Sub"]
        for alarm in resources_of_type(template, "AWS::CloudWatch::Alarm").values()
    ]
    assert sorted(names) == sorted(f"credits-${{Stage}}-{name}" for name in names_of(template))
    assert len(set(names)) == len(names)


def test_every_threshold_is_set_for_every_stage(template: Template) -> None:
    settings = template["Mappings"]["Alarms"]
    assert set(settings) == set(packaging.stages())
    used = {
        alarm["Properties"]["Threshold"]["Fn::FindInMap"][2]
        for alarm in resources_of_type(template, "AWS::CloudWatch::Alarm").values()
    }
    for of_stage in settings.values():
        assert set(of_stage) == used


def test_the_mail_alarms_ring_at_half_of_what_makes_ses_review_an_account(
    deployed: dict[str, Any],
) -> None:
    assert deployed["mail-bounces"]["Threshold"] == 0.05 / 2
    assert deployed["mail-complaints"]["Threshold"] == 0.001 / 2


def test_topics_are_encrypted_with_a_key_that_those_who_publish_may_use(template: Template) -> None:
    topics = resources_of_type(template, "AWS::SNS::Topic")
    assert set(topics) == {"AlarmsTopic", "MailEventsTopic"}
    for topic in topics.values():
        assert topic["Properties"]["KmsMasterKeyId"] == {"Ref": "TopicsKey"}
    key = properties(template, "TopicsKey")
    assert key["EnableKeyRotation"] is True
    publishers = [s for s in key["KeyPolicy"]["Statement"] if "Service" in s["Principal"]]
    assert [statement["Principal"]["Service"] for statement in publishers] == [
        "cloudwatch.amazonaws.com",
        "ses.amazonaws.com",
    ]
    for statement in publishers:
        assert statement["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    of_this_account = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    # SES does not say to KMS for whom it asks.
    assert [statement.get("Condition") for statement in publishers] == [of_this_account, None]
    for name, service in (("AlarmsTopic", "cloudwatch"), ("MailEventsTopic", "ses")):
        policy = properties(template, f"{name}Policy")
        assert policy["Topics"] == [{"Ref": name}]
        allowed = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
        (statement,) = allowed
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert as_list(statement["Action"]) == ["sns:Publish"]
        assert statement["Resource"] == {"Ref": name}
        assert statement["Condition"] == of_this_account


def test_an_address_is_subscribed_when_one_is_given(template: Template) -> None:
    subscription = template["Resources"]["AlarmsSubscription"]
    assert subscription["Condition"] == "MailsAlarms"
    assert subscription["Properties"]["Endpoint"] == {"Ref": "AlarmEmail"}
    assert template["Parameters"]["AlarmEmail"]["Default"] == ""
    pattern = template["Parameters"]["AlarmEmail"]["AllowedPattern"]
    assert re.fullmatch(pattern, "")
    assert re.fullmatch(pattern, "on-call@example.com")
    assert not re.fullmatch(pattern, "on-call")


# --- The evaluation itself ------------------------------------------------------------------------

DOCUMENTED = [
    # Periods, how many of three must be breached, and the state when data that are missing are
    # taken as missing, ignored, a breach, or none. From CloudWatch's documentation, where 0 is a
    # period within the threshold, X one beyond it, and - one without data.
    ("0-X-X", 3, "OK", "OK", "OK", "OK"),
    ("0----", 3, "OK", "OK", "OK", "OK"),
    ("-----", 3, "INSUFFICIENT_DATA", "before", "ALARM", "OK"),
    ("0XX-X", 3, "ALARM", "ALARM", "ALARM", "ALARM"),
    ("--X--", 3, "ALARM", "before", "ALARM", "OK"),
    ("0-X-X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    ("00X0X", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0-X--", 2, "OK", "OK", "ALARM", "OK"),
    ("----0", 2, "OK", "OK", "ALARM", "OK"),
    ("---X-", 2, "ALARM", "before", "ALARM", "OK"),
]


@pytest.mark.parametrize(("periods", "to_alarm", "states"), [(p, n, s) for p, n, *s in DOCUMENTED])
def test_alarms_are_evaluated_as_cloudwatch_documents_it(
    periods: str, to_alarm: int, states: list[str]
) -> None:
    breached = [{"0": False, "X": True, "-": None}[period] for period in periods]
    assert [
        evaluate(breached, needed=3, to_alarm=to_alarm, missing=missing, before="before")
        for missing in ("missing", "ignore", "breaching", "notBreaching")
    ] == states


# --- The table ------------------------------------------------------------------------------------

PRODUCTION = {
    # What, from how much on, for how many minutes.
    "dead-letters": (1, 1),
    "queue-age": (900, 5),
    "function-errors": (3, 15),
    "function-throttles": (5, 5),
    "recursive-invocations-dropped": (1, 5),
    "stream-age": (900_000, 5),
    "table-read-throttles": (50, 10),
    "table-write-throttles": (50, 10),
    "api-5xx": (0.01, 10),
    "api-latency": (2000, 15),
    "allocation-ticks": (1, 20),
    "expiry-ticks": (1, 20),
    "allocation-lateness": (1800, 5),
    "allocations-missing": (1, 5),
    "allocations-duplicate": (1, 5),
    "timezone-unknown": (1, 5),
    "ledger-corrupt": (1, 5),
    "unexpected-failures": (1, 5),
    "ledger-changed": (1, 5),
    "stripe-events-waiting": (1, 60),
    "mails-failed": (10, 60),
    "mail-bounces": (0.025, 60),
    "mail-complaints": (0.0005, 60),
}
"""When somebody is woken. A number that moves here was moved on purpose."""


def test_production_wakes_somebody_at_these_numbers() -> None:
    found = {
        symptom.name: (symptom.threshold.prod, symptom.seconds * symptom.periods // 60)
        for symptom in alarms.SYMPTOMS
    }
    assert found == PRODUCTION
    own = {
        (symptom.name, part): threshold.prod
        for symptom in alarms.SYMPTOMS
        for part, threshold in symptom.parts_with_own_threshold.items()
    }
    assert own == {("queue-age", "notifications"): 90_000, ("function-errors", "audit-ledgers"): 1}


def test_another_stage_never_wakes_somebody_earlier_than_production() -> None:
    for symptom in alarms.SYMPTOMS:
        assert symptom.threshold.dev >= symptom.threshold.prod, symptom.name


def test_silence_is_a_failure_of_the_ticks_and_of_nothing_else() -> None:
    missing = {symptom.name: symptom.missing for symptom in alarms.SYMPTOMS}
    of = Missing
    assert {name for name, each in missing.items() if each is of.IS_THE_FAILURE} == {
        "allocation-ticks",
        "expiry-ticks",
    }
    assert {name for name, each in missing.items() if each is of.SAYS_NOTHING} == {
        *("allocations-missing", "allocations-duplicate", "timezone-unknown", "ledger-corrupt"),
        *("mail-bounces", "mail-complaints"),
    }
