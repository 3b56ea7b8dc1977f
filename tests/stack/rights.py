"""The calls that functions make, as the rights that AWS asks for; and those it uses for them.

IAM knows no operation of the SDK: each is one action or several, on the resources that the request
names (Service Authorization Reference, https://docs.aws.amazon.com/service-authorization/).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parseaddr
from typing import Any
from unittest.mock import patch

from ministack.core.responses import get_account_id

from chalicelib import aws as clients
from chalicelib.mails import links
from tests.crashes import runner
from tests.crashes.failures import Failures, Kind, Point
from tests.crashes.of_stripe import WORKFLOWS
from tests.crashes.workflows import Workflow
from tests.crashes.world import CrashingWorld, crashing, functions
from tests.partiql import read_update
from tests.simulation import aws
from tests.simulation import world as simulation
from tests.simulation.aws import ISSUER, Call, Perform
from tests.simulation.faults import conflict, kind_of, statements_of
from tests.stack.resolved import Json, Stack, arn


@dataclass(frozen=True)
class Right:
    """An action on a resource, with what AWS knows of the request besides."""

    action: str
    resource: str
    context: tuple[tuple[str, str | tuple[str, ...]], ...] = ()

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


# --- What the SDK is asked to do ------------------------------------------------------------------


def needed(call: Call) -> set[Right]:
    """The rights that a call needs. Fails for one of which it is not known."""
    rights = _RIGHTS.get((call.service, call.operation))
    assert rights, f"{call}: say here which rights AWS asks for"
    return set(rights(call))


def _table(name: str, index: str = "") -> str:
    return arn("dynamodb", f"table/{name}" + (f"/index/{index}" if index else ""))


def _one_item(call: Call) -> Iterator[Right]:
    name, index = call.parameters["TableName"], call.parameters.get("IndexName", "")
    yield Right(f"dynamodb:{call.operation}", _table(name, index))


def _batch_get(call: Call) -> Iterator[Right]:
    for name in call.parameters["RequestItems"]:
        yield Right("dynamodb:BatchGetItem", _table(name))


def _transaction(call: Call) -> Iterator[Right]:
    """Each part needs the right of the single operation.

    (Amazon DynamoDB Developer Guide, "Using IAM with DynamoDB transactions",
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html)
    """
    for part in call.parameters["TransactItems"]:
        ((kind, request),) = part.items()
        yield Right(f"dynamodb:{_PARTS[kind]}", _table(request["TableName"]))


_PARTS = {
    "Get": "GetItem",
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


def _partiql(call: Call) -> Iterator[Right]:
    """Each statement needs the right of its verb, by itself, in a batch and in a transaction.

    (Amazon DynamoDB Developer Guide, "IAM security policies with PartiQL for DynamoDB",
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html)
    """
    for statement in statements_of(call):
        if match := re.match(r'INSERT INTO "([\w.-]+)"', statement["Statement"]):
            yield Right("dynamodb:PartiQLInsert", _table(match[1]))
            continue
        assert statement["Statement"].startswith("UPDATE "), f"{statement}: say here which right"
        update = read_update(statement)
        named = {*update.changed, *update.removed, *update.where}
        asked = (
            ("dynamodb:attributes", tuple(sorted(named))),
            ("dynamodb:returnvalues", "NONE"),
        )
        yield Right("dynamodb:PartiQLUpdate", _table(update.table), asked)


def _queue(action: str) -> Callable[[Call], Iterator[Right]]:
    """A batch needs the right of the single operation.

    (Amazon SQS API Reference, AddPermission,
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_AddPermission.html)
    """

    def rights(call: Call) -> Iterator[Right]:
        yield Right(action, arn("sqs", call.parameters["QueueUrl"].rpartition("/")[2]))

    return rights


def _mail(call: Call) -> Iterator[Right]:
    """The identity of the sender, that of the recipient in the sandbox, and the configuration set.

    Which identity is asked about is not ours to say (docs/mail.md).
    """
    sender = parseaddr(call.parameters["FromEmailAddress"])[1]
    (recipient,) = call.parameters["Destination"]["ToAddresses"]
    for resource in (
        *(f"identity/{sender}", f"identity/{sender.partition('@')[2]}", f"identity/{recipient}"),
        f"configuration-set/{call.parameters['ConfigurationSetName']}",
    ):
        yield Right("ses:SendEmail", arn("ses", resource), (("ses:fromaddress", sender),))


def _alarms(_: Call) -> Iterator[Right]:
    """Who asks by a prefix asks for all.

    (Amazon CloudWatch User Guide, "CloudWatch permissions reference",
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/permissions-reference-cw.html)
    """
    yield Right("cloudwatch:DescribeAlarms", arn("cloudwatch", "alarm:*"))


def _events(call: Call) -> Iterator[Right]:
    for entry in call.parameters["Entries"]:
        yield Right("events:PutEvents", arn("events", f"event-bus/{entry['EventBusName']}"))


def _secret(call: Call) -> Iterator[Right]:
    yield Right("secretsmanager:GetSecretValue", call.parameters["SecretId"])


def _object(action: str) -> Callable[[Call], Iterator[Right]]:
    def rights(call: Call) -> Iterator[Right]:
        yield Right(action, arn("s3", f"{call.parameters['bucket']}/{call.parameters['key']}"))

    return rights


def _bucket(action: str) -> Callable[[Call], Iterator[Right]]:
    def rights(call: Call) -> Iterator[Right]:
        yield Right(action, arn("s3", call.parameters["bucket"]))

    return rights


def _get_object(call: Call) -> Iterator[Right]:
    """What a version is asked for by its id needs a right of its own.

    (Amazon S3 API Reference, GetObject,
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html)
    """
    action = "s3:GetObjectVersion" if call.parameters["of_version"] else "s3:GetObject"
    yield from _object(action)(call)


_RIGHTS: dict[tuple[str, str], Callable[[Call], Iterator[Right]]] = {
    **{
        ("dynamodb", operation): _one_item
        for operation in ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan")
    },
    ("dynamodb", "BatchGetItem"): _batch_get,
    ("dynamodb", "TransactGetItems"): _transaction,
    **{
        ("dynamodb", operation): _partiql
        for operation in ("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction")
    },
    ("sqs", "SendMessageBatch"): _queue("sqs:SendMessage"),
    ("sqs", "ChangeMessageVisibilityBatch"): _queue("sqs:ChangeMessageVisibility"),
    ("sqs", "GetQueueAttributes"): _queue("sqs:GetQueueAttributes"),
    ("cloudwatch", "DescribeAlarms"): _alarms,
    ("sesv2", "SendEmail"): _mail,
    ("eventbridge", "PutEvents"): _events,
    ("secrets-manager", "GetSecretValue"): _secret,
    ("s3", "PutObject"): _object("s3:PutObject"),
    ("s3", "GetObject"): _get_object,
    ("s3", "ListObjectsV2"): _bucket("s3:ListBucket"),
    # Amazon S3 API Reference, ListObjectVersions
    ("s3", "ListObjectVersions"): _bucket("s3:ListBucketVersions"),
}


# --- What every function does, seen ---------------------------------------------------------------


@dataclass
class Recorder(Failures):
    """Watches the calls of a world; those that a function makes are what it needs."""

    buckets: Mapping[str, str] = field(default_factory=dict)
    """The names of the stack's buckets by those of the world."""
    function: str = ""
    made: dict[str, set[Right]] = field(default_factory=dict)
    refusal: aws.Refused | None = None
    """What SES answers the first mail with."""
    is_overtaken: bool = False
    """Whether others write what the first batch would, and each of it is decided again."""

    def __call__(self, call: Call, perform: Perform) -> Json:
        if self.function and call.service != ISSUER:
            buckets = {"bucket": self.buckets.get(call.parameters.get("bucket", ""))}
            named = replace(call, parameters={**call.parameters, **buckets})
            self.made.setdefault(self.function, set()).update(needed(named))
        if call.service == "secrets-manager":
            is_stripes = self.function == "stripe-webhook"
            return {"SecretString": simulation.STRIPE_SECRET if is_stripes else KEY.decode()}
        if call.service == "sesv2" and self.refusal:
            refusal, self.refusal = self.refusal, None
            raise refusal
        if call.operation == "BatchExecuteStatement" and self.is_overtaken:
            self.is_overtaken = False
            met = {"Error": {"Code": "TransactionConflict", "Message": "in conflict"}}
            return {"Responses": [met for _ in call.parameters["Statements"]]}
        if kind_of(call) == "ExecuteTransaction edits" and self.is_overtaken:
            self.is_overtaken = False
            return conflict(call, perform)
        return super().__call__(call, perform)


KEY = b"k" * 64
REFUSALS = (aws.Refused("TooManyRequestsException", 429), aws.Refused("BadRequestException"))
"""SES takes no email for now, or not this one."""


def recorded(stack: Stack) -> dict[str, set[Right]]:
    """By the name of a function, the rights that it needs for everything the product does.

    Every workflow of the crash points is run; again for each write whose answer is lost or that is
    done in part, for what is decided then; and so that others are quicker, and that SES refuses a
    mail. Every invocation is a cold start.
    """
    made: dict[str, set[Right]] = {}
    buckets = {
        of_world: stack.resources[name]["Properties"]["BucketName"]
        for of_world, name in (
            (simulation.SETTINGS.reports_bucket, "ReportsBucket"),
            (simulation.SETTINGS.anchors_bucket, "AnchorsBucket"),
        )
    }
    secrets: dict[str, Any] = {"unsubscribe_secret": stack.arn("UnsubscribeSecret")}
    secrets["stripe_secret"] = stack.arn("StripeSecret")
    with _cold_starts(secrets) as recorders:

        def run(
            workflow: Workflow, prepared: CrashingWorld, *points: Point, **more: Any
        ) -> Recorder:
            recorders[:] = [Recorder(points, buckets=buckets, made=made, **more)]
            runner._run(workflow, prepared.copy(recorders[0]))
            return recorders[0]

        for workflow in WORKFLOWS.values():
            recorders[:] = [Recorder(buckets=buckets, made=made)]
            prepared = CrashingWorld(failures=recorders[0])
            with prepared.running():
                for step in workflow.before:
                    step(prepared)
            clean = run(workflow, prepared)
            for place, seen in enumerate(clean.seen):
                for kind in {Kind.LOST, Kind.IN_PART} & {*seen.kinds()}:
                    run(workflow, prepared, Point(place, kind))
            run(workflow, prepared, is_overtaken=True)
            if workflow.group == "mails":
                for refusal in REFUSALS:
                    run(workflow, prepared, refusal=refusal)
    return made


@contextmanager
def _cold_starts(secrets: dict[str, Any]) -> Iterator[list[Recorder]]:
    """Within the block each invocation is a new process, and noted with the one that is given."""
    import app

    recorders: list[Recorder] = []

    def starting(name: str, handler: Any) -> Any:
        def invoke(event: Any, context: Any) -> Any:
            world = simulation._CURRENT[-1]
            world.restart()
            world.services.settings = world.services.settings._replace(**secrets)
            del world.services.unsubscribe_links, world.services.stripe_secret
            recorders[0].function = name
            try:
                return handler(event, context)
            finally:
                recorders[0].function = ""
                world.services.unsubscribe_links = links.UnsubscribeLinks(KEY, "https://x")

        return invoke

    # The product makes a client of its own to read a secret.
    def made(service: str, _region: str, **_: Any) -> Any:
        return aws.client(service, 3)

    with ExitStack() as stack:
        stack.enter_context(crashing())
        stack.enter_context(patch.object(clients, "client", made))
        for attribute, name in functions().items():
            handler = starting(name, getattr(app, attribute))
            stack.enter_context(patch.object(app, attribute, handler))
        yield recorders


# --- What AWS does with a function's role ---------------------------------------------------------


def used_by_aws(stack: Stack) -> dict[str, set[Right]]:
    """By the name of a function, the rights that Lambda uses with its role, as the stack has it."""
    used: dict[str, set[Right]] = {}

    def uses(function: str, *actions: str, of: str) -> None:
        used.setdefault(function, set()).update(Right(action, of) for action in actions)

    for _, function in stack.of_type("AWS::Lambda::Function"):
        name = function["FunctionName"]
        # Its group is there already, so it need not be made (AWS Lambda Developer Guide, "Sending
        # Lambda function logs to CloudWatch Logs").
        log = arn("logs", f"log-group:/aws/lambda/{name}:log-stream:1")
        uses(name, "logs:CreateLogStream", "logs:PutLogEvents", of=log)
        # AWS Lambda Developer Guide, "Visualize Lambda function invocations using AWS X-Ray"
        if function["TracingConfig"]["Mode"] == "Active":
            uses(name, "xray:PutTraceSegments", "xray:PutTelemetryRecords", of="*")
        # AWS Lambda Developer Guide, "Adding a dead-letter queue"
        if "DeadLetterConfig" in function:
            uses(name, "sqs:SendMessage", of=function["DeadLetterConfig"]["TargetArn"])
    for _, mapping in stack.of_type("AWS::Lambda::EventSourceMapping"):
        name, source = mapping["FunctionName"], mapping["EventSourceArn"]
        service = source.split(":")[2]
        if service == "sqs":
            # AWS Lambda Developer Guide, "Using Lambda with Amazon SQS", execution role permissions
            actions = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
            uses(name, *(f"sqs:{action}" for action in actions), of=source)
        else:
            # The same, "Using AWS Lambda with Amazon DynamoDB", execution role permissions
            assert service == "dynamodb", f"say here what Lambda does to read {source}"
            actions = ("DescribeStream", "GetRecords", "GetShardIterator")
            uses(name, *(f"dynamodb:{action}" for action in actions), of=source)
            uses(name, "dynamodb:ListStreams", of="*")
        # The same, "Capturing records of Lambda asynchronous invocations" and of event sources
        if "DestinationConfig" in mapping:
            target = mapping["DestinationConfig"]["OnFailure"]["Destination"]
            uses(name, "sqs:SendMessage", of=target)
    return used


# --- What services of AWS do for the stack --------------------------------------------------------


Context = tuple[tuple[str, str], ...]
Asked = Iterator[tuple[str, Right]]


def asked_by_services(stack: Stack) -> set[tuple[str, Right]]:
    """What a service asks of a resource's own policy, by its name, as the stack has it."""
    return {*_publishing(stack), *_invoking(stack), *_keeping(stack)}


def _keeping(stack: Stack) -> Asked:
    """What a rule's target does not take goes to its dead-letter queue.

    (Amazon EventBridge User Guide, "Using dead-letter queues to process undelivered events")
    """
    for _, rule in stack.of_type("AWS::Events::Rule"):
        for target in rule["Targets"]:
            if "DeadLetterConfig" in target:
                source = arn("events", f"rule/{rule['EventBusName']}/{rule['Name']}")
                queue = target["DeadLetterConfig"]["Arn"]
                yield "events", Right("sqs:SendMessage", queue, (("aws:sourcearn", source),))


def _publishing(stack: Stack) -> Asked:
    """Who publishes to a topic asks for the topic's key, too.

    (Amazon SNS Developer Guide, "Managing Amazon SNS encryption keys and costs", "Enable
    compatibility between event sources from AWS services and encrypted topics")
    """
    of_this: Context = (("aws:sourceaccount", get_account_id()),)
    keys = {
        stack.resources[name]["Ref"]: arn("kms", f"key/{topic['KmsMasterKeyId']}")
        for name, topic in stack.of_type("AWS::SNS::Topic")
    }
    publishers: set[tuple[str, str, Context]] = set()
    for _, alarm in stack.of_type("AWS::CloudWatch::Alarm"):
        for topic in (*alarm["AlarmActions"], *alarm["OKActions"]):
            publishers.add(("cloudwatch", topic, of_this))
    for _, destination in stack.of_type("AWS::SES::ConfigurationSetEventDestination"):
        # SES need not say for whom it asks the key (infra/resources.yaml).
        publishers.add(("ses", destination["EventDestination"]["SnsDestination"]["TopicARN"], ()))
    for service, topic, for_whom in publishers:
        yield service, Right("sns:Publish", topic, of_this)
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            yield service, Right(action, keys[topic], for_whom)


def _invoking(stack: Stack) -> Asked:
    """Who invokes a function says for which of its own resources."""
    invokers: set[tuple[str, str, str]] = set()
    for _, rule in stack.of_type("AWS::Events::Rule"):
        source = arn("events", f"rule/{rule['Name']}")
        # With a role a target needs no policy of its own.
        invokers |= {
            ("events", target["Arn"], source)
            for target in rule["Targets"]
            if "RoleArn" not in target
        }
    for _, subscription in stack.of_type("AWS::SNS::Subscription"):
        if subscription["Protocol"] == "lambda":
            invokers.add(("sns", subscription["Endpoint"], subscription["TopicArn"]))
    for name, api in stack.of_type("AWS::ApiGateway::RestApi"):
        its_id = stack.resources[name]["Ref"]
        for place, part in _invoking_parts(api["Body"]):
            source = arn("execute-api", f"{its_id}/{place}")
            functions_of_api = re.findall(r"/functions/([^/]+)/invocations", json.dumps(part))
            invokers |= {("apigateway", function, source) for function in functions_of_api}
    for service, function, source in invokers:
        yield service, Right("lambda:InvokeFunction", function, (("aws:sourcearn", source),))


def _invoking_parts(body: Json) -> Iterator[tuple[str, Json]]:
    """The methods and the authorizers of an API, by what API Gateway calls each to Lambda.

    (Amazon API Gateway Developer Guide, "Control access to a REST API with IAM permissions" and
    "Configure an API Gateway Lambda authorizer")
    """
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            yield f"v1/{method.upper()}{path}", operation
    for name, scheme in body["securityDefinitions"].items():
        yield f"authorizers/{name}", scheme


def own_policies(stack: Stack) -> Iterator[tuple[str, list[Json]]]:
    """The statements of the policies of resources, by the ARN of the resource."""
    for _, policy in stack.of_type("AWS::SNS::TopicPolicy"):
        for topic in policy["Topics"]:
            yield topic, policy["PolicyDocument"]["Statement"]
    for _, policy in stack.of_type("AWS::SQS::QueuePolicy"):
        for statement in policy["PolicyDocument"]["Statement"]:
            queue = statement["Resource"]
            yield queue if isinstance(queue, str) else queue[0], [statement]
    for name, key in stack.of_type("AWS::KMS::Key"):
        # In a key's policy `*` is the key.
        its_arn = stack.arn(name)
        yield its_arn, [{**s, "Resource": its_arn} for s in key["KeyPolicy"]["Statement"]]
    for _, permission in stack.of_type("AWS::Lambda::Permission"):
        function = arn("lambda", f"function:{permission['FunctionName'].rpartition(':')[2]}")
        yield (
            function,
            [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": permission["Principal"]},
                    "Action": permission["Action"],
                    "Resource": function,
                    "Condition": {"ArnLike": {"aws:SourceArn": permission["SourceArn"]}},
                }
            ],
        )
