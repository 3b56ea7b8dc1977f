"""The table of edits: a record for each edit of a subscription, inserted with it and never changed.

Keys of table ``edits``: partition ``user_id``, sort ``edit``, which is ``<version>#<id>``, the
version as 12 digits. The newest record is the last, and each attempt at an edit has its own key.
The record is inserted in the transaction that makes the edit (`store.subscriptions`), so an edit
was made if and only if its record exists.
"""

from collections.abc import Iterator
from typing import NamedTuple

from chalicelib.domain.damage import value_of
from chalicelib.domain.edits import Edit

from .database import Item, Request, delete_item, end_of_page, every_item, read_item, text
from .partiql import Statement, insert
from .reading import as_text, read
from .wire.client import Client

KEY = r"\d{12}#[0-9a-f]{1,32}"
"""The form of a sort key."""


class EditsPage(NamedTuple):
    """Records of edits as stored, newest first, and the key to go on after (None: the end)."""

    items: list[Item]
    last_key: str | None


class EditStore:
    """All access to the table of edits."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def insertion(self, edit: Edit, key: str) -> Statement:
        """The statement that inserts the record of an edit, for the transaction of the edit."""
        item = {**_key(edit.user_id, key), "body": text(edit.body())}
        return insert(self._table, item)

    def was_made(self, user_id: str, key: str) -> bool:
        """Whether the edit of that key was made (strongly consistent)."""
        return read_item(self._client, self._table, _key(user_id, key)) is not None

    def newest_first(self, user_id: str, before: str | None, limit: int) -> EditsPage:
        """A page of a user's edits before a given one, as stored; for `read_edit` to read."""
        request = self._newest_first(user_id) | {"Limit": limit, "ReturnConsumedCapacity": "TOTAL"}
        if before:
            request["ExclusiveStartKey"] = _key(user_id, before)
        response = self._client.call("Query", request)
        return EditsPage(response["Items"], end_of_page(response, "edit"))

    def items(self, user_id: str) -> Iterator[Item]:
        """Every record of a user as it is stored, newest first."""
        return every_item(self._client, "Query", self._newest_first(user_id))

    def erase(self, user_id: str) -> Iterator[str]:
        """Removes a user's records one by one; yields the key of each. Doing it again is safe.

        Records never change, so no condition on their content is needed.
        """
        for item in self.items(user_id):
            delete_item(self._client, self._table, _key(user_id, item["edit"]["S"]))
            yield item["edit"]["S"]

    def _newest_first(self, user_id: str) -> Request:
        """The query of all edits of a user."""
        return {
            "TableName": self._table,
            "KeyConditionExpression": "user_id = :user",
            "ExpressionAttributeValues": {":user": text(user_id)},
            "ConsistentRead": True,
            "ScanIndexForward": False,
        }


def _key(user_id: str, key: str) -> Item:
    return {"user_id": text(user_id), "edit": text(key)}


def key_of(version: int, edit_id: str) -> str:
    """The sort key of the edit that makes a version."""
    return f"{version:012}#{edit_id}"


def read_edit(item: Item) -> Edit:
    """The record of an edit as the table has it. Raises `Unreadable`."""
    user_id, key = item["user_id"]["S"], item["edit"]["S"]
    return read("edit", f"user {user_id}, {key}", item, _edit)


def _edit(item: Item) -> Edit:
    user_id = item["user_id"]["S"]
    return value_of(item, "body", lambda body: Edit.from_body(user_id, as_text(body)))
