"""What the workflows need and the simulation's AWS in memory lacks.

It is S3, and of DynamoDB the scan and the conditions of updates and deletions. They are answered
where the rest is, below botocore. The issuer's keys, which come over HTTPS and not from AWS, are a
call here like all others, so that they can fail like all others.
"""

import re
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from tests.simulation import aws
from tests.simulation.aws import Call, Json

ISSUER = "issuer"
BUCKET = "credits-dev-reports"
ANCHORS = "credits-dev-anchors"


@dataclass
class Cloud(aws.Services):
    """The AWS of the simulation, with objects in buckets and an issuer of tokens.

    What is in an object is a text here, of a character for each byte.
    """

    objects: dict[str, str] = field(default_factory=dict)
    keys: Json = field(default_factory=dict)

    def perform(self, call: Call, most: int | None = None) -> Json:
        """What the service does."""
        if call.service == ISSUER:
            return self.keys
        if call.service == "s3":
            return self._perform_s3(call)
        if call.operation == "Scan":
            return self._scan(call.parameters)
        if call.operation in ("UpdateItem", "DeleteItem"):
            call = replace(call, parameters=self._without_condition(call.parameters))
        return super().perform(call, most)

    def _perform_s3(self, call: Call) -> Json:
        key = call.parameters["key"]
        if call.operation == "PutObject":
            if call.parameters["must_be_new"] and key in self.objects:
                raise aws.Refused("PreconditionFailed", 412)
            self.objects[key] = call.parameters["text"]
            return {}
        if call.operation == "GetObject":
            return {"text": self.objects[key]}
        if call.operation in ("ListObjectsV2", "ListObjectVersions"):
            return {"keys": sorted(name for name in self.objects if name.startswith(key))}
        raise aws.NotModelledError(str(call))

    def _without_condition(self, parameters: Json) -> Json:
        """The same request, once its condition holds."""
        if "ConditionExpression" not in parameters:
            return parameters
        present = self.state.dynamodb.tables[parameters["TableName"]].get(parameters["Key"])
        if not aws._Condition.of(parameters).holds(present or {}):
            raise aws.Refused("ConditionalCheckFailedException")
        known = aws._PARAMETERS["UpdateItem" if "UpdateExpression" in parameters else "DeleteItem"]
        return {name: value for name, value in parameters.items() if name in known}

    def _scan(self, parameters: Json) -> Json:
        table = self.state.dynamodb.tables[parameters["TableName"]]
        start = parameters.get("ExclusiveStartKey")
        after = table.key_of(start) if start else ("", "")
        found = sorted(key for key in table.items if key > after)
        page = found[: parameters.get("Limit")]
        more = {"LastEvaluatedKey": table.key_item(page[-1])} if len(page) < len(found) else {}
        items = [dict(table.items[key]) for key in page]
        if "ProjectionExpression" in parameters:
            names = [
                parameters["ExpressionAttributeNames"][name.strip()]
                for name in parameters["ProjectionExpression"].split(",")
            ]
            items = [{name: item[name] for name in names} for item in items]
        return {"Items": items, "Count": len(items), "ScannedCount": len(items), **more}


@cache
def s3() -> Any:
    """A client with as many attempts as the product allows it."""
    with aws._quotas_known():
        client = botocore.session.get_session().create_client(
            "s3",
            region_name=aws.REGION,
            aws_access_key_id="simulated",
            aws_secret_access_key="simulated",  # noqa: S106 - there is nobody to sign for
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 4},
                s3={"addressing_style": "path"},
                # The text travels as it is, and not in chunks with a checksum behind them.
                request_checksum_calculation="when_required",
            ),
        )
    client.meta.events.register_first("before-send.s3.*", _before_send)  # type: ignore[arg-type]
    return client


def _before_send(request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
    operation = event_name.split(".")[2]
    url = urlsplit(request.url)
    bucket, _slash, key = unquote(url.path).lstrip("/").partition("/")
    parameters: Json = {"bucket": bucket, "key": key}
    if operation in _LISTS:
        (prefix,) = re.findall(r"prefix=([^&]*)", url.query)
        parameters["key"] = unquote(prefix)
    if operation == "GetObject":
        parameters["of_version"] = "versionId=" in url.query
    if operation == "PutObject":
        body: Any = getattr(request.body, "_raw", request.body)  # before it is sent in chunks
        content: bytes = body if isinstance(body, bytes) else body.read()
        parameters["text"] = content.decode("latin-1")
        parameters["must_be_new"] = "If-None-Match" in request.headers
    try:
        answer, status = aws._ANSWERING[-1].answer(Call("s3", operation, parameters)), 200
        text: bytes = str(answer.get("text", "")).encode("latin-1")
        if operation in _LISTS:
            text = _LISTS[operation](answer["keys"]).encode()
    except aws.Refused as error:
        text, status = f"<Error><Code>{error.body['__type']}</Code></Error>".encode(), error.status
    headers: Any = {"content-length": str(len(text))}
    return AWSResponse(request.url, status, headers, aws._Body(text))


def _objects(keys: list[str]) -> str:
    names = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in keys)
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{names}</ListBucketResult>"


def _versions(keys: list[str]) -> str:
    names = "".join(
        f"<Version><Key>{name}</Key><VersionId>1</VersionId></Version>" for name in keys
    )
    return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{names}</ListVersionsResult>"


_LISTS = {"ListObjectsV2": _objects, "ListObjectVersions": _versions}
