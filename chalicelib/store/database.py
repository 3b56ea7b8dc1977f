"""The one client of DynamoDB in a process, and the functions that all stores share.

Here and in the stores, requests are written as DynamoDB's API has them. They go through our own
wire: the SDK takes ten times as long to send one, and as long again to be imported
(bench/README.md).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from chalicelib.domain.errors import Contention
from chalicelib.metrics import Metric, count
from chalicelib.retries import Pause, attempts

from .throttling import ask_again, attempts_for_room
from .wire.client import Client
from .wire.credentials import Found
from .wire.endpoints import endpoint_of
from .wire.signing import Keys
from .wire.transport import Transport

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's API has it: attribute name to type and value."""

Request = dict[str, Any]
"""The parameters of an operation, by DynamoDB's names."""

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5

MOST_KEYS_A_BATCH = 100
"""The most keys of one BatchGetItem (DynamoDB's limit)."""


def connect(
    region: str,
    threads: int = 1,
    *,
    endpoint_url: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
) -> Client:
    """A client for a number of threads.

    Endpoint and credentials are found as the SDK finds them, unless they are given.
    """
    transport = Transport(
        endpoint_of(region, endpoint_url),
        CONNECT_TIMEOUT_SECONDS,
        READ_TIMEOUT_SECONDS,
        most_kept=max(10, threads),
    )
    keys = Keys(access_key, secret_key) if access_key and secret_key else None
    return Client(region, transport, (lambda: keys) if keys else Found(), ask_again)


def races(pause: Pause) -> Iterator[int]:
    """Bounded attempts to win a race with other writers; every lost race is counted."""
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


def read_item(client: Client, table: str, key: Item) -> Item | None:
    """The item of a key as of now (strongly consistent); None if there is no such item."""
    response = client.call(
        "GetItem",
        {
            "TableName": table,
            "Key": key,
            "ConsistentRead": True,
            "ReturnConsumedCapacity": "TOTAL",
        },
    )
    return response.get("Item")


def delete_item(client: Client, table: str, key: Item, condition: Request | None = None) -> None:
    """Removes an item, if it is there; ``condition``: see `conditions.when`."""
    request = {"TableName": table, "Key": key, "ReturnConsumedCapacity": "TOTAL"}
    client.call("DeleteItem", request | (condition or {}))


def every_item(client: Client, operation: str, request: Request) -> Iterator[Item]:
    """The items of a ``Query`` or a ``Scan``; each page is read when its first item is wanted."""
    request = {**request, "ReturnConsumedCapacity": "TOTAL"}
    while True:
        response = client.call(operation, request)
        yield from response["Items"]
        after = response.get("LastEvaluatedKey")
        if not after:
            return
        request["ExclusiveStartKey"] = after


def every_item_from(client: Client, start: Item, request: Request) -> Iterator[Item]:
    """Every item of a scan once, in the table's own order, beginning after the key ``start``.

    No item needs to have that key: it only says where in the table to begin.
    """
    seen: set[tuple[str, ...]] = set()
    # From that place to the end of the table, then from its beginning.
    for place in ({"ExclusiveStartKey": start}, {}):
        for item in every_item(client, "Scan", request | place):
            key = tuple(item[name]["S"] for name in start)
            if key not in seen:
                seen.add(key)
                yield item


def read_many(
    client: Client,
    table: str,
    keys: list[Item],
    pause: Pause,
    *,
    called: str,
    consistent: bool,
) -> Iterator[Item]:
    """The existing items of some keys, in no order. ``called``: a word for these items.

    Keys that DynamoDB leaves unprocessed are read again. Raises `Contention` if some stay
    unprocessed.
    """
    for start in range(0, len(keys), MOST_KEYS_A_BATCH):
        missing = keys[start : start + MOST_KEYS_A_BATCH]
        for _ in attempts_for_room(pause):
            request = {table: {"Keys": missing, "ConsistentRead": consistent}}
            response = client.call(
                "BatchGetItem", {"RequestItems": request, "ReturnConsumedCapacity": "TOTAL"}
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
