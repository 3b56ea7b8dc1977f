"""The one DynamoDB client of a process, and the functions that all stores share.

PynamoDB's `Connection` is used directly rather than its models: a model class makes a client of its
own (50 to 150 ms of cold start each) and costs a worker about twice the CPU per item.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore import __version__ as botocore_version
from botocore.config import Config
from pynamodb.connection import Connection
from pynamodb.connection.base import MetaTable

from chalicelib.domain.errors import Contention
from chalicelib.metrics import Metric, count
from chalicelib.retries import Pause, attempts

from .throttling import ask_again, attempts_for_room
from .wire.client import Client
from .wire.credentials import Found
from .wire.endpoints import endpoint_of
from .wire.sdk_shaped import SdkShaped
from .wire.signing import Keys
from .wire.transport import Transport

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's API has it: attribute name to type and value."""

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
MOST_SDK_RETRIES = 3

MOST_KEYS_A_BATCH = 100
"""The most keys of one BatchGetItem (DynamoDB's limit)."""


def connect(
    region: str,
    threads: int = 1,
    *,
    endpoint_url: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
) -> Connection:
    """A connection whose client is made now, so that threads find it ready.

    Endpoint and credentials are the SDK's own business unless they are given.
    """
    connection = Connection(
        region=region,
        host=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds=READ_TIMEOUT_SECONDS,
        max_retry_attempts=MOST_SDK_RETRIES,
        max_pool_connections=max(10, threads),
    )
    # Given here, so that it is not built from its twenty parts again, twice a request: that is a
    # tenth of the CPU of a call.
    user_agent = Config(user_agent=f"credits botocore/{botocore_version}")
    connection.session.set_default_client_config(user_agent)
    # With the session and not the client: the SDK's own answer must come after ours.
    connection.session.register("needs-retry.dynamodb", ask_again)  # type: ignore[arg-type]  # it may answer
    keys = Keys(access_key, secret_key) if access_key and secret_key else None
    shaped: Any = SdkShaped(_wire(region, threads, endpoint_url, keys))
    connection._client = shaped  # noqa: SLF001 - it takes any client only there
    return connection


def _wire(region: str, threads: int, endpoint_url: str | None, keys: Keys | None) -> Client:
    """A wire with the limits of the SDK's client."""
    transport = Transport(
        endpoint_of(region, endpoint_url),
        CONNECT_TIMEOUT_SECONDS,
        READ_TIMEOUT_SECONDS,
        most_kept=max(10, threads),
    )
    return Client(
        region,
        transport,
        (lambda: keys) if keys else Found(),
        lambda code, attempt: ask_again(
            response=(None, {"Error": {"Code": code}}), attempts=attempt
        ),
    )


def describe(
    connection: Connection, table: str, keys: tuple[str, ...], **indexes: tuple[str, str]
) -> None:
    """Tells PynamoDB the keys (all strings) of a table and its indexes, so it need not ask AWS."""
    names = {*keys, *(name for index in indexes.values() for name in index)}
    connection.add_meta_table(
        MetaTable(
            {
                "TableName": table,
                "KeySchema": _schema(keys),
                "AttributeDefinitions": [
                    {"AttributeName": name, "AttributeType": "S"} for name in sorted(names)
                ],
                "GlobalSecondaryIndexes": [
                    {"IndexName": name, "KeySchema": _schema(index)}
                    for name, index in indexes.items()
                ],
            }
        )
    )


def _schema(keys: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": kind}
        for name, kind in zip(keys, ("HASH", "RANGE"), strict=False)
    ]


def races(pause: Pause) -> Iterator[int]:
    """Bounded attempts at a race with other writers; every lost race is counted."""
    for attempt in attempts(pause):
        if attempt:
            count(Metric.CONFLICTS_RETRIED)
        yield attempt


def text(value: str) -> dict[str, str]:
    """A string attribute."""
    return {"S": value}


def number(value: int) -> dict[str, str]:
    """A number attribute."""
    return {"N": str(value)}


def every_item(ask: Callable[..., Any], **request: Any) -> Iterator[Item]:
    """The items of a query or a scan; no page is read before its first item is wanted."""
    while True:
        response = ask(**request)
        yield from response["Items"]
        after = response.get("LastEvaluatedKey")
        if not after:
            return
        request["ExclusiveStartKey"] = after


def every_item_from(ask: Callable[..., Any], start: Item, **request: Any) -> Iterator[Item]:
    """Every item of a scan once, in the table's own order, beginning behind the key ``start``.

    No item needs to have that key: it only says where in the table to begin.
    """
    seen: set[tuple[str, ...]] = set()
    # From that place to the end of the table, and then from its beginning.
    for place in ({"ExclusiveStartKey": start}, {}):
        for item in every_item(ask, **request, **place):
            key = tuple(item[name]["S"] for name in start)
            if key not in seen:
                seen.add(key)
                yield item


def read_many(
    connection: Connection,
    table: str,
    keys: list[Item],
    pause: Pause,
    *,
    called: str,
    consistent: bool,
) -> Iterator[Item]:
    """The existing items of some keys, in no order. ``called``: a word for these items.

    Keys that DynamoDB leaves unprocessed are read again. Raises `Contention` if it never answers.
    """
    client: Any = connection.client  # more than its annotation says
    for start in range(0, len(keys), MOST_KEYS_A_BATCH):
        missing = keys[start : start + MOST_KEYS_A_BATCH]
        for _ in attempts_for_room(pause):
            response = client.batch_get_item(
                RequestItems={table: {"Keys": missing, "ConsistentRead": consistent}},
                ReturnConsumedCapacity="TOTAL",
            )
            yield from response["Responses"].get(table, ())
            missing = response["UnprocessedKeys"].get(table, {}).get("Keys")
            if not missing:
                break
        else:
            raise Contention(f"{len(missing)} {called} could not be read at the moment")


def end_of_page(response: Mapping[str, Any], name: str) -> str | None:
    """The key attribute after which the next page of a query or scan begins, None for the last.

    Only DynamoDB knows which page is the last. A page ends at 1 MB whatever its limit, so more
    pages can follow a short or empty one
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html).
    """
    key = response.get("LastEvaluatedKey")
    end: str | None = key[name]["S"] if key else None
    return end
