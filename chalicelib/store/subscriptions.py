"""The subscriptions table: one item a user, edited under optimistic locking.

Keys of table ``subscriptions``: partition ``user_id``. Index ``by_timezone``, keys only: partition
``allocation_timezone``, sort ``spread``, which is ``<place>#<user id>``, the place as 8 hexadecimal
digits (`domain.ranges`). So a range of a zone's users is a range of keys, and each key belongs to
one user. Index ``by_anniversary``, keys only: partition ``anniversary``, ``Europe/Paris#15``, which
is the zone and the day of the month on which the subscription started there, and the same sort key.
Exactly the active subscriptions carry these keys, whatever their plans say at the time: so
deploying other plans changes no key. Few edits write to the indexes: a move, another day of the
start, a pause and its end.

Index ``by_address``, keys only: partition ``address``, the digest of the email address, the same
for every spelling of it (`domain.addresses`); sort ``user_id``. Every subscription with an address
carries it. It is a digest because CloudTrail's data events and error reports can show keys.

An edit and its record (`store.edits`) are one transaction of two statements, so that no crash can
leave one without the other. It names only the attributes that change, so a function can have the
right to only some of them.

The wire sends a request again when the answer was lost. With the same token the second request
changes nothing and succeeds, for ten minutes
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExecuteTransaction.html). If an
edit is still refused, it looks for its record, which no other edit can have inserted:

    makes version 3, record 3#a: written, but the answer is lost
                                              another writer makes version 4, record 4#b
    makes version 3, record 3#a: refused
    reads record 3#a: it was written
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.addresses import digest_of
from chalicelib.domain.calendar import Period
from chalicelib.domain.damage import Damage, choice_of, optional_of, value_of
from chalicelib.domain.errors import Contention, InvalidInput, NotFound, Unreadable
from chalicelib.domain.fields import shown
from chalicelib.domain.instants import parse_date, stored_instant, to_milliseconds
from chalicelib.domain.languages import DEFAULT, Language, closest
from chalicelib.domain.notifications import ALL_KINDS, MailKind
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.ranges import WHOLE, Range, place_of
from chalicelib.domain.subscriptions import (
    Raised,
    SignUp,
    Subscription,
    SubscriptionStatus,
    SuppressedBecause,
    Suppression,
    TopUp,
    anniversary_of,
    instant_of,
)
from chalicelib.observability import correlation_id
from chalicelib.retries import Pause, pause_with_jitter

from . import partiql
from .contracts import as_contracts, contracts_text
from .database import (
    Item,
    Request,
    delete_item,
    end_of_page,
    every_item_from,
    number,
    races,
    read_item,
    read_many,
    text,
)
from .reading import Attribute, as_choice, as_instant, as_text, as_whole, read
from .wire.client import Client
from .wire.errors import ServiceError

if TYPE_CHECKING:
    from chalicelib.domain.edits import Edit, Editor

    from .edits import EditStore


def new_edit_id() -> str:
    """A unique name for one edit."""
    return secrets.token_hex(8)


class UsersPage(NamedTuple):
    """One page of a timezone's users, and the user id to go on after (None: the end)."""

    user_ids: list[str]
    last_user_id: str | None


class FoundPage(NamedTuple):
    """Some subscriptions as stored, and the user id to go on after (None: the end)."""

    items: list[Item]
    last_user_id: str | None


class TimezonesPage(NamedTuple):
    """Some users and their timezones, and the user id to go on after (None: the end).

    The timezone is None for a user whose item cannot be read.
    """

    timezones: dict[str, str | None]
    last_user_id: str | None


MOST_SEARCHED = 1_000
"""The most subscriptions searched for a page: a rare plan must not cost a whole table."""

SEARCHED_AT_ONCE = 250
"""How many of them one request reads: far less than the megabyte at which DynamoDB stops."""


class SubscriptionStore:
    """All access to the subscriptions table. ``edits`` gives the store of edits, for writing."""

    def __init__(
        self,
        client: Client,
        table: str,
        edits: Callable[[], "EditStore"],
        pause: Pause = pause_with_jitter,
        new_id: Callable[[], str] = new_edit_id,
    ) -> None:
        self._client = client
        self._table = table
        self._edits = edits
        self._pause = pause
        self._new_id = new_id

    def get(self, user_id: str) -> Subscription:
        """The subscription as of now (strongly consistent). Raises `NotFound`."""
        subscription = self.find(user_id)
        if subscription is None:
            raise NotFound(f"there is no user {user_id}")
        return subscription

    def find(self, user_id: str) -> Subscription | None:
        """The same, None if there is no such user."""
        item = self._read(user_id)
        return read_subscription(item) if item else None

    def get_many(self, user_ids: Iterable[str], *, consistent: bool = False) -> dict[str, Item]:
        """Existing subscriptions as stored, by user id; for `read_subscription` to read.

        They may lag behind writes by a second, unless ``consistent``, at twice the cost. Keys that
        DynamoDB leaves unprocessed are read again. Raises `Contention` if some stay unprocessed.
        """
        wanted = [_key(user_id) for user_id in dict.fromkeys(user_ids)]
        items = read_many(
            self._client,
            self._table,
            wanted,
            self._pause,
            called="subscriptions",
            consistent=consistent,
        )
        return {item["user_id"]["S"]: item for item in items}

    def change(
        self,
        user_id: str,
        decide: Callable[[Subscription | None], Subscription],
        by: "Editor",
        at: datetime,
    ) -> Subscription:
        """Writes what ``decide`` makes of the present subscription, deciding again after a race.

        The record of the edit says who made it, and when. If ``decide`` returns the present one,
        nothing is written or recorded. Raises `Contention` after bounded retries, and whatever
        ``decide`` raises.
        """
        # Readers need not import it.
        from chalicelib.domain.edits import Edit, changes

        for attempt in races(self._pause):
            present = self.find(user_id)
            wanted = decide(present)
            if wanted == present:
                return wanted
            edit = Edit(
                user_id=user_id,
                version=wanted.version,
                edited_at=at,
                editor=by,
                changes=changes(present, wanted),
                correlation_id=correlation_id(),
            )
            stood_in_the_way = self._write(wanted, present, edit)
            if not stood_in_the_way:
                return wanted
            partiql.give_way(attempt + 1, stood_in_the_way)
        raise Contention(f"the subscription of user {user_id} is edited too often at the moment")

    def remove(self, user_id: str) -> bool:
        """Removes a subscription for good; returns whether there was one at first.

        Only the version that was read is removed. So if the answer to a removal is lost, the second
        try is refused, and then finds the item gone. Raises `Contention` after bounded retries.
        """
        from .conditions import is_still, when

        was_there = False
        for _ in races(self._pause):
            item = self._read(user_id)
            if item is None:
                return was_there
            was_there = True
            try:
                delete_item(self._client, self._table, _key(user_id), when(is_still(item)))
            except ServiceError as error:
                if error.code not in _LOST_RACES:
                    raise
                continue
            return True
        raise Contention(f"the subscription of user {user_id} is edited too often at the moment")

    def users_of(
        self,
        timezone: str,
        after_user_id: str | None,
        limit: int,
        range_: Range = WHOLE,
        day: int | None = None,
    ) -> UsersPage:
        """A page of the users of a timezone with active subscriptions, ordered by their places.

        With a ``range_``, only those in it; with a ``day``, only those whose anniversary it is. A
        page can have fewer than ``limit`` users, even none, without being the last. Raises
        `InvalidInput` when the range ends before the user to go on after.
        """
        # '#' sorts after every place, and '$' after every user of a place.
        lower = f"{range_.first:08x}#"
        if after_user_id:
            lower = max(lower, f"{_spread(after_user_id)}\0")
        upper = f"{range_.last:08x}$"
        if lower > upper:  # DynamoDB would refuse that as a malformed request
            raise InvalidInput.of("cursor", f"lies behind the range; is {shown(after_user_id)}")
        index, zone = "by_timezone", "allocation_timezone"
        if day is not None:
            index, zone = "by_anniversary", "anniversary"
        return self._users(
            index,
            f"{zone} = :zone AND spread BETWEEN :first AND :last",
            {
                ":zone": timezone if day is None else _anniversary(timezone, day),
                ":first": lower,
                ":last": upper,
            },
            limit,
        )

    def users_with(self, address: str, after_user_id: str | None, limit: int) -> UsersPage:
        """A page of the users whose emails go to an address, by their ids.

        It lags behind writes by a second.
        """
        condition, values = "address = :address", {":address": digest_of(address)}
        if after_user_id:
            condition, values = (
                f"{condition} AND user_id > :after",
                values | {":after": after_user_id},
            )
        return self._users("by_address", condition, values, limit)

    def _users(
        self, index: str, condition: str, values: Mapping[str, str], limit: int
    ) -> UsersPage:
        response = self._client.call(
            "Query",
            {
                "TableName": self._table,
                "IndexName": index,
                "KeyConditionExpression": condition,
                "ExpressionAttributeValues": {name: text(each) for name, each in values.items()},
                "Limit": limit,
                "ReturnConsumedCapacity": "TOTAL",
            },
        )
        return UsersPage(
            [item["user_id"]["S"] for item in response["Items"]], end_of_page(response, "user_id")
        )

    def found(self, wanted: Mapping[str, str], after_user_id: str | None, limit: int) -> FoundPage:
        """A page of subscriptions as stored, in the table's own order; for `read_subscription`.

        ``wanted``: attributes that they must have, with their values. At most `MOST_SEARCHED` are
        searched for a page, so it can have fewer than ``limit``, even none, without being the last.
        It lags behind writes by a second.
        """
        found: list[Item] = []
        page_size = SEARCHED_AT_ONCE if wanted else limit
        for _ in range(MOST_SEARCHED // SEARCHED_AT_ONCE):
            items, after_user_id = self._scanned(wanted, after_user_id, page_size)
            room = limit - len(found)
            found += items[:room]
            if len(items) > room:
                return FoundPage(found, found[-1]["user_id"]["S"])
            if after_user_id is None or len(items) == room:
                break
        return FoundPage(found, after_user_id)

    def _scanned(
        self, wanted: Mapping[str, str], after_user_id: str | None, limit: int
    ) -> FoundPage:
        """The wanted ones among the next ``limit`` subscriptions of the table."""
        request = self._scan_after(after_user_id) | {"Limit": limit}
        if wanted:
            # DynamoDB reserves words such as status and plan: so each name gets an alias.
            request["FilterExpression"] = " AND ".join(f"#{name} = :{name}" for name in wanted)
            request["ExpressionAttributeNames"] = {f"#{name}": name for name in wanted}
            request["ExpressionAttributeValues"] = {
                f":{name}": text(value) for name, value in wanted.items()
            }
        response = self._client.call("Scan", request)
        return FoundPage(response["Items"], end_of_page(response, "user_id"))

    def timezones(self, after_user_id: str | None, range_: Range = WHOLE) -> TimezonesPage:
        """A page of all users, a megabyte of the table in its own order, with their timezones.

        A ``range_`` stands for a segment of the table: the third of eight ranges is the third of
        eight segments. DynamoDB divides by its own hash and not by ours, so only ranges of equal
        width add up.
        """
        request = self._scan_after(after_user_id)
        # DynamoDB reserves the word timezone.
        request["ProjectionExpression"] = "user_id, #timezone"
        request["ExpressionAttributeNames"] = {"#timezone": "timezone"}
        if not range_.is_whole:
            request["Segment"] = int(range_.bits, 2)
            request["TotalSegments"] = 1 << len(range_.bits)
        response = self._client.call("Scan", request)
        timezones = {item["user_id"]["S"]: _timezone(item) for item in response["Items"]}
        return TimezonesPage(timezones, end_of_page(response, "user_id"))

    def _scan_after(self, user_id: str | None) -> Request:
        """A scan of the table after a user, or from its beginning."""
        request: Request = {"TableName": self._table, "ReturnConsumedCapacity": "TOTAL"}
        if user_id:
            request["ExclusiveStartKey"] = _key(user_id)
        return request

    def pages_of(
        self,
        timezone: str,
        limit: int,
        after_user_id: str | None = None,
        range_: Range = WHOLE,
        day: int | None = None,
    ) -> Iterator[UsersPage]:
        """The pages of `users_of` after a user, up to the last; each is read when needed."""
        while True:
            page = self.users_of(timezone, after_user_id, limit, range_, day)
            yield page
            after_user_id = page.last_user_id
            if after_user_id is None:
                return

    def scan(self, start: str, page: int) -> Iterator[str]:
        """Every user id once, in the table's own order; ``start`` says where to begin."""
        request = {"TableName": self._table, "ProjectionExpression": "user_id", "Limit": page}
        items = every_item_from(self._client, _key(start), request)
        return (item["user_id"]["S"] for item in items)

    def _write(
        self, wanted: Subscription, present: Subscription | None, edit: "Edit"
    ) -> frozenset[str]:
        """Makes an edit and records it; returns the reasons that prevented it, if any."""
        from .edits import key_of

        key = key_of(edit.version, self._new_id())
        statements = [self._edits().insertion(edit, key), self._statement(wanted, present)]
        try:
            self._client.call(
                "ExecuteTransaction",
                {"TransactStatements": statements, "ReturnConsumedCapacity": "TOTAL"},
            )
        except ServiceError as error:
            codes = partiql.cancelled_for(error)
            if not partiql.is_lost_race(codes):
                raise
            return frozenset() if self._edits().was_made(edit.user_id, key) else codes
        return frozenset()

    def _statement(self, wanted: Subscription, present: Subscription | None) -> partiql.Statement:
        """The statement that makes version n from version n-1, or version 1 from nothing."""
        after = _item(wanted)
        if present is None:
            return partiql.insert(self._table, after)
        before = _item(present)
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        where = {"user_id": after["user_id"], "version": number(wanted.version - 1)}
        return partiql.update(self._table, changed, sorted(before.keys() - after.keys()), where)

    def _read(self, user_id: str) -> Item | None:
        """The item as of now (strongly consistent), None if there is no such item."""
        return read_item(self._client, self._table, _key(user_id))


def _key(user_id: str) -> Item:
    return {"user_id": text(user_id)}


def _timezone(item: Item) -> str | None:
    try:
        return value_of(item, "timezone", as_text)
    except Damage:
        return None


_LOST_RACES = {"ConditionalCheckFailedException", "TransactionConflictException"}
"""The codes of a single write if others came first, or are just writing."""


def _item(subscription: Subscription) -> Item:
    item: Item = {
        "user_id": text(subscription.user_id),
        "timezone": text(subscription.timezone),
        "plan": text(subscription.plan),
        "billing_interval": text(subscription.billing_interval.value),
        "status": text(subscription.status.value),
        "started_at": number(to_milliseconds(subscription.started_at)),
        # Always a number: releases that know no local dates read it, too.
        "eligible_from": number(
            to_milliseconds(
                instant_of(subscription.eligible_from, calendar.known_or_utc(subscription.timezone))
            )
        ),
        "version": number(subscription.version),
    }
    if not isinstance(subscription.eligible_from, datetime):
        item["eligible_on"] = text(subscription.eligible_from.isoformat())
    if subscription.email is not None:
        item["email"] = text(subscription.email)
        item["address"] = text(digest_of(subscription.email))
    if subscription.allocation_amount is not None:
        item["allocation_amount"] = number(subscription.allocation_amount)
    for name in _INSTANTS:
        instant = getattr(subscription, name)
        if instant is not None:
            item[name] = number(to_milliseconds(instant))
    item |= _of_mails(subscription)
    if signed := subscription.sign_up:
        item["sign_up"] = text(f"{signed.period} {signed.amount} {to_milliseconds(signed.at)}")
    if raised := subscription.raised:
        steps = (f"{each.amount}@{to_milliseconds(each.at)}" for each in raised.top_ups)
        item["raised"] = text(" ".join((f"{raised.period} {raised.level}", *steps)))
    if subscription.contracts:
        item["contracts"] = text(contracts_text(subscription.contracts))
    if subscription.is_swept:
        item["allocation_timezone"] = text(subscription.timezone)
        item["spread"] = text(_spread(subscription.user_id))
        timezone = calendar.known_or_utc(subscription.timezone)
        day = anniversary_of(subscription.started_at, timezone)
        item["anniversary"] = text(_anniversary(subscription.timezone, day))
    return item


def _of_mails(subscription: Subscription) -> Item:
    item: Item = {}
    # We store the unwanted kinds, not the wanted ones. So users who never said otherwise want a new
    # kind of email, too, and old items without the attribute want all kinds.
    unwanted = ALL_KINDS - subscription.notifications
    if unwanted:
        item["unwanted_mails"] = text(" ".join(sorted(unwanted)))
    if subscription.language is not DEFAULT:
        item["language"] = text(subscription.language.value)
    if subscription.suppressed is not None:
        item["suppressed"] = text(subscription.suppressed.value)
    if subscription.suppressed_before is not None:
        before = subscription.suppressed_before
        item["suppressed_before"] = text(f"{before.because.value} {before.address_digest}")
    return item


def _anniversary(timezone: str, day: int) -> str:
    return f"{timezone}#{day:02}"


def _spread(user_id: str) -> str:
    return f"{place_of(user_id):08x}#{user_id}"


def read_subscription(item: Item) -> Subscription:
    """Reads a subscription. Raises `Unreadable`."""
    return read("subscription", f"user {item['user_id']['S']}", item, _subscription)


def readable(items: Mapping[str, Item]) -> dict[str, Subscription]:
    """The readable subscriptions, for callers that may ignore damaged ones."""
    found = {}
    for user_id, item in items.items():
        with suppress(Unreadable):
            found[user_id] = read_subscription(item)
    return found


def _subscription(item: Item) -> Subscription:
    return Subscription(
        user_id=value_of(item, "user_id", as_text),
        email=optional_of(item, "email", as_text),
        timezone=value_of(item, "timezone", as_text),
        plan=value_of(item, "plan", as_text),
        billing_interval=value_of(item, "billing_interval", as_choice(BillingInterval)),
        status=value_of(item, "status", as_choice(SubscriptionStatus)),
        started_at=value_of(item, "started_at", as_instant),
        eligible_from=(
            optional_of(item, "eligible_on", _day) or value_of(item, "eligible_from", as_instant)
        ),
        allocation_amount=optional_of(item, "allocation_amount", as_whole),
        version=value_of(item, "version", as_whole),
        notifications=ALL_KINDS - (optional_of(item, "unwanted_mails", _kinds) or set()),
        suppressed=optional_of(item, "suppressed", as_choice(SuppressedBecause)),
        suppressed_before=optional_of(item, "suppressed_before", _suppression),
        sign_up=optional_of(item, "sign_up", _sign_up),
        raised=optional_of(item, "raised", _raised),
        contracts=optional_of(item, "contracts", as_contracts) or (),
        registered_at=optional_of(item, "registered_at", as_instant),
        resumed_at=optional_of(item, "resumed_at", as_instant),
        ends_at=optional_of(item, "ends_at", as_instant),
        observed_at=optional_of(item, "observed_at", as_instant),
        language=optional_of(item, "language", _language) or DEFAULT,
    )


def _day(attribute: Attribute) -> date:
    return parse_date("", as_text(attribute))


def _kinds(attribute: Attribute) -> set[MailKind]:
    # This release does not send kinds that it does not know.
    words = as_text(attribute).split()
    return {kind for kind in MailKind if kind.value in words}


def _language(attribute: Attribute) -> Language:
    # This release has no texts in languages that it does not know.
    return closest(as_text(attribute)) or DEFAULT


def _suppression(attribute: Attribute) -> Suppression:
    because, _, digest = as_text(attribute).partition(" ")
    return Suppression(digest, choice_of(SuppressedBecause, because))


def _sign_up(attribute: Attribute) -> SignUp:
    found = _SIGN_UP.fullmatch(as_text(attribute))
    if found is None:
        raise Damage("is no period, amount and instant")
    period, amount, at = found.groups()
    return SignUp(Period.parse(period), int(amount), stored_instant(int(at)))


def _raised(attribute: Attribute) -> Raised:
    found = _RAISED.fullmatch(as_text(attribute))
    if found is None:
        raise Damage("is no period, amount and steps")
    period, level, steps = found.groups()
    top_ups = (step.split("@") for step in steps.split())
    return Raised(
        Period.parse(period),
        int(level),
        tuple(TopUp(int(amount), stored_instant(int(at))) for amount, at in top_ups),
    )


_RAISED = re.compile(
    r"([0-9]{4}-[0-9]{2}) ([1-9][0-9]{0,9})((?: [1-9][0-9]{0,9}@[0-9]{1,15}){0,10})"
)
_SIGN_UP = re.compile(r"([0-9]{4}-[0-9]{2}) ([1-9][0-9]{0,9}) ([0-9]{1,15})")

_INSTANTS = ("registered_at", "resumed_at", "ends_at", "observed_at")
"""Attributes that an item has only if they are known."""
