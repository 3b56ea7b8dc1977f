"""Bugs to plant: what the audit must find, or it proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from chalicelib.domain import holds, ledger
from chalicelib.store import partiql
from chalicelib.store.database import Item
from chalicelib.store.ledger import Draft, Inserted, LedgerStore


def _entries_without_condition() -> AbstractContextManager[Any]:
    """An entry is put whatever is there: alone, in a transaction, and in a batch."""

    def append(self: LedgerStore, item: Item) -> bool:
        self._client.call("PutItem", {"TableName": self._table, "Item": item})
        return True

    def transact(self: LedgerStore, items: Sequence[Item]) -> None:
        puts = [{"Put": {"TableName": self._table, "Item": item}} for item in items]
        self._client.call("TransactWriteItems", {"TransactItems": puts})

    stack = ExitStack()
    stack.enter_context(patch.multiple(LedgerStore, _append=append, _transact=transact))
    stack.enter_context(_batches_without_condition())
    return stack


def _batches_without_condition() -> AbstractContextManager[Any]:
    """An entry of a batch is put whatever is there, and nothing else."""

    def insert(self: LedgerStore, drafts: Sequence[Draft]) -> Inserted:
        for each in drafts:
            self._client.call("PutItem", {"TableName": self._table, "Item": each.item})
        return Inserted(list(drafts), [], [])

    return patch.object(LedgerStore, "insert", insert)


def _versions_without_condition() -> AbstractContextManager[Any]:
    """A subscription is put whatever its version."""

    original = partiql.update

    def update_any(table: str, changed: Any, removed: Any, where: Any) -> Any:
        return original(table, changed, removed, {"user_id": where["user_id"]})

    return patch.object(partiql, "update", update_any)


def _keys_forgotten() -> AbstractContextManager[Any]:
    """No operation leaves its marker, so that each can be done again."""
    original = LedgerStore._transact

    def transact(self: LedgerStore, items: Sequence[Any]) -> None:
        original(self, [item for item in items if item["entry"]["S"] != "operation"])

    return patch.object(LedgerStore, "_transact", transact)


def _holds_overlooked() -> AbstractContextManager[Any]:
    """A use or a hold does not look at what is held."""
    original = holds.spendable
    return patch.object(ledger, "spendable", lambda batches, _, now: original(batches, (), now))


PLANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "entries-without-condition": _entries_without_condition,
    "batches-without-condition": _batches_without_condition,
    "versions-without-condition": _versions_without_condition,
    "keys-forgotten": _keys_forgotten,
    "holds-overlooked": _holds_overlooked,
}
