"""The guards of the infrastructure, found in the files that declare it.

A guard is a line of the template, a policy or a setting that keeps something from happening. One is
made for each queue, event source, table, policy statement and alarm there is, so that what is added
has its guards at once. What is left of a file without one of them is written as JSON, which is
YAML, too.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RESOURCES = "infra/resources.yaml"
CONFIG = ".chalice/config.json"
SHARED_RIGHTS = ".chalice/shared-rights.json"
ALARMS = "infra/deployment/alarms.py"
ALARM_RESOURCES = "infra/deployment/alarm_resources.py"
PACKAGING = "infra/deployment/packaging.py"
WEBHOOKS = "infra/deployment/webhooks.py"

Json = dict[str, Any]
Step = str | int | tuple[str, str]

_GONE = object()
_TEMPLATE = "tests/stack/test_template.py::test_"
_MAILS = "tests/stack/test_mail_template.py::test_"
_RINGS = "tests/stack/test_alarms.py::test_"
_GUARDED = "tests/stack/test_guarded_template.py::test_"
_WEBHOOKS = "tests/stack/test_webhooks.py::test_"
_PINNED = "tests/unit/test_pinned.py::test_"
_ASKED = (
    f"{_TEMPLATE}the_authorizer_is_asked_for_what_may_be_a_token"
    "_and_its_answer_is_kept_for_a_minute"
)


class LostGuardError(Exception):
    """A guard is not, or not only once, where it is said to be."""


@dataclass(frozen=True)
class Guard:
    """One guard.

    ``what`` says in words what it keeps from happening. ``remove`` answers the text of ``file``
    without it, or raises `LostGuardError`. ``tests`` are those that must fail then, as pytest's
    node ids, the quickest first.
    """

    name: str
    file: str
    what: str
    tests: tuple[str, ...]
    remove: Callable[[str], str]

    @property
    def text(self) -> str:
        return (ROOT / self.file).read_text(encoding="utf-8")

    def removed(self) -> str:
        """The file without the guard. Raises `LostGuardError`; what is left can be parsed."""
        text = self.remove(self.text)
        if text == self.text:
            raise LostGuardError(f"{self.name}: removing it changes nothing in {self.file}")
        if self.file.endswith(".py"):
            ast.parse(text)
        return text


def found() -> list[Guard]:
    resources = _load(RESOURCES)["Resources"]
    return [
        *_queues(resources),
        *_event_sources(resources),
        *_kept(resources),
        *_guards("", _SINGLE),
        *_each_of(("ReportsBucket/", "AnchorsBucket/"), _OF_BUCKET),
        *_each_of(("MailEventsTopic", "AlarmsTopic"), _OF_TOPIC),
        *_policies(),
        *_settings(),
        *_symptoms(),
        *_routes(),
        *_pinned(),
        *_kept_answers(),
    ]


# --- Taking something out of a file ---------------------------------------------------------------


@cache
def _as_json(file: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    return json.dumps(yaml.safe_load(text)) if file.endswith(".yaml") else text


def _load(file: str) -> Any:
    """What is in a file: a copy of one's own, in which nothing is shared as YAML's anchors do."""
    return json.loads(_as_json(file))


def _guard(file: str, path: str, becomes: object, what: str, *tests: str, name: str = "") -> Guard:
    """A guard that is a value in a file of YAML or JSON; it is taken away, or becomes another.

    ``path``: the way to it, by keys and numbers, or ``key=value`` of an element of a list; in
    the template it begins at a resource's properties, or at a section that is no resource.
    """
    steps = _steps(file, path)
    words = [step[1] if isinstance(step, tuple) else str(step) for step in steps]
    name = name or ".".join(word for word in words if word not in ("Resources", "Properties"))

    def remove(_text: str) -> str:
        data = _load(file)
        parent = data
        try:
            for step in steps[:-1]:
                parent = parent[_key(parent, step)]
            last = _key(parent, steps[-1])
            before = parent[last]
        except (LookupError, TypeError, StopIteration) as error:
            raise LostGuardError(f"{name}: {file} has no such value ({error!r})") from error
        if before == becomes:
            raise LostGuardError(f"{name}: removing it changes nothing in {file}")
        if becomes is _GONE:
            del parent[last]
        else:
            parent[last] = becomes
        return json.dumps(data)

    return Guard(name, file, what, tests, remove)


_SECTIONS = ("Conditions", "Mappings", "Parameters", "Resources")


def _steps(file: str, path: str) -> list[Step]:
    steps: list[Step] = []
    for word in path.split("/"):
        key, is_of_element, value = word.partition("=")
        steps.append((key, value) if is_of_element else int(word) if word.isdigit() else word)
    if file == RESOURCES and steps[0] not in _SECTIONS:
        steps[:1] = ["Resources", steps[0], "Properties"]
    return steps


def _key(parent: Any, step: Step) -> Any:
    if isinstance(step, tuple):
        return next(place for place, item in enumerate(parent) if item.get(step[0]) == step[1])
    return step


Rows = Mapping[str, Mapping[str, tuple[object, str]]]
"""By the test that notices: where the guards are, what they become, what that would come to."""


def _each_of(names: Iterable[str], rows: Rows) -> Iterator[Guard]:
    for name in names:
        yield from _guards(name, rows)


def _guards(prefix: str, rows: Rows) -> Iterator[Guard]:
    for test, guards in rows.items():
        for path, (becomes, what) in guards.items():
            yield _guard(RESOURCES, f"{prefix}{path}", becomes, what, test)


# --- What there is one of for each queue, event source, table, statement and alarm ----------------

_RECEIVED_SOME_TIMES = f"{_TEMPLATE}a_message_that_keeps_failing_is_kept_for_two_weeks"
_SEEN_BY_ONE = f"{_TEMPLATE}a_message_is_not_delivered_again_while_its_function_may_still_be_trying"
_FED = f"{_TEMPLATE}a_queue_feeds_its_function_and_is_told_which_messages_failed"
_ON_TIME = f"{_GUARDED}every_schedule_is_on_and_at_a_time_of_the_clock"
_OUTLIVES = f"{_GUARDED}what_is_kept_outlives_its_stack_in_production"
_TABLES = f"{_TEMPLATE}tables_are_on_demand_encrypted_and_protected"

_OF_QUEUE: Rows = {
    f"{_TEMPLATE}queues_are_encrypted": {
        "SqsManagedSseEnabled": (False, "messages that are stored without encryption"),
    },
    f"{_GUARDED}every_queue_keeps_its_messages_for_two_weeks": {
        "MessageRetentionPeriod": (_GONE, "a message that is forgotten after four days"),
    },
}
_OF_WORK_QUEUE: Rows = {
    _RECEIVED_SOME_TIMES: {
        "RedrivePolicy": (_GONE, "a poison message that is tried for ever and then forgotten"),
        "RedrivePolicy/maxReceiveCount": (1000, "a poison message that is tried for days"),
    },
    _SEEN_BY_ONE: {
        "VisibilityTimeout": (30, "a message that is delivered again while its function is at it"),
    },
}
_OF_TABLE: Rows = {
    _TABLES: {
        "SSESpecification/SSEEnabled": (False, "a table without encryption"),
        "PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled": (
            False,
            "a table that cannot be restored",
        ),
        "DeletionProtectionEnabled": (False, "a table that a slip of the mouse deletes"),
    }
}
_OF_SOURCE = {
    "Queue": (
        (
            *("FunctionResponseTypes", _GONE, _FED),
            "a message that failed and is deleted with its neighbours",
        ),
        (
            *("ScalingConfig", _GONE, _FED),
            "a turn of the month that takes all of the account's concurrency",
        ),
        ("BatchSize", 10_000, _FED, "an invocation that has more to do than it has time for"),
    ),
    "Schedule": (
        ("Enabled", False, _ON_TIME, "a schedule that never comes"),
        (
            *("Schedule", "rate(15 minutes)", _ON_TIME),
            "a schedule that is not aligned to the midnights",
        ),
    ),
}


def _queues(resources: Json) -> Iterator[Guard]:
    for name, resource in resources.items():
        if resource.get("Type") == "AWS::SQS::Queue":
            yield from _guards(f"{name}/", _OF_QUEUE)
            if "RedrivePolicy" in resource["Properties"]:
                yield from _guards(f"{name}/", _OF_WORK_QUEUE)


def _event_sources(resources: Json) -> Iterator[Guard]:
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        if "RecursiveLoop" in properties:
            yield _guard(
                RESOURCES,
                f"{name}/RecursiveLoop",
                _GONE,
                "a chain of invocations that Lambda ends without a word",
                f"{_TEMPLATE}only_functions_that_send_to_the_queue_they_read_may_loop",
            )
        for event, declared in properties.get("Events", {}).items():
            for source in sorted(declared["Properties"].keys() & _OF_SOURCE.keys()):
                for key, becomes, test, what in _OF_SOURCE[source]:
                    path = f"{name}/Events/{event}/Properties/{key}"
                    yield _guard(RESOURCES, path, becomes, what, test, name=f"{name}.{key}")


def _kept(resources: Json) -> Iterator[Guard]:
    for name, resource in resources.items():
        for policy in sorted(resource.keys() & {"DeletionPolicy", "UpdateReplacePolicy"}):
            what = "a stack that takes what is kept with it"
            yield _guard(RESOURCES, f"Resources/{name}/{policy}", "Delete", what, _OUTLIVES)
        if resource.get("Type") == "AWS::DynamoDB::Table":
            for guard in _guards(f"{name}/", _OF_TABLE):
                yield replace(guard, name=f"{name}.{guard.name.rpartition('.')[2]}")


def _policies() -> Iterator[Guard]:
    rights = f"{_TEMPLATE}a_role_allows_what_its_function_does_and_nothing_else"
    logs = f"{_TEMPLATE}every_function_may_write_its_own_log_and_no_other"
    shared = _load(SHARED_RIGHTS)
    places = [(SHARED_RIGHTS, sid, sid, statement) for sid, statement in shared.items()]
    for path in sorted((ROOT / ".chalice").glob("policy-*.json")):
        file = f".chalice/{path.name}"
        for statement in _load(file)["Statement"]:
            sid = statement["Sid"]
            places.append((file, f"Statement/Sid={sid}", sid, statement))
    for file, place, sid, statement in places:
        test = logs if sid == "WriteOwnLogs" else rights
        actions = (shared.get(sid, {}) | statement)["Action"]
        service = (actions if isinstance(actions, str) else actions[0]).partition(":")[0]
        for key, becomes, what in (
            ("Resource", "*", "a function that does so to whatever there is"),
            ("Action", f"{service}:*", "a function that does to it whatever there is to do"),
        ):
            if statement.get(key, becomes) == becomes:
                continue  # it is shared, or AWS knows no finer resource of that action
            name = f"{Path(file).stem}.{sid}.{key}"
            yield _guard(file, f"{place}/{key}", becomes, what, test, name=name)


def _settings() -> Iterator[Guard]:
    reports = f"{_TEMPLATE}reports_are_written_to_a_bucket_of_this_account"
    for function, sid, what, test in (
        (
            *("send-notifications", "SendMails", "a function that sends in anybody's name"),
            f"{_TEMPLATE}emails_are_sent_from_one_address_whatever_identity_ses_checks",
        ),
        ("check-zone", "ListReports", "reports of a bucket that is another's", reports),
        (
            "check-zone",
            "WriteAndReadReports",
            "reports for anybody who has the bucket's name",
            reports,
        ),
    ):
        file = f".chalice/policy-{function}.json"
        yield _guard(file, f"Statement/Sid={sid}/Condition", _GONE, what, test)
    in_time = f"{_GUARDED}every_function_ends_in_time"
    for name in _load(CONFIG)["lambda_functions"]:
        path, what = f"{name}/lambda_timeout", "a function that hangs for a quarter of an hour"
        named = path.replace("/", ".")
        yield _guard(CONFIG, f"lambda_functions/{path}", 900, what, in_time, name=named)
    logs = f"{_TEMPLATE}every_function_may_write_its_own_log_and_no_other"
    what = "logs that are forgotten before anybody asks"
    yield _guard(CONFIG, "stages/prod/log_retention_in_days", 1, what, logs)
    made_up = ("autogen_policy", True, "rights that Chalice makes up")
    yield _guard(CONFIG, *made_up, f"{_GUARDED}rights_are_written_by_hand")


def _symptoms() -> Iterator[Guard]:
    test = f"{_RINGS}every_symptom_has_its_section_of_the_runbook"
    text = (ROOT / ALARMS).read_text(encoding="utf-8")
    for element in _elements(text, "SYMPTOMS"):
        name = ast.literal_eval(_args(element)[0])
        yield Guard(
            f"alarm.{name}",
            ALARMS,
            f"nobody who is woken when: {ast.literal_eval(_args(element)[1])}",
            (test,),
            _without_element("SYMPTOMS", name),
        )
    for element in _elements(text, "ROLLBACK_ALARMS"):
        name = ast.literal_eval(element)
        yield Guard(
            f"rollback.{name}",
            ALARMS,
            "a deployment that stays though it rings an alarm",
            (f"{_GUARDED}five_alarms_of_what_runs_all_the_time_take_a_deployment_back",),
            _without_element("ROLLBACK_ALARMS", name),
        )
    for action in ("AlarmActions", "OKActions"):
        line = f'                "{action}": [{{"Ref": "AlarmsTopic"}}],\n'
        yield Guard(
            f"alarms.{action}",
            ALARM_RESOURCES,
            "an alarm that nobody hears",
            (f"{_GUARDED}every_alarm_is_heard_when_it_rings_and_when_it_ends",),
            without_text(f"alarms.{action}", line),
        )


def _routes() -> Iterator[Guard]:
    for line, what, test in (
        (
            "    if prices:\n        webhooks.complete(template)\n",
            "a webhook that nobody can reach",
            f"{_WEBHOOKS}what_is_packaged_with_a_price_has_the_route",
        ),
        (
            "    if prices:\n    ",
            "a route for everybody where nothing is sold",
            f"{_WEBHOOKS}without_a_price_nothing_leads_to_the_webhook",
        ),
    ):
        name = f"{PACKAGING}.{test.rpartition('::test_')[2]}"
        remove = without_text(name, line)
        yield Guard(name, PACKAGING, what, (test,), remove)
    name = f"{WEBHOOKS}.SourceArn"
    yield Guard(
        name,
        WEBHOOKS,
        "another route, or another API, that invokes the webhook",
        (f"{_WEBHOOKS}api_gateway_may_invoke_the_webhook_for_its_route_alone",),
        without_text(name, "/{METHOD.upper()}{PATH}"),
    )


def _pinned() -> Iterator[Guard]:
    installed = f"{_PINNED}nothing_is_installed_but_from_a_list_with_hashes"
    for file in (
        "Makefile",
        "bench/rival.py",
        "infra/deployment/packaging.py",
        "infra/packages/programs.py",
    ):
        name = f"{file}.--require-hashes"
        yield Guard(
            name,
            file,
            "a package that is not what was tested",
            (installed,),
            without_text(name, "--require-hashes"),
        )


def _kept_answers() -> Iterator[Guard]:
    """A number of the code that only the template shows."""
    name = "TOKEN_ANSWER_SECONDS"
    line = re.compile(rf"^{name} = \d+$", re.MULTILINE)
    for path in sorted((ROOT / "chalicelib").rglob("*.py")):
        if line.search(path.read_text(encoding="utf-8")):
            yield Guard(
                name,
                str(path.relative_to(ROOT)),
                "a token that is taken for an hour after it was revoked",
                (_ASKED,),
                lambda text: line.sub(f"{name} = 3600", text),
            )


def _elements(text: str, constant: str) -> list[ast.expr]:
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == constant:
            assert isinstance(statement.value, ast.Tuple)
            return statement.value.elts
    raise LostGuardError(f"{ALARMS} has no {constant}")


def _args(element: ast.expr) -> list[ast.expr]:
    assert isinstance(element, ast.Call)
    return element.args


def _without_element(constant: str, name: str) -> Callable[[str], str]:
    def remove(text: str) -> str:
        for element in _elements(text, constant):
            first = _args(element)[0] if isinstance(element, ast.Call) else element
            if ast.literal_eval(first) == name:
                lines = text.splitlines(keepends=True)
                assert element.end_lineno is not None
                del lines[element.lineno - 1 : element.end_lineno]
                return "".join(lines)
        raise LostGuardError(f"{constant} has no {name}")

    return remove


def without_text(name: str, line: str) -> Callable[[str], str]:
    def remove(text: str) -> str:
        if text.count(line) != 1:
            raise LostGuardError(f"{name}: its line is there {text.count(line)} times")
        return text.replace(line, "")

    return remove


# --- What there is one of -------------------------------------------------------------------------


_PUBLIC = "PublicAccessBlockConfiguration"
_NO_LIMIT = {"Fn::FindInMap": ["Stages", {"Ref": "Stage"}, "VisibilityTimeout"]}

_OF_BUCKET: Rows = {
    f"{_TEMPLATE}the_reports_are_private_encrypted_versioned_and_kept": {
        **{
            f"{_PUBLIC}/{block}": (False, "what is kept, and somebody makes public")
            for block in (
                *("BlockPublicAcls", "BlockPublicPolicy"),
                *("IgnorePublicAcls", "RestrictPublicBuckets"),
            )
        },
        "BucketEncryption": (_GONE, "what is kept, in the clear"),
        "VersioningConfiguration/Status": ("Suspended", "what is kept, and overwritten"),
    },
    f"{_GUARDED}the_reports_belong_to_the_account": {
        "OwnershipControls": (_GONE, "what is kept, and belongs to who wrote it"),
    },
}

_OF_TOPIC: Rows = {
    f"{_RINGS}topics_are_encrypted_with_a_key_that_those_who_publish_may_use": {
        "/KmsMasterKeyId": (_GONE, "addresses and alarms in the clear"),
        **{
            f"Policy/PolicyDocument/Statement/0/{key}": (
                becomes,
                "another account that publishes to the topic",
            )
            for key, becomes in (("Condition", _GONE), ("Principal", "*"))
        },
    },
}

_STREAM = "QueueNotifications/Events/QueueNotificationsDynamodbEventSource/Properties"
_WATCH = "WatchLedger/Events/WatchLedgerDynamodbEventSource/Properties"
_PRODUCTION = "Mappings/Stages/prod"
_AUTHORIZER = "RestAPI/DefinitionBody/securityDefinitions/authorizer/x-amazon-apigateway-authorizer"

_SINGLE: Rows = {
    f"{_TEMPLATE}a_stage_sends_events_when_its_parameter_says_so_and_only_then": {
        "Parameters/Events/Default": ("on", "a bill for events that nobody asked for"),
        "PublishEvents/Events/PublishEventsSqsEventSource/Properties/Enabled": (
            True,
            "a bill for polling a queue that is always empty",
        ),
    },
    f"{_TEMPLATE}what_queues_emails_or_events_is_told_whether_the_stage_is_a_shadow": {
        "Parameters/Shadow/Default": ("on", "a stage that tells nobody, and nobody knows why"),
        "QueueNotifications/Environment/Variables/SHADOW_UNTIL": (
            _GONE,
            "users of the old system who are told of what a shadow has posted",
        ),
        "SweepZone/Environment/Variables/SHADOW_UNTIL": (
            _GONE,
            "users of the old system who are reminded of credits that only a shadow has",
        ),
        "APIHandler/Environment/Variables/SHADOW_UNTIL": (
            _GONE,
            "people who answer users, and do not know why no email comes",
        ),
    },
    f"{_TEMPLATE}a_webhook_is_made_when_it_has_an_address_and_only_then": {
        "WebhookRule/Targets/0/DeadLetterConfig": (
            _GONE,
            "an event that is gone after a day, and nobody knows",
        ),
    },
    f"{_TEMPLATE}the_webhooks_secret_is_in_no_parameter_and_no_template": {
        "WebhookConnection/AuthParameters/ApiKeyAuthParameters/ApiKeyValue": (
            "sesame",
            "a secret that is in the repository",
        ),
    },
    f"{_TEMPLATE}eventbridge_may_post_to_the_webhook_and_keep_what_failed_and_nothing_else": {
        "WebhookDlqPolicy/PolicyDocument/Statement/0/Condition": (
            _GONE,
            "a queue that the rules of any account may fill",
        ),
        "WebhookRole/Policies/0/PolicyDocument/Statement/0/Resource": (
            "*",
            "a rule that posts to whatever destination there is",
        ),
    },
    f"{_MAILS}the_stream_wakes_its_reader_for_new_entries_only": {
        f"{_STREAM}/StartingPosition": ("LATEST", "emails of a deployment that are lost"),
        f"{_STREAM}/FilterCriteria": (_GONE, "an invocation for every marker"),
    },
    f"{_MAILS}what_the_stream_cannot_hand_over_is_reported_before_it_is_forgotten": {
        f"{_STREAM}/BisectBatchOnFunctionError": (False, "a record that holds up a hundred"),
        f"{_STREAM}/MaximumRecordAgeInSeconds": (86_400, "records that are forgotten unreported"),
        f"{_STREAM}/DestinationConfig": (_GONE, "records that nobody knows of"),
    },
    f"{_TEMPLATE}the_ledgers_second_reader_is_woken_for_entries_and_for_every_change": {
        f"{_WATCH}/StartingPosition": ("LATEST", "entries of a deployment without an anchor"),
        f"{_WATCH}/FilterCriteria": (_GONE, "an anchor of what is no entry"),
        f"{_WATCH}/BatchSize": (10, "an object for every ten entries"),
        f"{_WATCH}/MaximumBatchingWindowInSeconds": (0, "an object for every entry"),
        f"{_WATCH}/BisectBatchOnFunctionError": (False, "a record that holds up all anchors"),
        f"{_WATCH}/MaximumRecordAgeInSeconds": (86_400, "entries that are forgotten unreported"),
        f"{_WATCH}/DestinationConfig": (_GONE, "entries without an anchor that nobody knows of"),
    },
    f"{_TEMPLATE}an_email_event_that_keeps_failing_is_kept": {
        "MailEvents/DeadLetterQueue": (_GONE, "a bounce that is lost"),
    },
    f"{_TEMPLATE}the_ledger_streams_its_new_entries": {
        "LedgerTable/StreamSpecification": (
            {"StreamViewType": "KEYS_ONLY"},
            "an outbox that says nothing",
        ),
    },
    f"{_MAILS}records_of_emails_are_forgotten_in_the_end": {
        "MailsTable/TimeToLiveSpecification": (_GONE, "records of emails that are kept for ever"),
    },
    f"{_TEMPLATE}what_waits_for_stripe_is_forgotten_in_the_end": {
        "StripeTable/TimeToLiveSpecification": (_GONE, "what waits for Stripe, kept for ever"),
    },
    f"{_TEMPLATE}what_is_generated_in_the_place_of_stripes_secret_never_changes": {
        "StripeSecret/GenerateSecretString": (
            {"PasswordLength": 32},
            "a deployment that writes over the secret that somebody has put there",
        ),
    },
    f"{_TEMPLATE}anchors_are_locked_and_in_production_against_everybody": {
        "AnchorsBucket/ObjectLockEnabled": (False, "anchors one can delete"),
        "AnchorsBucket/ObjectLockConfiguration/Rule/DefaultRetention": (
            {"Mode": "GOVERNANCE", "Days": 1},
            "anchors that an admin can delete",
        ),
        "AnchorsBucket/LifecycleConfiguration/Rules/0/ExpirationInDays": (
            1,
            "anchors that are gone when they are needed",
        ),
    },
    f"{_RINGS}topics_are_encrypted_with_a_key_that_those_who_publish_may_use": {
        "TopicsKey/KeyPolicy/Statement/Sid=AlarmsPublish/Condition": (
            _GONE,
            "another account that uses the key",
        ),
        "TopicsKey/EnableKeyRotation": (False, "a key that is never new"),
    },
    f"{_MAILS}no_secret_is_in_the_template": {
        "UnsubscribeSecret/GenerateSecretString/PasswordLength": (
            8,
            "a key of the unsubscribe links that can be guessed",
        ),
    },
    _ASKED: {
        f"{_AUTHORIZER}/identityValidationExpression": (
            _GONE,
            "an invocation without a token",
        ),
    },
    f"{_TEMPLATE}requests_are_throttled_method_by_method": {
        **{
            f"RestAPI/MethodSettings/{place}/{key}": (_NO_LIMIT, "requests without a limit")
            for place in range(3)
            for key in ("ThrottlingRateLimit", "ThrottlingBurstLimit")
        },
        "UsagePlan/Throttle/RateLimit": (_NO_LIMIT, "requests of one API key without a limit"),
        **{
            f"{_PRODUCTION}/{key}": (1_000_000, "requests without a limit")
            for key in (
                *("RequestRate", "RequestBurst", "ManagementRate", "ManagementBurst", "KeyRate"),
            )
        },
    },
    f"{_GUARDED}one_lane_and_the_backends_leave_something_of_a_methods_rate": {
        path: (becomes, "one caller who takes a method's whole rate")
        for path, becomes in (
            ("UsagePlan/Throttle/BurstLimit", _GONE),
            ("BackendPlan/Throttle/RateLimit", _GONE),
            ("BackendPlan/Throttle/BurstLimit", _GONE),
            (f"{_PRODUCTION}/KeyBurst", 1_000_000),
            (f"{_PRODUCTION}/BackendRate", 1_000_000),
            (f"{_PRODUCTION}/BackendBurst", 1_000_000),
        )
    },
    f"{_GUARDED}emails_are_signed_and_what_comes_back_is_heard": {
        "MailIdentity/DkimAttributes/SigningEnabled": (False, "emails that anybody can forge"),
        "MailIdentity/DkimSigningAttributes/NextSigningKeyLength": (
            "RSA_1024_BIT",
            "emails that anybody can forge",
        ),
        "MailConfigurationSet/ReputationOptions/ReputationMetricsEnabled": (
            False,
            "alarms about bounces that have nothing to ring by",
        ),
    },
    f"{_MAILS}ses_keeps_addresses_that_came_back": {
        "MailConfigurationSet/SuppressionOptions": (_GONE, "emails to addresses that came back"),
    },
    f"{_MAILS}bounces_and_complaints_reach_their_function": {
        "MailEventDestination/EventDestination/MatchingEventTypes": (
            ["bounce"],
            "complaints that nobody hears",
        ),
    },
    f"{_GUARDED}parameters_that_make_no_sense_are_refused": {
        f"Parameters/{path}": (becomes, "a deployment that cannot work")
        for path, becomes in (
            ("TokenIssuer/AllowedPattern", ".*"),
            ("TokenAudience/MinLength", 0),
            ("TokenJwksUrl/AllowedPattern", ".*"),
            ("RunbookUrl/AllowedPattern", ".*"),
            ("MailDomain/AllowedPattern", ".*"),
            ("ProductName/AllowedPattern", ".*"),
            ("ProductUrl/AllowedPattern", ".*"),
            ("ProductLogoUrl/AllowedPattern", ".*"),
            ("ProductAddress/AllowedPattern", "(?s).*"),
            ("ProductSupport/AllowedPattern", ".*"),
            ("AlarmEmail/AllowedPattern", ".*"),
        )
    },
    f"{_TEMPLATE}requests_are_logged_where_the_stage_wants_it_and_only_there": {
        "Parameters/AccessLogs/Default": (
            "on",
            "a deployment that is refused where API Gateway has no role to log with",
        ),
    },
    f"{_TEMPLATE}a_line_of_the_access_log_has_neither_what_was_asked_nor_a_token": {
        "RestAPI/AccessLogSetting/Fn::If/1/Format": (
            '{"requestId":"$context.requestId","path":"$context.path"}',
            "what users ask for, in a log",
        ),
    },
    f"{_TEMPLATE}the_access_log_is_kept_as_long_as_the_logs_of_the_functions": {
        "ApiAccessLog/RetentionInDays": (_GONE, "addresses of users that are kept for ever"),
    },
    f"{_TEMPLATE}a_web_acl_is_put_in_front_of_the_stage_if_there_is_one": {
        "WebAclOfApi/WebACLArn": (
            "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/other/1",
            "an API in front of which nothing stands",
        ),
    },
    f"{_TEMPLATE}a_stage_is_traced_when_its_parameter_says_so_and_only_then": {
        "Parameters/Tracing/Default": ("Active", "traces that are paid for and not asked for"),
    },
    _TABLES: {
        "Conditions/KeepsData": (
            {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
            "a production without recovery and protection",
        ),
    },
    _FED: {
        f"{_PRODUCTION}/Concurrency": (
            1_000,
            "a turn of the month that takes all of the account's concurrency",
        ),
        f"{_PRODUCTION}/MailSenders": (1_000, "emails over the rate of the account"),
    },
    _RECEIVED_SOME_TIMES: {
        f"{_PRODUCTION}/MaximumReceives": (1_000, "a poison message that is tried for days"),
    },
    _SEEN_BY_ONE: {
        f"{_PRODUCTION}/VisibilityTimeout": (
            30,
            "a message that is delivered while its function is at it",
        ),
    },
    f"{_GUARDED}what_waiting_does_not_mend_waits_before_it_is_tried_again": {
        f"{_PRODUCTION}/RetrySeconds": (
            0,
            "a poison message that is a dead letter before anybody can mend its cause",
        ),
    },
    f"{_GUARDED}emails_wait_before_they_are_tried_again": {
        f"{_PRODUCTION}/MailRetrySeconds": (0, "an email that is tried again at once"),
    },
    _OUTLIVES: {
        f"{_PRODUCTION}/{policy}": ("Delete", "a stack that takes what is kept with it")
        for policy in ("DeletionPolicy", "UpdateReplacePolicy")
    },
}
