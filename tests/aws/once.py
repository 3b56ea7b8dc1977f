"""What moto does again for every test and every request, done once.

All of it depends on nothing that a test changes: how moto names things, and the empty tables,
queues and buckets. What moto does for a whole table, a transaction's backup and the search for what
a query is about, is done for those keys that are named.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from moto.backends import get_backend
from moto.core import utils as names
from moto.core.custom_responses_mock import CallbackResponse
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.serialize import ResponseSerializer, XFormedAttributePicker
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table

_possible_keys = XFormedAttributePicker.get_possible_keys
_value = ResponseSerializer.get_value
_query = Table.query
_transact_write_items = DynamoDBBackend.transact_write_items
_underscored = cache(names.camelcase_to_underscores)
_callback = cache(CallbackResponse)
_methods = cache(names.method_names_from_class)
_keys: dict[tuple[Any, ...], tuple[str, ...]] = {}
_touched: ContextVar[Mapping[str, set[DynamoType]] | None] = ContextVar("touched", default=None)
"""By table, the partition keys of the transaction that is being carried out."""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has moto remember what it has worked out. Call it before moto is started."""
    monkeypatch.setattr("moto.core.models.CallbackResponse", _callback)
    for module in ("moto.core.responses", "moto.sqs.models"):
        monkeypatch.setattr(f"{module}.camelcase_to_underscores", _underscored)
    monkeypatch.setattr("moto.core.responses.method_names_from_class", _methods)
    monkeypatch.setattr(XFormedAttributePicker, "get_possible_keys", _remembered_keys)
    monkeypatch.setattr(ResponseSerializer, "get_value", _value_of_name)
    monkeypatch.setattr(DynamoDBBackend, "transact_write_items", _backed_up_in_part)
    monkeypatch.setattr("moto.dynamodb.models.copy", SimpleNamespace(deepcopy=_copied))
    monkeypatch.setattr(Table, "query", _query_of_key)
    # Nobody reads what is signed, nor the names of requests.
    monkeypatch.setattr("botocore.auth.SigV4Auth.canonical_request", lambda *_: "")
    monkeypatch.setattr("moto.core.responses.gen_amzn_requestid_long", lambda _: "a-request")


def _remembered_keys(picker: XFormedAttributePicker, context: Any) -> tuple[str, ...]:
    """By which names a member of an answer may be found in an object of a class."""
    place = (context.shape, context.key, type(context.obj))
    found = _keys.get(place)
    if found is None:
        found = _keys[place] = tuple(_possible_keys(picker, context))
    return found


def _value_of_name(serializer: Any, value: Any, key: str, shape: Any) -> Any:
    """The member of an answer; most members of most answers are not there."""
    names = _keys.get((shape, key, dict)) if type(value) is dict else None
    if names is None or serializer._value_picker.response_transformers:
        return _value(serializer, value, key, shape)
    for name in names:
        if name in value:
            return value[name]
    return None


def _query_of_key(
    table: Table, key: DynamoType, *words: Any, **named: Any
) -> tuple[list[Any], int, dict[str, Any] | None]:
    """A query, which looks at the items of its key only; those of an index are found as ever."""
    index_name = words[6]
    if index_name is None:
        table = _with_items(table, {key: table.items[key]} if key in table.items else {})
    found: tuple[list[Any], int, dict[str, Any] | None] = _query(table, key, *words, **named)
    return found


def _backed_up_in_part(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    """A transaction, which backs up those items that have a key in it, before it changes any."""
    touched: dict[str, set[DynamoType]] = defaultdict(set)
    for (part,) in (item.values() for item in transact_items):
        name = part["TableName"]
        key = part.get("Key") or part["Item"]
        touched[name].add(DynamoType(key[backend.tables[name].hash_key_attr]))
    # Of this thread: others have transactions of their own at the same time.
    token = _touched.set(touched)
    try:
        _transact_write_items(backend, transact_items)
    finally:
        _touched.reset(token)


def _copied(value: Any) -> Any:
    """A deep copy; of a table within a transaction, only of what that one touches."""
    touched = _touched.get()
    if touched is None or not isinstance(value, Table):
        return copy.deepcopy(value)
    backup = _with_items(value, value.items.copy())
    for key in touched[value.name] & value.items.keys():
        backup.items[key] = copy.deepcopy(value.items[key])
    return backup


def _with_items(table: Table, items: Any) -> Table:
    """The same table, with other items."""
    other: Table = copy.copy(table)
    other.items = items
    return other


class Stacks:
    """The stacks of a region that were made already, as they were when they were empty."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._made: dict[str, tuple[dict[str, Any], list[str], dict[str, Any]]] = {}

    def make(self, prefix: str, create: Callable[[], None]) -> None:
        """What ``create`` makes, whose names begin so; there is nothing of these names yet."""
        dynamodb, sqs, s3 = self._backends()
        for made in (dynamodb.tables, sqs.queues, s3.buckets):
            assert not any(name.startswith(prefix) for name in made), "there is one already"
        if prefix not in self._made:
            create()
            self._made[prefix] = (
                copy.deepcopy(_of(prefix, dynamodb.tables)),
                list(_of(prefix, sqs.queues)),
                copy.deepcopy(_of(prefix, s3.buckets)),
            )
            return
        tables, queues, buckets = self._made[prefix]
        accounts: dict[str, Any] = getattr(get_backend("s3"), "bucket_accounts")  # noqa: B009
        dynamodb.tables |= copy.deepcopy(tables)
        for queue in queues:
            sqs.create_queue(queue)
        for name, bucket in copy.deepcopy(buckets).items():
            s3.buckets[name] = bucket
            accounts[name] = (bucket.partition, bucket.account_id)

    def _backends(self) -> tuple[Any, Any, Any]:
        account = [get_backend(name)[DEFAULT_ACCOUNT_ID] for name in ("dynamodb", "sqs", "s3")]
        return account[0][self._region], account[1][self._region], account[2]["aws"]


def _of(prefix: str, made: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in made.items() if name.startswith(prefix)}
