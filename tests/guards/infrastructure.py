"""The guards of the infrastructure, found in the files that declare it.

A guard is a line of the template, a policy or a setting that keeps something from happening. One is
made for each queue, event source, table, policy statement and alarm there is, so that what is added
has its guards at once. What is left of a file without one of them is written as JSON, which is
YAML, too.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

Json = dict[str, Any]
Step = str | int | tuple[str, str]
Place = tuple[Step, ...]
"""Where something is: keys, places in a list, or (key, value) of an element of a list."""

_GONE = object()
_TEMPLATE = "tests/stack/test_template.py::test_"
_MAILS = "tests/stack/test_mail_template.py::test_"
_RINGS = "tests/stack/test_alarms.py::test_"
_GUARDED = "tests/stack/test_guarded_template.py::test_"
_PINNED = "tests/unit/test_pinned.py::test_"
_ASKED = "the_authorizer_is_asked_for_what_may_be_a_token_and_its_answer_is_kept_for_a_minute"


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
        """The file as it is."""
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
    """All of them."""
    resources = _load(RESOURCES)["Resources"]
    return [
        *_queues(resources),
        *_event_sources(resources),
        *_kept(resources),
        *_single(),
        *_policies(),
        *_conditions(),
        *_timeouts(),
        *_symptoms(),
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


def _guard(
    file: str, path: Place, what: str, *tests: str, becomes: object = _GONE, name: str = ""
) -> Guard:
    """A guard that is a value in a file of YAML or JSON; it is taken away, or becomes another."""
    words = [step[1] if isinstance(step, tuple) else str(step) for step in path]
    name = name or ".".join(word for word in words if word not in ("Resources", "Properties"))

    def remove(_text: str) -> str:
        data = _load(file)
        parent = data
        try:
            for step in path[:-1]:
                parent = parent[_key(parent, step)]
            last = _key(parent, path[-1])
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


def _key(parent: Any, step: Step) -> Any:
    if isinstance(step, tuple):
        return next(place for place, item in enumerate(parent) if item.get(step[0]) == step[1])
    return step


def _of_type(resources: Json, kind: str) -> Iterator[tuple[str, Json]]:
    return (
        (name, resource["Properties"])
        for name, resource in resources.items()
        if resource.get("Type") == kind
    )


def _property(resource: str, *path: Step) -> Place:
    return ("Resources", resource, "Properties", *path)


# --- What there is one of for each queue, event source, table, statement and alarm ----------------


def _queues(resources: Json) -> Iterator[Guard]:
    for name, queue in _of_type(resources, "AWS::SQS::Queue"):
        yield _guard(
            RESOURCES,
            _property(name, "SqsManagedSseEnabled"),
            "messages that are stored without encryption",
            f"{_TEMPLATE}queues_are_encrypted",
            becomes=False,
        )
        yield _guard(
            RESOURCES,
            _property(name, "MessageRetentionPeriod"),
            "a message that is forgotten after four days",
            f"{_GUARDED}every_queue_keeps_its_messages_for_two_weeks",
        )
        if "RedrivePolicy" not in queue:
            continue
        kept = f"{_TEMPLATE}a_message_that_keeps_failing_is_kept_for_two_weeks"
        yield _guard(
            RESOURCES,
            _property(name, "RedrivePolicy"),
            "a poison message that is tried for ever and then forgotten",
            kept,
        )
        yield _guard(
            RESOURCES,
            _property(name, "RedrivePolicy", "maxReceiveCount"),
            "a poison message that is tried for days",
            kept,
            becomes=1000,
        )
        yield _guard(
            RESOURCES,
            _property(name, "VisibilityTimeout"),
            "a message that is delivered again while its function is at it",
            f"{_TEMPLATE}a_message_is_not_delivered_again_while_its_function_may_still_be_trying",
            becomes=30,
        )


def _event_sources(resources: Json) -> Iterator[Guard]:
    fed = f"{_TEMPLATE}a_queue_feeds_its_function_and_is_told_which_messages_failed"
    for name, resource in resources.items():
        if "RecursiveLoop" in resource.get("Properties", {}):
            yield _guard(
                RESOURCES,
                _property(name, "RecursiveLoop"),
                "a chain of invocations that Lambda ends without a word",
                f"{_TEMPLATE}only_functions_that_send_to_the_queue_they_read_may_loop",
            )
        for event, declared in resource.get("Properties", {}).get("Events", {}).items():
            path = _property(name, "Events", event, "Properties")
            source = declared["Properties"]
            if "Queue" in source:
                yield _guard(
                    RESOURCES,
                    (*path, "FunctionResponseTypes"),
                    "a message that failed and is deleted with its neighbours",
                    fed,
                    name=f"{name}.FunctionResponseTypes",
                )
                yield _guard(
                    RESOURCES,
                    (*path, "ScalingConfig"),
                    "a turn of the month that takes all of the account's concurrency",
                    fed,
                    name=f"{name}.ScalingConfig",
                )
                yield _guard(
                    RESOURCES,
                    (*path, "BatchSize"),
                    "an invocation that has more to do than it has time for",
                    fed,
                    becomes=10_000,
                    name=f"{name}.BatchSize",
                )
            if "Schedule" in source:
                yield _guard(
                    RESOURCES,
                    (*path, "Enabled"),
                    "a schedule that never comes",
                    f"{_GUARDED}every_schedule_is_on_and_at_a_time_of_the_clock",
                    becomes=False,
                    name=f"{name}.Enabled",
                )
                yield _guard(
                    RESOURCES,
                    (*path, "Schedule"),
                    "a schedule that is not aligned to the midnights",
                    f"{_GUARDED}every_schedule_is_on_and_at_a_time_of_the_clock",
                    becomes="rate(15 minutes)",
                    name=f"{name}.Schedule",
                )


def _kept(resources: Json) -> Iterator[Guard]:
    kept = f"{_GUARDED}what_is_kept_outlives_its_stack_in_production"
    for name, resource in resources.items():
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            if policy in resource:
                yield _guard(
                    RESOURCES,
                    ("Resources", name, policy),
                    "a stack that takes what is kept with it",
                    kept,
                    becomes="Delete",
                )
    for name, _ in _of_type(resources, "AWS::DynamoDB::Table"):
        for path, what in (
            (("SSESpecification", "SSEEnabled"), "a table without encryption"),
            (
                ("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"),
                "a table that cannot be restored",
            ),
            (("DeletionProtectionEnabled",), "a table that a slip of the mouse deletes"),
        ):
            yield _guard(
                RESOURCES,
                _property(name, *path),
                what,
                f"{_TEMPLATE}tables_are_on_demand_encrypted_and_protected",
                becomes=False,
                name=f"{name}.{path[-1]}",
            )


def _policies() -> Iterator[Guard]:
    rights = f"{_TEMPLATE}a_role_allows_what_its_function_does_and_nothing_else"
    logs = f"{_TEMPLATE}every_function_may_write_its_own_log_and_no_other"
    shared = _load(SHARED_RIGHTS)
    places: list[tuple[str, Place, str, Json]] = [
        (SHARED_RIGHTS, (), sid, statement) for sid, statement in shared.items()
    ]
    for path in sorted((ROOT / ".chalice").glob("policy-*.json")):
        file = f".chalice/{path.name}"
        for statement in _load(file)["Statement"]:
            sid = statement["Sid"]
            places.append((file, ("Statement", ("Sid", sid)), sid, statement))
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
            yield _guard(
                file,
                (*(place or (sid,)), key),
                what,
                test,
                becomes=becomes,
                name=f"{Path(file).stem}.{sid}.{key}",
            )


def _conditions() -> Iterator[Guard]:
    reports = f"{_TEMPLATE}reports_are_written_to_a_bucket_of_this_account"
    for function, sid, what, test in (
        (
            "send-notifications",
            "SendMails",
            "a function that sends in anybody's name",
            f"{_TEMPLATE}mails_are_sent_from_one_address_whatever_identity_ses_checks",
        ),
        ("check-zone", "ListReports", "reports of a bucket that is another's", reports),
        (
            "check-zone",
            "WriteAndReadReports",
            "reports for anybody who has the bucket's name",
            reports,
        ),
    ):
        yield _guard(
            f".chalice/policy-{function}.json",
            ("Statement", ("Sid", sid), "Condition"),
            what,
            test,
        )


def _timeouts() -> Iterator[Guard]:
    functions = _load(CONFIG)["lambda_functions"]
    for name in functions:
        yield _guard(
            CONFIG,
            ("lambda_functions", name, "lambda_timeout"),
            "a function that hangs for a quarter of an hour",
            f"{_GUARDED}every_function_ends_in_time",
            becomes=900,
            name=f"{name}.lambda_timeout",
        )


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
                (_TEMPLATE + _ASKED,),
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

_BUCKETS = (("ReportsBucket", "reports"), ("AnchorsBucket", "anchors"))


def _single() -> Iterator[Guard]:
    stream = _property(
        "QueueNotifications", "Events", "QueueNotificationsDynamodbEventSource", "Properties"
    )
    wakes = f"{_MAILS}the_stream_wakes_its_reader_for_new_entries_only"
    reported = f"{_MAILS}what_the_stream_cannot_hand_over_is_reported_before_it_is_forgotten"
    watch = _property("WatchLedger", "Events", "WatchLedgerDynamodbEventSource", "Properties")
    watched = f"{_TEMPLATE}the_ledgers_second_reader_is_woken_for_entries_and_for_every_change"
    locked = f"{_TEMPLATE}anchors_are_locked_and_in_production_against_everybody"
    topics = f"{_RINGS}topics_are_encrypted_with_a_key_that_those_who_publish_may_use"
    bucket = f"{_TEMPLATE}the_reports_are_private_encrypted_versioned_and_kept"
    blocks = ("PublicAccessBlockConfiguration",)
    throttled = f"{_TEMPLATE}requests_are_throttled_method_by_method"
    mails = f"{_GUARDED}mails_are_signed_and_what_comes_back_is_heard"
    parameters = f"{_GUARDED}parameters_that_make_no_sense_are_refused"
    for path, becomes, what, test in (
        ((*stream, "StartingPosition"), "LATEST", "mails of a deployment that are lost", wakes),
        ((*stream, "FilterCriteria"), _GONE, "an invocation for every marker", wakes),
        (
            (*stream, "BisectBatchOnFunctionError"),
            False,
            "a record that holds up a hundred",
            reported,
        ),
        (
            (*stream, "MaximumRecordAgeInSeconds"),
            86_400,
            "records that are forgotten before they are reported",
            reported,
        ),
        ((*stream, "DestinationConfig"), _GONE, "records that nobody knows of", reported),
        (
            _property("MailEvents", "DeadLetterQueue"),
            _GONE,
            "a bounce that is lost",
            f"{_TEMPLATE}a_mail_event_that_keeps_failing_is_kept",
        ),
        (
            _property("LedgerTable", "StreamSpecification"),
            {"StreamViewType": "KEYS_ONLY"},
            "an outbox that says nothing",
            f"{_TEMPLATE}the_ledger_streams_its_new_entries",
        ),
        (
            _property("MailsTable", "TimeToLiveSpecification"),
            _GONE,
            "records of mails that are kept for ever",
            f"{_MAILS}records_of_mails_are_forgotten_in_the_end",
        ),
        *(
            (
                _property(name, *blocks, block),
                False,
                f"{what} that somebody makes public",
                bucket,
            )
            for name, what in _BUCKETS
            for block in (
                *("BlockPublicAcls", "BlockPublicPolicy"),
                *("IgnorePublicAcls", "RestrictPublicBuckets"),
            )
        ),
        *(
            (_property(name, "BucketEncryption"), _GONE, f"{what} in the clear", bucket)
            for name, what in _BUCKETS
        ),
        *(
            (
                _property(name, "VersioningConfiguration", "Status"),
                "Suspended",
                f"{what} that are overwritten",
                bucket,
            )
            for name, what in _BUCKETS
        ),
        *(
            (
                _property(name, "OwnershipControls"),
                _GONE,
                f"{what} that belong to who wrote them",
                f"{_GUARDED}the_reports_belong_to_the_account",
            )
            for name, what in _BUCKETS
        ),
        (_property("AnchorsBucket", "ObjectLockEnabled"), False, "anchors one can delete", locked),
        (
            _property("AnchorsBucket", "ObjectLockConfiguration", "Rule", "DefaultRetention"),
            {"Mode": "GOVERNANCE", "Days": 1},
            "anchors that an admin can delete",
            locked,
        ),
        (
            _property("AnchorsBucket", "LifecycleConfiguration", "Rules", 0, "ExpirationInDays"),
            1,
            "anchors that are gone when they are needed",
            locked,
        ),
        *(
            ((*watch, key), becomes, what, watched)
            for key, becomes, what in (
                ("StartingPosition", "LATEST", "entries of a deployment without an anchor"),
                ("FilterCriteria", _GONE, "an anchor of what is no entry"),
                ("BatchSize", 10, "an object for every ten entries"),
                ("MaximumBatchingWindowInSeconds", 0, "an object for every entry"),
                ("BisectBatchOnFunctionError", False, "a record that holds up all anchors"),
                ("MaximumRecordAgeInSeconds", 86_400, "entries that are forgotten unreported"),
                ("DestinationConfig", _GONE, "entries without an anchor that nobody knows of"),
            )
        ),
        *(
            (
                _property(topic, "KmsMasterKeyId"),
                _GONE,
                "addresses and alarms in the clear",
                topics,
            )
            for topic in ("MailEventsTopic", "AlarmsTopic")
        ),
        *(
            (
                _property(f"{topic}Policy", "PolicyDocument", "Statement", 0, key),
                becomes,
                "another account that publishes to the topic",
                topics,
            )
            for topic in ("MailEventsTopic", "AlarmsTopic")
            for key, becomes in (("Condition", _GONE), ("Principal", "*"))
        ),
        (
            _property(
                "TopicsKey",
                "KeyPolicy",
                "Statement",
                ("Sid", "AlarmsPublish"),
                "Condition",
            ),
            _GONE,
            "another account that uses the key",
            topics,
        ),
        (_property("TopicsKey", "EnableKeyRotation"), False, "a key that is never new", topics),
        (
            _property("UnsubscribeSecret", "GenerateSecretString", "PasswordLength"),
            8,
            "a key of the unsubscribe links that can be guessed",
            f"{_MAILS}no_secret_is_in_the_template",
        ),
        (
            _property(
                *("RestAPI", "DefinitionBody", "securityDefinitions", "authorizer"),
                *("x-amazon-apigateway-authorizer", "identityValidationExpression"),
            ),
            _GONE,
            "an invocation without a token",
            _TEMPLATE + _ASKED,
        ),
        *(
            (
                _property("RestAPI", "MethodSettings", place, key),
                {"Fn::FindInMap": ["Stages", {"Ref": "Stage"}, "VisibilityTimeout"]},
                "requests without a limit",
                throttled,
            )
            for place in range(3)
            for key in ("ThrottlingRateLimit", "ThrottlingBurstLimit")
        ),
        (
            _property("UsagePlan", "Throttle", "RateLimit"),
            {"Fn::FindInMap": ["Stages", {"Ref": "Stage"}, "VisibilityTimeout"]},
            "requests of one API key without a limit",
            throttled,
        ),
        *(
            (
                _property(plan, "Throttle", limit),
                _GONE,
                "one caller who takes a method's whole rate",
                f"{_GUARDED}one_lane_and_the_backends_leave_something_of_a_methods_rate",
            )
            for plan, limit in (
                ("UsagePlan", "BurstLimit"),
                ("BackendPlan", "RateLimit"),
                ("BackendPlan", "BurstLimit"),
            )
        ),
        (
            _property("MailIdentity", "DkimAttributes", "SigningEnabled"),
            False,
            "mails that anybody can forge",
            mails,
        ),
        (
            _property("MailIdentity", "DkimSigningAttributes", "NextSigningKeyLength"),
            "RSA_1024_BIT",
            "mails that anybody can forge",
            mails,
        ),
        (
            _property("MailConfigurationSet", "SuppressionOptions"),
            _GONE,
            "mails to addresses that came back",
            f"{_MAILS}ses_keeps_addresses_that_came_back",
        ),
        (
            _property("MailConfigurationSet", "ReputationOptions", "ReputationMetricsEnabled"),
            False,
            "alarms about bounces that have nothing to ring by",
            mails,
        ),
        (
            _property("MailEventDestination", "EventDestination", "MatchingEventTypes"),
            ["bounce"],
            "complaints that nobody hears",
            f"{_MAILS}bounces_and_complaints_reach_their_function",
        ),
        *(
            (("Parameters", name, key), becomes, "a deployment that cannot work", parameters)
            for name, key, becomes in (
                ("TokenIssuer", "AllowedPattern", ".*"),
                ("TokenAudience", "MinLength", 0),
                ("TokenJwksUrl", "AllowedPattern", ".*"),
                ("MailDomain", "AllowedPattern", ".*"),
                ("AlarmEmail", "AllowedPattern", ".*"),
            )
        ),
        (
            ("Parameters", "AccessLogs", "Default"),
            "on",
            "a deployment that is refused where API Gateway has no role to log with",
            f"{_TEMPLATE}requests_are_logged_where_the_stage_wants_it_and_only_there",
        ),
        (
            _property("RestAPI", "AccessLogSetting", "Fn::If", 1, "Format"),
            '{"requestId":"$context.requestId","path":"$context.path"}',
            "what users ask for, in a log",
            f"{_TEMPLATE}a_line_of_the_access_log_has_neither_what_was_asked_nor_a_token",
        ),
        (
            _property("ApiAccessLog", "RetentionInDays"),
            _GONE,
            "addresses of users that are kept for ever",
            f"{_TEMPLATE}the_access_log_is_kept_as_long_as_the_logs_of_the_functions",
        ),
        (
            _property("WebAclOfApi", "WebACLArn"),
            "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/other/1",
            "an API in front of which nothing stands",
            f"{_TEMPLATE}a_web_acl_is_put_in_front_of_the_stage_if_there_is_one",
        ),
        (
            ("Parameters", "Tracing", "Default"),
            "Active",
            "traces that are paid for and not asked for",
            f"{_TEMPLATE}a_stage_is_traced_when_its_parameter_says_so_and_only_then",
        ),
        (
            ("Conditions", "KeepsData"),
            {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
            "a production without recovery and protection",
            f"{_TEMPLATE}tables_are_on_demand_encrypted_and_protected",
        ),
        *(
            (("Mappings", "Stages", "prod", key), becomes, what, test)
            for key, becomes, what, test in _SETTINGS_OF_PRODUCTION
        ),
    ):
        yield _guard(RESOURCES, path, what, test, becomes=becomes)
    yield _guard(
        CONFIG,
        ("stages", "prod", "log_retention_in_days"),
        "logs that are forgotten before anybody asks",
        f"{_TEMPLATE}every_function_may_write_its_own_log_and_no_other",
        becomes=1,
    )
    yield _guard(
        CONFIG,
        ("autogen_policy",),
        "rights that Chalice makes up",
        f"{_GUARDED}rights_are_written_by_hand",
        becomes=True,
    )


_SETTINGS_OF_PRODUCTION = (
    (
        *("Concurrency", 1_000, "a turn of the month that takes all of the account's concurrency"),
        f"{_TEMPLATE}a_queue_feeds_its_function_and_is_told_which_messages_failed",
    ),
    (
        *("MailSenders", 1_000, "mails over the rate of the account"),
        f"{_TEMPLATE}a_queue_feeds_its_function_and_is_told_which_messages_failed",
    ),
    (
        *("MaximumReceives", 1_000, "a poison message that is tried for days"),
        f"{_TEMPLATE}a_message_that_keeps_failing_is_kept_for_two_weeks",
    ),
    (
        *("VisibilityTimeout", 30, "a message that is delivered while its function is at it"),
        f"{_TEMPLATE}a_message_is_not_delivered_again_while_its_function_may_still_be_trying",
    ),
    *(
        (
            key,
            1_000_000,
            "requests without a limit",
            f"{_TEMPLATE}requests_are_throttled_method_by_method",
        )
        for key in (
            *("RequestRate", "RequestBurst", "ManagementRate", "ManagementBurst", "KeyRate"),
        )
    ),
    *(
        (
            key,
            1_000_000,
            "one caller who takes a method's whole rate",
            f"{_GUARDED}one_lane_and_the_backends_leave_something_of_a_methods_rate",
        )
        for key in ("KeyBurst", "BackendRate", "BackendBurst")
    ),
    (
        "RetrySeconds",
        0,
        "a poison message that is a dead letter within a minute, before anybody can mend its cause",
        f"{_GUARDED}what_waiting_does_not_mend_waits_before_it_is_tried_again",
    ),
    (
        "MailRetrySeconds",
        0,
        "a mail that is tried again at once",
        f"{_GUARDED}mails_wait_before_they_are_tried_again",
    ),
    (
        "DeletionPolicy",
        "Delete",
        "a stack that takes what is kept with it",
        f"{_GUARDED}what_is_kept_outlives_its_stack_in_production",
    ),
    (
        "UpdateReplacePolicy",
        "Delete",
        "a stack that takes what is kept with it",
        f"{_GUARDED}what_is_kept_outlives_its_stack_in_production",
    ),
)
