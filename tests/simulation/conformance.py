"""The calls the product makes of DynamoDB, at random, sent to two of them: the answers must agree.

What is compared is what the product looks at: items, the pages they come on, codes of errors,
reasons of cancelled transactions. The first call that is answered differently is named.
"""

import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.store import partiql
from tests.simulation.aws import Table

Json = dict[str, Any]
Call = tuple[str, Json]

BUCKET = "conformance"

MAIL_IS_FREE = (
    "attribute_not_exists(#id) OR #expiry < :now OR "
    "(#status = :inprogress AND attribute_exists(#running) AND #running < :now)"
)


def text(value: str) -> Json:
    return {"S": value}


def number(value: int) -> Json:
    return {"N": str(value)}


class Calls:
    """Random calls to the tables of a stage, about a few keys, so that they meet.

    ``owner`` is in every partition key: what others keep in the same tables does not interfere.
    """

    def __init__(self, seed: int, stage: str, owner: str) -> None:
        self._random = random.Random(seed)
        self._ledger = f"credits-{stage}-ledger"
        self._subscriptions = f"credits-{stage}-subscriptions"
        self._edits = f"credits-{stage}-edits"
        self._mails = f"credits-{stage}-mails"
        self._owner = owner
        self._kinds: tuple[Callable[[], Call], ...] = (
            self._insert_entry,
            self._insert_entries,
            self._transact,
            self._transact_get,
            self._query_entries,
            self._query_expiring,
            self._edit_subscription,
            self._edit_subscription,
            self._delete_subscription,
            self._query_zone,
            self._get_many,
            self._get_entry,
            self._put_mail,
            self._update_mail,
            self._delete_mail,
            self._scan,
        )

    def some(self, count: int) -> Iterator[Call]:
        for _ in range(count):
            yield self._random.choice(self._kinds)()

    def of_many_bytes(self) -> Iterator[Call]:
        """A user with entries of more bytes than a page takes, read from either end."""
        user = {"user_id": text(f"{self._owner}-many")}
        for place in range(1, 8):
            size = self._random.choice((100_000, 200_000, 350_000))
            entry = {"entry": text(f"entry#{place:012}"), "body": text("x" * size)}
            yield "put_item", {"TableName": self._ledger, "Item": {**user, **entry}}
        for is_forward in (True, False):
            for limit in (2, 25, 1000):
                of_user = (user["user_id"]["S"], "entry#", "entry$")
                yield self._entries(*of_user, Limit=limit, ScanIndexForward=is_forward)

    def _entries(self, user_id: str, first: str, last: str, **more: object) -> Call:
        values = {":user": text(user_id), ":first": text(first), ":last": text(last)}
        return "query", {
            "TableName": self._ledger,
            "KeyConditionExpression": "user_id = :user AND entry BETWEEN :first AND :last",
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
            **more,
        }

    def of_objects(self, count: int) -> Iterator[Call]:
        """Calls to a bucket: objects that are put, put anew, read and listed."""
        for _ in range(count):
            key = f"{self._random.choice(('heads/', 'digests/'))}{self._random.randint(1, 3)} &.gz"
            body = self._random.randbytes(3)
            operation, asked = self._random.choice(
                (
                    ("put_object", {"Key": key, "Body": body}),
                    ("put_object", {"Key": key, "Body": body, "IfNoneMatch": "*"}),
                    ("get_object", {"Key": key}),
                    ("list_objects_v2", {"Prefix": key[:6]}),
                )
            )
            yield operation, {"Bucket": BUCKET, **asked}

    # --- The ledger -------------------------------------------------------------------------------

    def _user(self) -> str:
        return f"{self._owner}-{self._random.choice('ab')}"

    def _entry(self) -> Json:
        entry = {
            "user_id": text(self._user()),
            "entry": text(f"entry#{self._random.randint(1, 5):012}"),
            "body": text(self._random.choice(("{}", '{"amount":1}', "größer"))),
            "hash": text(str(self._random.randint(1, 3))),
        }
        if self._random.random() < 0.5:
            month, rest = self._random.randint(1, 3), self._random.random()
            entry["expiry_partition"] = text(f"{self._owner}-zone#00")
            entry["expiry_key"] = text(f"2026-0{month}-01#{rest}")
        return entry

    def _insert_entry(self) -> Call:
        return "execute_statement", self._insertion(self._entry())

    def _insert_entries(self) -> Call:
        entries = {str(item["entry"]): item for item in (self._entry() for _ in range(3))}
        statements = [self._insertion(item) for item in entries.values()]
        return "batch_execute_statement", {"Statements": statements}

    def _insertion(self, item: Json) -> Json:
        return partiql.insert(self._ledger, item)

    def _transact(self) -> Call:
        marker = {
            "user_id": text(f"operation#{self._owner}#{self._random.randint(1, 4)}"),
            "entry": text("operation"),
            "number": number(self._random.randint(1, 3)),
        }
        items = [self._entry(), marker]
        if self._random.random() < 0.1:
            items.append(marker)  # one item twice: against the rules
        return self._transaction(*(self._insertion(item) for item in items))

    def _transaction(self, *statements: Json) -> Call:
        token = f"{self._owner}-{self._random.randint(1, 10**9)}"
        asked = {"TransactStatements": [*statements], "ClientRequestToken": token}
        return "execute_transaction", asked

    def _transact_get(self) -> Call:
        key = f"operation#{self._owner}#{self._random.randint(1, 4)}"
        wanted = {"user_id": text(key), "entry": text("operation")}
        get = {"Get": {"TableName": self._ledger, "Key": wanted}}
        return "transact_get_items", {"TransactItems": [get]}

    def _get_entry(self) -> Call:
        entry = self._entry()
        key = {"user_id": entry["user_id"], "entry": entry["entry"]}
        if self._random.random() < 0.1:
            key[self._random.choice([*key])] = text("")  # against the rules
        return "get_item", {"TableName": self._ledger, "Key": key, "ConsistentRead": True}

    def _query_entries(self) -> Call:
        first, last = sorted(self._random.randint(0, 6) for _ in range(2))
        return self._entries(
            self._user(),
            f"entry#{first:012}" if first else "entry#",
            f"entry#{last:012}" if last < 6 else "entry$",
            Limit=self._random.choice((1, 2, 250)),
            ScanIndexForward=self._random.random() < 0.5,
        )

    def _query_expiring(self) -> Call:
        first, last = sorted(self._random.randint(1, 3) for _ in range(2))
        return "query", {
            "TableName": self._ledger,
            "IndexName": "expiring",
            "KeyConditionExpression": "#0 = :0 AND #1 BETWEEN :1 AND :2",
            "ExpressionAttributeNames": {"#0": "expiry_partition", "#1": "expiry_key"},
            "ExpressionAttributeValues": {
                ":0": text(f"{self._owner}-zone#00"),
                ":1": text(f"2026-0{first}-01$" if first > 1 else "2026-01-01"),
                ":2": text(f"2026-0{last}-01$"),
            },
            "Limit": self._random.choice((1, 2, 100)),
        }

    # --- Subscriptions ----------------------------------------------------------------------------

    def _edit_subscription(self) -> Call:
        """An edit and its record, as the product makes them."""
        version = self._random.randint(1, 3)
        user = {"user_id": text(self._user())}
        index = {
            "allocation_timezone": text(f"{self._owner}-zone"),
            "spread": text(self._spread(user["user_id"]["S"])),
        }
        is_swept = self._random.random() < 0.7
        record = {
            **user,
            "edit": text(f"{version:012}#{self._random.choice('ab')}"),
            "body": text("{}"),
        }
        changed = {"version": number(version), **(index if is_swept else {})}
        edit = (
            partiql.insert(self._subscriptions, {**user, **changed})
            if version == 1
            else partiql.update(
                self._subscriptions,
                changed,
                () if is_swept else index,
                {**user, "version": number(version - 1)},
            )
        )
        return self._transaction(partiql.insert(self._edits, record), edit)

    @staticmethod
    def _spread(user_id: str) -> str:
        """Some are in the first half of their zone, and some share a place."""
        return f"{zlib.crc32(user_id.encode()) & 0xC0000000:08x}#{user_id}"

    def _delete_subscription(self) -> Call:
        key = {"user_id": text(self._user())}
        wanted: Json = {"TableName": self._subscriptions, "Key": key}
        if self._random.random() < 0.5:
            wanted |= {
                "ConditionExpression": "#0 = :0",
                "ExpressionAttributeNames": {"#0": "version"},
                "ExpressionAttributeValues": {":0": number(self._random.randint(1, 3))},
            }
        return "delete_item", wanted

    def _scan(self) -> Call:
        limit = self._random.choice((1, 2, 100))
        wanted = {"TableName": self._subscriptions, "Limit": limit, "ConsistentRead": True}
        if self._random.random() < 0.5:
            wanted |= {
                "ProjectionExpression": "user_id, #1",
                "ExpressionAttributeNames": {"#1": "spread"},
            }
        return "scan", wanted

    def _query_zone(self) -> Call:
        values = {":0": text(f"{self._owner}-zone")}
        names = {"#0": "allocation_timezone"}
        condition = "#0 = :0"
        if self._random.random() < 0.8:
            # A range of a zone, or what is behind a user in it.
            condition += " AND #1 BETWEEN :1 AND :2"
            lower = self._random.choice(("00000000#", f"{self._spread(self._user())}\0"))
            values |= {
                ":1": text(lower),
                ":2": text(self._random.choice(("7fffffff$", "ffffffff$"))),
            }
            if lower > values[":2"]["S"]:
                del values[":2"]
                condition = "#0 = :0 AND #1 > :1"
            names["#1"] = "spread"
        return "query", {
            "TableName": self._subscriptions,
            "IndexName": "by_timezone",
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "Limit": self._random.choice((1, 2, 100)),
        }

    def _get_many(self) -> Call:
        users = [self._user() for _ in range(self._random.randint(1, 2))]
        wanted = {"Keys": [{"user_id": text(user)} for user in users], "ConsistentRead": True}
        return "batch_get_item", {"RequestItems": {self._subscriptions: wanted}}

    # --- Emails -----------------------------------------------------------------------------------

    def _mail(self) -> Json:
        return {"id": text(f"mail#{self._owner}#{self._random.randint(1, 2)}")}

    def _put_mail(self) -> Call:
        item = {
            **self._mail(),
            "expiration": number(self._random.randint(1, 9)),
            "status": text(self._random.choice(("INPROGRESS", "COMPLETED"))),
        }
        if self._random.random() < 0.5:
            item["in_progress_expiration"] = number(self._random.randint(1, 9))
        return "put_item", {
            "TableName": self._mails,
            "Item": item,
            "ConditionExpression": MAIL_IS_FREE,
            "ExpressionAttributeNames": {
                "#id": "id",
                "#expiry": "expiration",
                "#status": "status",
                "#running": "in_progress_expiration",
            },
            "ExpressionAttributeValues": {
                ":now": number(self._random.randint(1, 9)),
                ":inprogress": text("INPROGRESS"),
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _update_mail(self) -> Call:
        wanted: Json = {
            "TableName": self._mails,
            "Key": self._mail(),
            "UpdateExpression": "SET #data = :data, #status = :status",
            "ExpressionAttributeNames": {"#data": "data", "#status": "status"},
            "ExpressionAttributeValues": {":data": text("{}"), ":status": text("COMPLETED")},
        }
        if self._random.random() < 0.5:
            wanted["ConditionExpression"] = "attribute_not_exists(#data) AND #status < :status"
        return "update_item", wanted

    def _delete_mail(self) -> Call:
        return "delete_item", {"TableName": self._mails, "Key": self._mail()}


def answer(client: Any, operation: str, asked: Json) -> Json:
    """What the product would see of an answer; of a query or a scan, all pages."""
    try:
        found = getattr(client, operation)(**asked)
        if operation not in _SEEN:
            return {"item": found.get("Item")}
        return _SEEN[operation](client, asked, found)
    except ClientError as error:
        said: Json = dict(error.response)
        given = said.get("CancellationReasons", ())
        reasons = [(reason["Code"], reason.get("Item")) for reason in given]
        return {"error": said["Error"]["Code"], "item": said.get("Item"), "reasons": reasons}


def _items(found: Iterable[Json]) -> list[Json]:
    return sorted(found, key=json.dumps)


_SEEN: dict[str, Callable[[Any, Json, Json], Json]] = {
    "batch_execute_statement": lambda _client, _asked, found: {
        "errors": [each.get("Error", {}).get("Code") for each in found["Responses"]]
    },
    "batch_get_item": lambda _client, _asked, found: {
        "items": _items(item for items in found["Responses"].values() for item in items),
        "left": found.get("UnprocessedKeys", {}),
    },
    "get_object": lambda _client, _asked, found: {"body": found["Body"].read()},
    "list_objects_v2": lambda _client, _asked, found: {
        "keys": [each["Key"] for each in found.get("Contents", ())]
    },
    "query": lambda client, asked, found: {"pages": _pages(client.query, asked, found)},
    # In whatever order.
    "scan": lambda client, asked, found: {
        "items": _items(item for page in _pages(client.scan, asked, found) for item in page)
    },
    "transact_get_items": lambda _client, _asked, found: {
        "items": [response.get("Item") for response in found["Responses"]]
    },
}


def _pages(ask: Callable[..., Json], asked: Json, page: Json) -> list[list[Json]]:
    """Pages that have items: whether an empty one follows is for each database to decide."""
    pages = [page["Items"]]
    while "LastEvaluatedKey" in page:
        page = ask(**asked, ExclusiveStartKey=page["LastEvaluatedKey"])
        pages.append(page["Items"])
    return [items for items in pages if items]


def difference(first: Any, second: Any, calls: Iterator[Call]) -> str | None:
    """The first call that two databases answer differently, None when they agree on all."""
    for place, (operation, asked) in enumerate(calls, 1):
        ours, theirs = answer(first, operation, asked), answer(second, operation, asked)
        if ours != theirs:
            return f"call {place}: {operation} {asked}\nours:   {ours}\ntheirs: {theirs}"
    return None


def create_tables(client: Any, tables: Iterable[Table]) -> None:
    """The same tables elsewhere."""
    for table in tables:
        names = {*table.keys, *(name for keys in table.indexes.values() for name in keys)}
        asked: Json = {
            "TableName": table.name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for name in sorted(names)
            ],
            "KeySchema": _schema(table.keys),
        }
        if table.indexes:
            only_keys = {"ProjectionType": "KEYS_ONLY"}
            asked["GlobalSecondaryIndexes"] = [
                {"IndexName": name, "KeySchema": _schema(keys), "Projection": only_keys}
                for name, keys in table.indexes.items()
            ]
        client.create_table(**asked)


def _schema(keys: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": kind}
        for name, kind in zip(keys, ("HASH", "RANGE"), strict=False)
    ]
