"""The items of the ledger table: their keys and attributes, and how each is read.

Keys of table ``ledger`` (partition ``user_id``, sort ``entry``):

    <user id>                entry#000000000042       entry 42 of the user's ledger
    <user id>                reversal#000000000042#000001  first reversal of the usage in entry 42,
                                                           or first refund of the purchase
    operation#<its SHA-256>  operation                marker of an operation on request, forever

    index ``expiring``       <timezone>#<shard>       <sweep_at>#<user id>#<number>

Markers contain no personal texts: only the entries name callers and their keys.
"""

import re
import zlib
from collections.abc import Mapping
from datetime import datetime

from chalicelib.domain.anchors import Head, user_digest
from chalicelib.domain.damage import Damage, optional_of, value_of
from chalicelib.domain.entries import LedgerEntry, entry_hash
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, Unreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.verification import Link, Marker, StoredLine

from .database import Item, number, text
from .reading import as_text, as_whole, read

EXPIRY_SHARDS = 32
"""Index partitions per timezone: one takes 1,000 writes a second; a midnight can bring more."""

_ENTRY_KEY = re.compile(r"entry#[0-9]{12,}")
_REVERSAL_KEY = re.compile(r"reversal#([0-9]{12,})#([0-9]{6,})")

MARKER = "operation"
"""The sort key of every marker."""

_MARKERS = "operation#"
"""The prefix of every marker's partition key: no user id has a number sign."""


# --- Keys -----------------------------------------------------------------------------------------


def entry_key(entry_number: int) -> str:
    """The sort key of an entry."""
    return f"entry#{entry_number:012}"


def links_key(entry_number: int) -> str:
    """The prefix of the sort keys of a usage's reversals, or of a purchase's refunds."""
    return f"reversal#{entry_number:012}#"


def marker_key(digest: str) -> str:
    """The partition key of the marker of an operation."""
    return f"{_MARKERS}{digest}"


def item_key(user_id: str, entry: str) -> Item:
    """A key of the table."""
    return {"user_id": text(user_id), "entry": text(entry)}


def is_marker(item: Item) -> bool:
    """Whether an item of the table is the marker of an operation."""
    return bool(item["user_id"]["S"].startswith(_MARKERS))


def is_entry(item: Item) -> bool:
    """Whether an item's key sorts among the entries; it may still be malformed."""
    return bool(item["entry"]["S"].startswith("entry#"))


def owner_of(item: Item) -> str:
    """The partition key of an item: the user, or the operation of a marker."""
    user_id: str = item["user_id"]["S"]  # a key: DynamoDB stores no item without one
    return user_id


def number_of(item: Item, supposed: int = 0) -> int:
    """The number in an entry's key. Raises `LedgerCorrupt`, which names the ``supposed`` number."""
    key = item["entry"]["S"]
    if not _ENTRY_KEY.fullmatch(key):
        raise LedgerCorrupt(owner_of(item), supposed, f"its key is {key!r}")
    return int(key.removeprefix("entry#"))


# --- Entries --------------------------------------------------------------------------------------


def item_of(entry: LedgerEntry, previous_hash: str) -> Item:
    """An entry as the table stores it, chained to the one before."""
    body = entry.body()
    item = {
        "user_id": text(entry.user_id),
        "entry": text(entry_key(entry.number)),
        "body": text(body),
        "hash": text(entry_hash(previous_hash, entry.user_id, body)),
    }
    sweep_at = entry.sweep_at
    if sweep_at:
        shard = zlib.crc32(entry.user_id.encode()) % EXPIRY_SHARDS
        item["expiry_partition"] = text(f"{entry.expiry_timezone}#{shard:02}")
        item["expiry_key"] = text(f"{format_instant(sweep_at)}#{entry.user_id}#{entry.number}")
    return item


def read_entry(item: Item) -> LedgerEntry:
    """Reads an entry from the table or its stream. Raises `LedgerCorrupt`."""
    number = number_of(item)
    return LedgerEntry.from_body(owner_of(item), number, _attribute(item, number, "body"))


def account_of(item: Item) -> Account:
    """The account after an entry. Raises `LedgerCorrupt`."""
    entry = read_entry(item)
    return Account(entry.user_id, entry, _attribute(item, entry.number, "hash"))


def read_line(item: Item, supposed: int = 0) -> StoredLine:
    """An entry for the audit's walk. Raises `LedgerCorrupt`, with the number it should have."""
    number = number_of(item, supposed)
    body, hash_ = (_attribute(item, number, name) for name in ("body", "hash"))
    erased = _attribute(item, number, "erased") if "erased" in item else None
    return StoredLine(number, body, hash_, erased)


def read_head(item: Item) -> Head:
    """An entry of the stream as the head of its ledger. Raises `LedgerCorrupt`."""
    user_id, line = owner_of(item), read_line(item)
    try:
        return Head.parse(f"{user_digest(user_id)} {line.number} {line.hash}\n")
    except ValueError as error:
        raise LedgerCorrupt(user_id, line.number, str(error)) from error


def expiry_of(item: Item) -> datetime | None:
    """When a batch of the expiry index expires; None if its key contains no instant."""
    instant, _, _ = item["expiry_key"]["S"].partition("#")
    try:
        return parse_instant("expiry_key", instant)
    except InvalidInput:
        return None


def _attribute(item: Item, number: int, name: str) -> str:
    """A text attribute of an entry. Raises `LedgerCorrupt`."""
    try:
        return value_of(item, name, as_text)
    except Damage as error:
        raise LedgerCorrupt(owner_of(item), number, str(error)) from error


# --- The items beside them ------------------------------------------------------------------------


def read_marker(item: Item) -> Marker:
    """Reads the marker of an operation. Raises `Unreadable`."""
    return read("ledger", owner_of(item), item, _marker_of)


def _marker_of(item: Item) -> Marker:
    return Marker(
        digest=owner_of(item).removeprefix(_MARKERS),
        request=value_of(item, "request", as_text),
        owner=value_of(item, "owner", as_text),
        number=value_of(item, "number", as_whole),
        expired=value_of(item, "expired", as_whole),
    )


def audited_marker(item: Item) -> Marker:
    """The same, for an audit. Raises `LedgerCorrupt`, which names the marker."""
    try:
        return read_marker(item)
    except Unreadable as error:
        raise LedgerCorrupt(owner_of(item), 0, error.reason) from error


def entry_of(marker: Marker, entries: Mapping[tuple[str, int], Item]) -> LedgerEntry:
    """The entry of an operation, found by its marker. Raises `LedgerCorrupt`."""
    item = entries.get((marker.owner, marker.number))
    if item is None:
        raise LedgerCorrupt(marker.owner, marker.number, "it has a marker and is not there")
    return read_entry(item)


def item_of_link(user_id: str, link: Link) -> Item:
    """A link as the table stores it; a reversal's has none of the attributes of a refund."""
    item = {
        "user_id": text(user_id),
        "entry": text(f"{links_key(link.of)}{link.sequence:06}"),
        "sequence": number(link.sequence),
        "reversed_in_all": number(link.in_all),
    }
    if link.number:
        item |= {"number": number(link.number), "expired": number(link.expired)}
    return item


def read_link(item: Item, of: int) -> Link:
    """Reads a link of a usage or a purchase. Raises `Unreadable`."""

    def link_of(item: Item) -> Link:
        return Link(
            of,
            sequence=value_of(item, "sequence", as_whole),
            in_all=value_of(item, "reversed_in_all", as_whole),
            number=optional_of(item, "number", as_whole) or 0,
            expired=optional_of(item, "expired", as_whole) or 0,
        )

    return read("ledger", f"user {owner_of(item)}, {item['entry']['S']}", item, link_of)


def audited_link(item: Item) -> Link:
    """The same; its attributes must agree with its key. Raises `LedgerCorrupt`."""
    user_id, key = owner_of(item), item["entry"]["S"]
    found = _REVERSAL_KEY.fullmatch(key)
    if not found:
        raise LedgerCorrupt(user_id, 0, f"its key is {key!r}")
    of, sequence = map(int, found.groups())
    try:
        link = read_link(item, of)
    except Unreadable as error:
        raise LedgerCorrupt(user_id, of, error.reason) from error
    if link.sequence != sequence:
        raise LedgerCorrupt(user_id, of, f"the sequence of {key} is another")
    return link
