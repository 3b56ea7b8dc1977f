"""The table of facts about Stripe's customers and payments.

Keys of table ``stripe``: partition ``about``, sort ``part``.

    customer#cus_1   -          the user who is this customer, and their address
    payment#pi_1     -          what was refunded and disputed of a payment, in money
    waiting          sub_1      what cannot be done yet, and why; deleted after 30 days

An item is written on the condition that it is still the one that was read, so of two simultaneous
events none is lost. The user of a customer is set once and never changed.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from chalicelib.domain.damage import optional_of, value_of
from chalicelib.domain.errors import Contention
from chalicelib.domain.instants import to_milliseconds
from chalicelib.domain.languages import Language, closest
from chalicelib.domain.taken_back import TakenBack
from chalicelib.retries import Pause, pause_with_jitter

from .conditions import is_still, when
from .database import Item, delete_item, every_item, number, races, read_item, text
from .reading import as_instant, as_text, as_whole, read
from .wire.client import Client
from .wire.errors import ServiceError

KEPT = timedelta(days=30)
"""How long waiting objects are kept: as long as Stripe can send an event again."""

_WHOLE = "-"
_WAITING = "waiting"

Value = TypeVar("Value")


class Customer(NamedTuple):
    """What we know of a customer; ``language``: that of their invoices."""

    user_id: str | None = None
    email: str | None = None
    language: Language | None = None

    def with_more(self, said: "Customer") -> "Customer":
        """The knowledge after an event said more; known values stay.

        If it says that the customer is another user, nothing is learned.
        """
        if self.user_id and said.user_id and self.user_id != said.user_id:
            return self
        return Customer(
            self.user_id or said.user_id,
            self.email or said.email,
            self.language or said.language,
        )


class Wait(NamedTuple):
    """An object of Stripe with an event that cannot be done yet.

    ``event_type`` and ``why`` are those of the latest event, ``since`` is when the first came.
    """

    object_id: str
    event_type: str
    why: str
    since: datetime
    latest: datetime


class StripeStore:
    """All access to the table."""

    def __init__(self, client: Client, table: str, pause: Pause = pause_with_jitter) -> None:
        self._client = client
        self._table = table
        self._pause = pause

    def customer(self, customer_id: str) -> Customer:
        """What we know of a customer (strongly consistent). Raises `Unreadable`."""
        item = self._item(f"customer#{customer_id}", _WHOLE)
        return read("stripe", customer_id, item, _customer) if item else Customer()

    def learn(self, customer_id: str, said: Customer) -> Customer:
        """Adds what an event said of a customer, and returns everything known then.

        Known values stay. Raises `Contention`.
        """
        return self._change(
            f"customer#{customer_id}",
            _customer,
            Customer(),
            lambda known: known.with_more(said),
            _customer_attributes,
        )

    def payment(self, payment_id: str) -> TakenBack:
        """What was taken back of a payment (strongly consistent). Raises `Unreadable`."""
        item = self._item(f"payment#{payment_id}", _WHOLE)
        return read("stripe", payment_id, item, _payment) if item else TakenBack()

    def note(self, payment_id: str, add: Callable[[TakenBack], TakenBack]) -> TakenBack:
        """Adds what was taken back of a payment, or given back; returns everything known then.

        Raises `Contention`.
        """
        return self._change(
            f"payment#{payment_id}", _payment, TakenBack(), add, _payment_attributes
        )

    def wait(self, object_id: str, event_type: str, why: str, now: datetime) -> None:
        """Records that an event cannot be done yet. Raises `Contention`."""

        def again(known: Wait | None) -> Wait | None:
            return Wait(object_id, event_type, why, known.since if known else now, now)

        self._change(_WAITING, _wait, None, again, _wait_attributes, part=object_id)

    def is_done(self, object_id: str) -> None:
        """Removes the record that events of an object could not be done."""
        if self._item(_WAITING, object_id) is not None:
            delete_item(self._client, self._table, _key(_WAITING, object_id))

    def waiting(self) -> Iterator[Wait]:
        """All waiting objects."""
        items = every_item(
            self._client,
            "Query",
            {
                "TableName": self._table,
                "KeyConditionExpression": "about = :waiting",
                "ExpressionAttributeValues": {":waiting": text(_WAITING)},
            },
        )
        return (read("stripe", item["part"]["S"], item, _wait) for item in items)

    def customers_of(self, user_id: str) -> Iterator[Item]:
        """Every customer who is this user, as stored; for `customer_id_of` to name.

        Reads the whole table: it has no index from users to customers.
        """
        return every_item(
            self._client,
            "Scan",
            {
                "TableName": self._table,
                "FilterExpression": "user_id = :user",
                "ExpressionAttributeValues": {":user": text(user_id)},
            },
        )

    def erase(self, user_id: str) -> Iterator[str]:
        """Removes every customer who is this user; yields their ids. Doing it again is safe."""
        for item in self.customers_of(user_id):
            key = _key(item["about"]["S"], item["part"]["S"])
            delete_item(self._client, self._table, key)
            yield customer_id_of(item)

    def _item(self, about: str, part: str) -> Item | None:
        return read_item(self._client, self._table, _key(about, part))

    def _change(
        self,
        about: str,
        reader: Callable[[Item], Value],
        unknown: Value,
        change: Callable[[Value], Value],
        attributes: Callable[[Value], Item],
        part: str = _WHOLE,
    ) -> Value:
        """Writes what ``change`` makes of an item, and tries again after each lost race.

        A lost answer does no harm: the next attempt finds the change made.
        """
        for _ in races(self._pause):
            item = self._item(about, part)
            known = read("stripe", about, item, reader) if item else unknown
            wanted = change(known)
            if wanted == known:
                return known
            version = read("stripe", about, item, _version) if item else 0
            after = {**_key(about, part), **attributes(wanted), "version": number(version + 1)}
            request = {"TableName": self._table, "Item": after, "ReturnConsumedCapacity": "TOTAL"}
            try:
                self._client.call("PutItem", request | when(is_still(item)))
            except ServiceError as error:
                if error.code != "ConditionalCheckFailedException":
                    raise
            else:
                return wanted
        raise Contention(f"what is known of {about} is written too often at the moment")


def _key(about: str, part: str) -> Item:
    return {"about": text(about), "part": text(part)}


def customer_id_of(item: Item) -> str:
    """Stripe's id of a stored customer."""
    return str(item["about"]["S"]).partition("#")[2]


def _version(item: Item) -> int:
    return value_of(item, "version", as_whole)


def _customer(item: Item) -> Customer:
    return Customer(
        optional_of(item, "user_id", as_text),
        optional_of(item, "email", as_text),
        closest(optional_of(item, "language", as_text) or ""),
    )


def _customer_attributes(customer: Customer) -> Item:
    return {name: text(value) for name, value in customer._asdict().items() if value is not None}


def _payment(item: Item) -> TakenBack:
    return value_of(item, "body", lambda body: TakenBack.from_body(as_text(body)))


def _payment_attributes(payment: TakenBack) -> Item:
    return {"body": text(payment.body())}


def _wait(item: Item) -> Wait:
    return Wait(
        value_of(item, "part", as_text),
        value_of(item, "event_type", as_text),
        value_of(item, "why", as_text),
        value_of(item, "since", as_instant),
        value_of(item, "latest", as_instant),
    )


def _wait_attributes(wait: Wait | None) -> Item:
    assert wait is not None  # noqa: S101 - what waits is written, and never nothing
    return {
        "event_type": text(wait.event_type),
        "why": text(wait.why),
        "since": number(to_milliseconds(wait.since)),
        "latest": number(to_milliseconds(wait.latest)),
        # DynamoDB removes it then; its clock counts seconds.
        "expires_at": number(to_milliseconds(wait.latest + KEPT) // 1000),
    }
