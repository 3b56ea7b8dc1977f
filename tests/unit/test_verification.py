"""Walking a ledger: a right one passes, and of a wrong one the first wrong line is named."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib.domain import entries, ledger
from chalicelib.domain.batches import CreditBatch, Leg
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import FIRST_HASH, EntryType, LedgerEntry
from chalicelib.domain.entries import entry_hash as hash_of
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.prices import Price
from chalicelib.domain.verification import (
    Anchor,
    Link,
    Marker,
    Operation,
    StoredLine,
    check_links,
    check_markers,
    operation_of,
    verify,
)

USER = "42"
ZONE = "Europe/Paris"
MILLISECOND = timedelta(milliseconds=1)
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return parse_instant("at", text)


def why(operation: str) -> Request:
    return Request(operation, "ada", "Because — of Zoë")


def valid_entries() -> list[LedgerEntry]:
    """A ledger with a line of every kind, and every batch in every state."""
    account = Account(USER)
    entries: list[LedgerEntry] = []

    def post(entry: LedgerEntry | None) -> LedgerEntry:
        nonlocal account
        assert entry is not None
        entries.append(entry)
        account = Account(USER, entry)
        return entry

    july, august = Period(2026, 7), Period(2026, 8)
    start = at("2026-06-30T22:00:00Z")
    post(
        ledger.allocate(account, july, 100, ZONE, Days(30), start)
    )  # 1: dies at 30 July, 22:00 UTC
    post(ledger.grant(account, 50, why("manual#2"), start + DAY, ZONE, None))  # 2
    usage = post(ledger.use(account, 110, why("usage#3"), start + 2 * DAY))  # 3: 100 and 10
    half = ledger.reverse(account, usage, entries[1], 0, 30, why("reversal#4"), start + 3 * DAY)
    post(half.entry)  # 4: 10 to batch 2, 20 to batch 1
    post(ledger.claw_back(account, 5, why("manual#5"), start + 3 * DAY))  # 5: of batch 1
    post(ledger.grant(account, 8, why("manual#6"), start + 4 * DAY, ZONE, Days(60)))  # 6
    post(ledger.expire(account, start + 30 * DAY))  # 7: 15 of batch 1
    rest = ledger.reverse(account, usage, entries[1], 30, None, why("reversal#8"), start + 31 * DAY)
    post(rest.entry)  # 8: nothing, batch 1 is dead
    post(ledger.allocate(account, august, 100, ZONE, Days(30), start + 31 * DAY))  # 9
    post(ledger.use(account, 58, why("usage#10"), start + 32 * DAY))  # 10: 50 of 2, 8 of 6
    return entries


def sealed(entries: Iterable[LedgerEntry]) -> list[StoredLine]:
    """The entries as lines whose hashes are right, whatever the entries say."""
    lines: list[StoredLine] = []
    last_hash = FIRST_HASH
    for entry in entries:
        body = entry.body()
        last_hash = hash_of(last_hash, USER, body)
        lines.append(StoredLine(entry.number, body, last_hash))
    return lines


def fault(lines: Iterable[StoredLine], user_id: str = USER) -> tuple[int, str]:
    """The number of the first wrong line, and what is said about it."""
    with pytest.raises(LedgerCorrupt) as caught:
        verify(user_id, lines)
    assert caught.value.user_id == user_id
    return caught.value.number, caught.value.reason


ENTRIES = valid_entries()
LINES = sealed(ENTRIES)


# --- What passes --------------------------------------------------------------------------------


def test_a_ledger_with_every_kind_of_line_passes_and_adds_up_to_its_account() -> None:
    elsewhere = {EntryType.HOLD, EntryType.RELEASE, EntryType.PURCHASE, EntryType.REFUND}
    assert {entry.type for entry in ENTRIES} == set(EntryType) - elsewhere
    account = verify(USER, LINES)
    assert account == Account(USER, ENTRIES[-1], LINES[-1].hash)
    assert account.ledger_balance == 100
    assert [entry.amount for entry in ENTRIES] == [100, 50, -110, 30, -5, 8, -15, 0, 100, -58]


def test_a_claw_back_of_what_is_left_may_take_nothing_where_nothing_is_left() -> None:
    left = ledger.claw_back_what_is_left(
        Account(USER), 5, why("manual#1"), at("2026-07-01T00:00:00Z")
    )
    assert verify(USER, sealed([left])).ledger_balance == 0
    # A void takes a batch: it is never empty.
    void = replace(left, operation="void#1")
    assert fault(sealed([void])) == (1, "a void takes all of one batch and no other")


@pytest.mark.parametrize("count", range(len(ENTRIES) + 1))
def test_every_beginning_of_a_ledger_passes_too(count: int) -> None:
    assert verify(USER, LINES[:count]).next_number == count + 1


def test_a_ledger_is_walked_line_by_line_and_never_held_whole() -> None:
    wrong = LINES[1]._replace(hash=LINES[0].hash)

    def lines() -> Iterable[StoredLine]:
        yield LINES[0]
        yield wrong
        raise AssertionError("read on after the first wrong line")

    assert fault(lines())[0] == 2


# --- Damage -------------------------------------------------------------------------------------


def one_byte_off(text: str) -> Iterable[str]:
    """The text with each of its bytes altered; where that is no text any more, as readers show."""
    stored = text.encode()
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1 << position % 8
        yield damaged.decode(errors="replace")


def test_any_single_altered_byte_of_any_line_is_found_in_that_line() -> None:
    lines = sealed(ENTRIES[:4])
    message = "the hash does not match the body and the entry before"
    found = 0
    for place, line in enumerate(lines):
        damaged_lines = [line._replace(body=text) for text in one_byte_off(line.body)]
        damaged_lines += [line._replace(hash=text) for text in one_byte_off(line.hash)]
        for damaged in damaged_lines:
            assert fault([*lines[:place], damaged, *lines[place + 1 :]]) == (line.number, message)
        found += len(damaged_lines)
    assert found > 4 * (64 + 300)


def test_the_hashes_are_of_this_users_ledger_only() -> None:
    message = "the hash does not match the body and the entry before"
    assert fault(LINES, user_id="43") == (1, message)


@pytest.mark.parametrize("missing", range(1, len(LINES)))
def test_a_missing_line_is_named_in_the_line_after_it(missing: int) -> None:
    lines = [line for line in LINES if line.number != missing]
    assert fault(lines) == (missing + 1, f"entry {missing} is missing before it")


def test_a_ledger_without_its_beginning_is_found_however_well_the_rest_is_chained() -> None:
    assert fault(LINES[3:]) == (4, "entry 1 is missing before it")
    assert fault(sealed(ENTRIES[3:])) == (4, "entry 1 is missing before it")
    renumbered = [replace(entry, number=entry.number - 3) for entry in ENTRIES[3:]]
    assert fault(sealed(renumbered))[0] == 1


@pytest.mark.parametrize("first", range(len(LINES) - 1))
def test_two_lines_that_changed_places_are_found(first: int) -> None:
    lines = list(LINES)
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    assert fault(lines) == (first + 2, f"entry {first + 1} is missing before it")
    # Also when their numbers were changed with their places.
    lines[first] = lines[first]._replace(number=first + 1)
    lines[first + 1] = lines[first + 1]._replace(number=first + 2)
    assert fault(lines) == (first + 1, "the hash does not match the body and the entry before")


def test_a_line_that_is_there_twice_is_found() -> None:
    lines = [*LINES[:3], LINES[2], *LINES[3:]]
    assert fault(lines) == (3, "entry 4 is missing before it")


@pytest.mark.parametrize(
    ("right", "other"),
    [
        ('"schema":3', '"schema": 3'),
        ('"correlation":null', '"correlation":null,"silent":false'),
        ('"number":1', '"extra":1,"number":1'),
        ('"number":1', '"number":1,"number":1'),
        ('"schema":3,"number":1', '"number":1,"schema":3'),
        ('"ada"', '"\\u0061da"'),
        ('"zone":null', '"zone":null\n'),
        ('"legs":[]', '"legs":{}'),
    ],
)
def test_a_body_that_says_the_same_in_other_bytes_is_refused(right: str, other: str) -> None:
    """Otherwise there would be two texts, and two hashes, for one line."""
    entry = ledger.grant(Account(USER), 5, why("manual#1"), at("2026-07-01T00:00:00Z"), ZONE, None)
    if right == '"legs":[]':
        entry = replace(entry, legs=(), batches=(), amount=0, balance=0)
    body = entry.body()
    assert right in body
    body = body.replace(right, other, 1)
    line = StoredLine(1, body, hash_of(FIRST_HASH, USER, body))
    assert fault([line]) == (1, "the body is not in its canonical form")


def test_a_body_that_cannot_be_read_is_named_though_its_hash_is_right() -> None:
    body = ENTRIES[0].body().replace('"amount":100', '"amount":100.0')
    number, reason = fault([StoredLine(1, body, hash_of(FIRST_HASH, USER, body))])
    assert number == 1
    assert reason.startswith("the body cannot be read (")


def test_a_body_that_bears_another_number_is_named_though_its_hash_is_right() -> None:
    body = ENTRIES[0].body().replace('"number":1', '"number":2')
    line = StoredLine(1, body, hash_of(FIRST_HASH, USER, body))
    assert fault([line]) == (1, "the body says number 2")


# --- Erased lines -------------------------------------------------------------------------------


def erased(line: StoredLine, previous_hash: str, entry: LedgerEntry | None = None) -> StoredLine:
    """The line as an erasure leaves it; with another entry, as a forger would."""
    read = entries.LedgerEntry.from_body(USER, line.number, line.body)
    body = (entry or entries.without_texts(read)).body()
    seal = entries.erased_hash(previous_hash, USER, body, line.hash)
    return StoredLine(line.number, body, line.hash, seal)


def all_erased(lines: list[StoredLine]) -> list[StoredLine]:
    before = [FIRST_HASH, *(line.hash for line in lines)]
    return [erased(line, hash_) for line, hash_ in zip(lines, before, strict=False)]


# Scheduled work writes nothing about anybody: its lines are never erased.
PERSONAL = [line.number for line in LINES if '"ada"' in line.body]
ERASED_LINES = [
    left if left.number in PERSONAL else line
    for left, line in zip(all_erased(LINES), LINES, strict=True)
]


@pytest.mark.parametrize("count", range(len(LINES) + 1))
def test_a_ledger_passes_while_it_is_erased_line_by_line_and_after(count: int) -> None:
    assert PERSONAL
    lines = [*ERASED_LINES[:count], *LINES[count:]]
    assert verify(USER, lines).ledger_balance == 100
    assert verify(USER, lines).last_hash == LINES[-1].hash


def test_any_single_altered_byte_of_an_erased_line_is_found_in_that_line() -> None:
    message = "the hash does not match the body and the entry before"
    found = 0
    # The last line among them, whose hash no later line is chained to.
    for place in (1, len(LINES) - 1):
        line = ERASED_LINES[place]
        assert line.erased
        for name in ("body", "hash", "erased"):
            for text in one_byte_off(getattr(line, name)):
                damaged = line._replace(**{name: text})  # type: ignore[arg-type]
                lines = [*ERASED_LINES[:place], damaged, *ERASED_LINES[place + 1 :]]
                assert fault(lines) == (line.number, message)
                found += 1
    assert found > 2 * (64 + 64 + 250)


def test_an_erased_line_that_loses_its_seal_is_found() -> None:
    line = ERASED_LINES[1]._replace(erased=None)
    message = "the hash does not match the body and the entry before"
    assert fault([LINES[0], line]) == (2, message)


@pytest.mark.parametrize("number", [1, 2])
def test_a_line_marked_as_erased_must_be_without_its_texts(number: int) -> None:
    line, before = LINES[number - 1], (FIRST_HASH, LINES[0].hash)[number - 1]
    marked = erased(line, before, ENTRIES[number - 1])
    message = "it is marked as erased and still has its texts"
    assert fault([*LINES[: number - 1], marked]) == (number, message)


def test_a_line_marked_as_erased_must_not_name_the_user_as_its_actor() -> None:
    entry = replace(ENTRIES[1], description=entries.ERASED, actor=USER)
    marked = erased(LINES[1], LINES[0].hash, entry)
    message = "it is marked as erased and still has its texts"
    assert fault([LINES[0], marked]) == (2, message)


@pytest.mark.parametrize(
    ("number", "changes", "message"),
    [
        (2, {"balance": 151}, "the balance does not add up"),
        (3, {"amount": -109}, "the amount is not the sum of the legs"),
        (3, {"legs": (Leg(1, -60), Leg(2, -50))}, "the open batches do not add up"),
        (5, {"allocated_through": Period(2026, 9)}, "the allocated period moved without"),
    ],
)
def test_the_arithmetic_of_an_erased_line_is_checked_in_full(
    number: int, changes: dict[str, object], message: str
) -> None:
    entry = entries.without_texts(replace(ENTRIES[number - 1], **changes))  # type: ignore[arg-type]
    forged = erased(LINES[number - 1], LINES[number - 2].hash, entry)
    found_number, found = fault([*LINES[: number - 1], forged])
    assert (found_number, found[: len(message)]) == (number, message)


# --- Forgery ------------------------------------------------------------------------------------
#
# Lines whose hashes are right and that break a rule: what a bug of ours would write. Each is the
# last line of its ledger, and all else about it is in order, so that only its rule can find it.

Forgery = Callable[[LedgerEntry], LedgerEntry]


def batch(
    number: int, granted: int, remaining: int, granted_at: str, expires_at: str | None = None
) -> CreditBatch:
    dies = at(expires_at) if expires_at else None
    return CreditBatch(number, granted, remaining, at(granted_at), dies)


def with_batch(entry: LedgerEntry, changed: CreditBatch) -> LedgerEntry:
    """The entry with one of its open batches replaced, its order and numbers kept."""
    return replace(
        entry,
        batches=tuple(
            changed if present.number == changed.number else present for present in entry.batches
        ),
    )


def moved(entry: LedgerEntry, *legs: tuple[int, int]) -> LedgerEntry:
    """The entry with other legs, and with the amount, balance and batches that follow from them."""
    before = ENTRIES[entry.number - 2]
    known = {
        batch.number: replace(batch, remaining=0)
        for line in (*ENTRIES[: entry.number - 1], entry)
        for batch in line.batches
    }
    known |= {batch.number: batch for batch in before.batches}
    for number, amount in legs:
        known[number] = replace(known[number], remaining=known[number].remaining + amount)
    amount = sum(amount for _, amount in legs)
    order = sorted(known.values(), key=lambda batch: (batch.granted_at, batch.number))
    return replace(
        entry,
        legs=tuple(Leg(*leg) for leg in legs),
        amount=amount,
        balance=before.balance + amount,
        batches=tuple(batch for batch in order if batch.remaining),
    )


def regranted(entry: LedgerEntry, **changes: object) -> LedgerEntry:
    """The entry with another batch granted by it."""
    granted = entry.granted_batch
    assert granted is not None
    return with_batch(entry, replace(granted, **changes))  # type: ignore[arg-type]


def test_the_forger_of_these_tests_can_write_a_right_line() -> None:
    for entry in ENTRIES[1:]:
        assert moved(entry, *entry.legs) == entry


FORGERIES: dict[str, tuple[int, Forgery, str]] = {
    # What every line must obey
    "one batch in two legs": (
        4,
        lambda entry: replace(entry, legs=(Leg(2, 10), Leg(1, 15), Leg(1, 5))),
        "a batch has two legs",
    ),
    "a leg to a batch of the future": (
        3,
        lambda entry: replace(entry, legs=(Leg(1, -100), Leg(4, -10))),
        "a leg moves a batch that was never granted",
    ),
    "an amount that is not that of the legs": (
        3,
        lambda entry: replace(entry, amount=-109, balance=41),
        "the amount is not the sum of the legs",
    ),
    "legs that are not the amount": (
        3,
        lambda entry: replace(entry, legs=(Leg(1, -100), Leg(2, -11))),
        "the amount is not the sum of the legs",
    ),
    "a balance that does not follow": (
        3,
        lambda entry: replace(entry, balance=41),
        "the balance does not add up",
    ),
    "a first balance from nowhere": (
        1,
        lambda entry: replace(entry, balance=101),
        "the balance does not add up",
    ),
    "a batch that holds more than the legs left": (
        3,
        lambda entry: with_batch(entry, replace(entry.batches[0], remaining=41)),
        "the open batches do not add up",
    ),
    "a batch that was forgotten": (
        5,
        lambda entry: replace(entry, batches=entry.batches[1:]),
        "the open batches do not add up",
    ),
    "a batch from nowhere": (
        5,
        lambda entry: replace(
            entry, batches=(*entry.batches, batch(3, 9, 9, "2026-07-03T00:00:00Z"))
        ),
        "the open batches do not add up",
    ),
    "batches in another order": (
        5,
        lambda entry: replace(entry, batches=entry.batches[::-1]),
        "the open batches do not add up",
    ),
    "a batch that lives longer than it was granted for": (
        5,
        lambda entry: with_batch(entry, replace(entry.batches[0], expires_at=None)),
        "the open batches do not add up",
    ),
    "a batch that was granted earlier than it was": (
        5,
        lambda entry: with_batch(
            entry, replace(entry.batches[1], granted_at=entry.batches[1].granted_at - MILLISECOND)
        ),
        "the open batches do not add up",
    ),
    "a batch that was granted more than it was": (
        5,
        lambda entry: with_batch(entry, replace(entry.batches[1], granted=51)),
        "the open batches do not add up",
    ),
    "a batch that holds less than nothing": (
        5,
        lambda entry: moved(entry, (1, -21)),
        "an open batch holds nothing",
    ),
    "a batch that holds more than was granted": (
        4,
        lambda entry: moved(entry, (2, 11), (1, 19)),
        "a batch holds more than it was granted",
    ),
    "a line posted before the one before it": (
        5,
        lambda entry: replace(
            entry,
            posted_at=entry.posted_at - MILLISECOND,
            effective_at=entry.posted_at - MILLISECOND,
        ),
        "it was posted before the entry before it",
    ),
    "a line posted before it was due": (
        3,
        lambda entry: replace(entry, effective_at=entry.posted_at + MILLISECOND),
        "it was posted before it was due",
    ),
    "a usage with a price": (
        3,
        lambda entry: replace(entry, price=Price(1, "EUR")),
        "it has a price, and is no purchase",
    ),
    # Grants
    "an expiring batch that no sweep will find": (
        9,
        lambda entry: replace(entry, expiry_timezone=None),
        "the zone of its expiry is wrong",
    ),
    "a sweep for a batch that never expires": (
        2,
        lambda entry: replace(entry, expiry_timezone=ZONE),
        "the zone of its expiry is wrong",
    ),
    "a sweep for no batch": (
        3,
        lambda entry: replace(entry, expiry_timezone=ZONE),
        "the zone of its expiry is wrong",
    ),
    "a batch that is granted more than it is given": (
        2,
        lambda entry: regranted(entry, granted=500),
        "a grant moves its own batch, whole, and no other",
    ),
    "an allocation that fills another batch too": (
        9,
        lambda entry: moved(entry, (9, 100), (6, -3)),
        "a grant moves its own batch, whole, and no other",
    ),
    "credits granted in the future": (
        2,
        lambda entry: regranted(entry, granted_at=entry.posted_at + MILLISECOND),
        "it grants credits of a later time",
    ),
    "credits that are dead on arrival": (
        6,
        lambda entry: regranted(entry, expires_at=entry.posted_at),
        "it grants credits that have expired",
    ),
    # Void
    "a void that leaves something": (
        5,
        lambda entry: replace(moved(entry, (1, -19)), operation="void#ops#1"),
        "a void takes all of one batch and no other",
    ),
    "a void of two batches": (
        5,
        lambda entry: replace(moved(entry, (1, -20), (2, -50)), operation="void#ops#1"),
        "a void takes all of one batch and no other",
    ),
    "a void that grants": (
        2,
        lambda entry: replace(entry, operation="void#ops#1"),
        "a void takes all of one batch and no other",
    ),
    "a claw-back of one younger batch that is no void": (
        5,
        lambda entry: moved(entry, (2, -50)),
        "credits were not taken oldest first",
    ),
    # Allocation
    "an allocation that takes": (
        9,
        lambda entry: replace(moved(entry, (2, -50)), expiry_timezone=None),
        "an allocation grants a batch",
    ),
    "an allocation that fills old batches only": (
        4,
        lambda entry: replace(
            entry,
            type=EntryType.ALLOCATION,
            allocated_through=Period(2026, 8),
            operation="allocation#2026-08",
        ),
        "an allocation grants a batch",
    ),
    "an allocation of the period before": (
        9,
        lambda entry: replace(
            entry, allocated_through=Period(2026, 7), operation="allocation#2026-07"
        ),
        "the allocated period did not move forward",
    ),
    "an allocation of no period": (
        1,
        lambda entry: replace(entry, allocated_through=None, operation="allocation#None"),
        "the allocated period did not move forward",
    ),
    "an allocation under the name of another period": (
        9,
        lambda entry: replace(entry, operation="allocation#2026-09"),
        "the operation names another period",
    ),
    "an allocation that left credits out and has no cap": (
        9,
        lambda entry: replace(entry, left_out=5),
        "its cap and what it left out disagree",
    ),
    # Expiration
    "an expiration that leaves some": (
        7,
        lambda entry: moved(entry, (1, -14)),
        "it does not expire exactly what is due",
    ),
    "an expiration of a batch that lives": (
        7,
        lambda entry: moved(entry, (1, -15), (6, -8)),
        "it does not expire exactly what is due",
    ),
    "an expiration a millisecond too early": (
        7,
        lambda entry: replace(
            entry,
            posted_at=entry.posted_at - MILLISECOND,
            effective_at=entry.posted_at - MILLISECOND,
        ),
        "it does not expire exactly what is due",
    ),
    "an expiration of nothing": (
        6,
        lambda entry: replace(moved(entry), type=EntryType.EXPIRATION, expiry_timezone=None),
        "it does not expire exactly what is due",
    ),
    # Usage
    "a usage of nothing": (
        3,
        moved,
        "a usage takes credits",
    ),
    "a usage that gives": (
        4,
        lambda entry: replace(entry, type=EntryType.USAGE),
        "a usage takes credits",
    ),
    "a usage of newer credits first": (
        3,
        lambda entry: moved(entry, (1, -60), (2, -50)),
        "credits were not taken oldest first",
    ),
    "a usage that passes over the oldest credits": (
        3,
        lambda entry: moved(entry, (2, -50)),
        "credits were not taken oldest first",
    ),
    "legs of a usage in another order": (
        3,
        lambda entry: moved(entry, (2, -10), (1, -100)),
        "credits were not taken oldest first",
    ),
    "a usage with a leg that moves nothing": (
        3,
        lambda entry: moved(entry, (1, -100), (2, 0)),
        "credits were not taken oldest first",
    ),
    "a usage that gives with one hand": (
        5,
        lambda entry: replace(moved(entry, (1, -20), (2, 0)), type=EntryType.USAGE),
        "credits were not taken oldest first",
    ),
    "a usage of expired credits": (
        5,
        lambda entry: replace(
            entry,
            type=EntryType.USAGE,
            posted_at=at("2026-07-30T22:00:00Z"),
        ),
        "credits were not taken oldest first",
    ),
    "a usage of more batches than are usable": (
        10,
        lambda entry: replace(
            moved(entry, (2, -50), (6, -8), (9, -100)), posted_at=at("2026-08-30T22:00:00Z")
        ),
        "credits were not taken oldest first",
    ),
    # By hand
    "a manual line of nothing": (
        5,
        moved,
        "it neither grants nor takes",
    ),
    "a manual line that fills an old batch": (
        4,
        lambda entry: replace(entry, type=EntryType.MANUAL),
        "it neither grants nor takes",
    ),
    "a claw-back of newer credits": (
        5,
        lambda entry: moved(entry, (2, -5)),
        "credits were not taken oldest first",
    ),
    # Reversal
    "a reversal that grants": (
        2,
        lambda entry: replace(entry, type=EntryType.REVERSAL),
        "a reversal gives back",
    ),
    "a reversal that takes": (
        5,
        lambda entry: replace(entry, type=EntryType.REVERSAL),
        "a reversal gives back",
    ),
    "a reversal with a leg that moves nothing": (
        4,
        lambda entry: moved(entry, (2, 10), (1, 0)),
        "a reversal gives back",
    ),
    "a reversal that revives what had expired": (
        8,
        lambda entry: moved(entry, (1, 70)),
        "a reversal revives expired credits",
    ),
    "a reversal at the instant of the expiry": (
        4,
        lambda entry: replace(entry, posted_at=at("2026-07-30T22:00:00Z")),
        "a reversal revives expired credits",
    ),
    "a reversal of what is no usage": (
        4,
        lambda entry: replace(entry, usage=2),
        "it names an entry that is not a usage",
    ),
    "a reversal of itself": (
        4,
        lambda entry: replace(entry, usage=4),
        "it names an entry that is not a usage",
    ),
    "a usage that names a usage": (
        10,
        lambda entry: replace(entry, usage=3),
        "it gives back no usage, and names one",
    ),
    # Other types
    "a release of no hold": (
        8,
        lambda entry: replace(entry, type=EntryType.RELEASE),
        "it does not release what was held",
    ),
    **{
        f"a line of type {ENTRIES[number - 1].type} that moves the period": (
            number,
            lambda entry: replace(entry, allocated_through=Period(2026, 8)),
            "the allocated period moved without an allocation",
        )
        for number in (2, 3, 4, 5, 7)
    },
    "a line that forgets the period": (
        3,
        lambda entry: replace(entry, allocated_through=None),
        "the allocated period moved without an allocation",
    ),
}


@pytest.mark.parametrize(("number", "forge", "rule"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_line_is_refused_for_the_rule_it_breaks(
    number: int, forge: Forgery, rule: str
) -> None:
    forged = forge(ENTRIES[number - 1])
    assert forged != ENTRIES[number - 1]
    assert fault(sealed([*ENTRIES[: number - 1], forged])) == (number, rule)


def test_the_first_wrong_line_is_named_and_not_one_that_follows_from_it() -> None:
    forged = replace(ENTRIES[2], allocated_through=Period(2026, 8))
    later = replace(ENTRIES[6], effective_at=ENTRIES[6].posted_at + DAY)
    lines = sealed([*ENTRIES[:2], forged, *ENTRIES[3:6], later, *ENTRIES[7:]])
    assert fault(lines)[0] == 3


def test_a_reversal_cannot_give_back_what_was_clawed_back() -> None:
    """The batch was granted that much, and is not expired; yet nobody used it."""
    account = Account(USER)
    now = at("2026-07-01T00:00:00Z")
    entries = [ledger.grant(account, 50, why("manual#1"), now, ZONE, None)]
    entries.append(ledger.claw_back(Account(USER, entries[-1]), 20, why("manual#2"), now))
    entries.append(ledger.use(Account(USER, entries[-1]), 10, why("usage#3"), now))
    used = entries[-1]
    right = replace(
        entries[0],
        number=4,
        type=EntryType.REVERSAL,
        amount=10,
        balance=30,
        batches=(replace(entries[0].batches[0], remaining=30),),
        legs=(Leg(1, 10),),
    )
    assert verify(USER, sealed([*entries, right])).ledger_balance == 30
    wrong = replace(
        right,
        amount=11,
        balance=31,
        batches=(replace(used.batches[0], remaining=31),),
        legs=(Leg(1, 11),),
    )
    reason = "a reversal gives back more than was used"
    assert fault(sealed([*entries, wrong])) == (4, reason)
    # And what was given back once is not there to be given back again.
    again = replace(
        right,
        number=5,
        amount=1,
        balance=31,
        batches=(replace(used.batches[0], remaining=31),),
        legs=(Leg(1, 1),),
    )
    assert fault(sealed([*entries, right, again])) == (5, reason)


def test_two_lines_of_the_same_millisecond_are_in_order() -> None:
    now = at("2026-07-01T00:00:00Z")
    first = ledger.grant(Account(USER), 50, why("manual#1"), now, ZONE, None)
    second = ledger.use(Account(USER, first), 50, why("usage#2"), now)
    assert verify(USER, sealed([first, second])).ledger_balance == 0


def test_a_claw_back_takes_nothing_of_a_batch_that_is_dead_where_no_other_is_left() -> None:
    start = at("2026-06-30T22:00:00Z")
    first = ledger.grant(Account(USER), 50, why("manual#1"), start, ZONE, Days(1))
    taken = ledger.claw_back(Account(USER, first), 20, why("manual#2"), start)
    late = start + 3 * DAY
    forged = replace(taken, posted_at=late, effective_at=late)
    reason = "credits were not taken oldest first"
    assert fault(sealed([first, forged])) == (2, reason)


# --- Reversals, usage by usage ------------------------------------------------------------------


def two_usages() -> list[LedgerEntry]:
    """A batch of 60 of which 10 were clawed back, and two usages of it: of 10 and of 20."""
    now = at("2026-07-01T00:00:00Z")
    entries = [ledger.grant(Account(USER), 60, why("manual#1"), now, ZONE, None)]
    entries.append(ledger.claw_back(Account(USER, entries[-1]), 10, why("manual#2"), now))
    entries.append(ledger.use(Account(USER, entries[-1]), 10, why("usage#3"), now))
    entries.append(ledger.use(Account(USER, entries[-1]), 20, why("usage#4"), now))
    return entries


def with_reversals(*reversals: tuple[int | None, int]) -> list[StoredLine]:
    """Those entries, and reversals of usages: their numbers or None, and how much they give."""
    entries = two_usages()
    for usage, amount in reversals:
        before = entries[-1]
        (open_batch,) = before.batches
        reversal = replace(
            before,
            number=before.number + 1,
            type=EntryType.REVERSAL,
            amount=amount,
            balance=before.balance + amount,
            legs=(Leg(1, amount),),
            batches=(replace(open_batch, remaining=open_batch.remaining + amount),),
            usage=usage,
        )
        entries.append(reversal)
    return sealed(entries)


def test_a_reversal_names_the_usage_it_gives_back_in_its_body() -> None:
    entries = two_usages()
    account = Account(USER, entries[-1])
    reversal = ledger.reverse(
        account, entries[2], entries[1], 0, None, why("reversal#5"), entries[-1].posted_at
    ).entry
    assert reversal.usage == 3
    assert reversal.body().endswith(',"usage":3}')
    assert LedgerEntry.from_body(USER, 5, reversal.body()) == reversal
    assert all('"usage":' not in entry.body() for entry in entries), "others keep their size"
    assert verify(USER, sealed([*entries, reversal])).ledger_balance == 30


@pytest.mark.parametrize("value", ["null", "true", "3.0", '"3"', "[3]"])
def test_a_usage_that_is_no_number_is_no_usage(value: str) -> None:
    line = with_reversals((3, 10))[-1]
    body = line.body.replace('"usage":3', f'"usage":{value}')
    with pytest.raises(LedgerCorrupt):
        verify(
            USER,
            [
                *with_reversals(),
                line._replace(body=body, hash=hash_of(with_reversals()[-1].hash, USER, body)),
            ],
        )


@pytest.mark.parametrize(
    "reversals",
    [
        [(3, 10), (4, 20)],
        [(4, 15), (3, 10), (4, 5)],
        [(None, 30)],
        [(None, 25), (3, 5)],
        [(3, 10), (None, 20)],
    ],
)
def test_usages_are_given_back_in_any_order_until_nothing_is_left_of_them(
    reversals: list[tuple[int | None, int]],
) -> None:
    assert verify(USER, with_reversals(*reversals)).ledger_balance == 50


@pytest.mark.parametrize(
    ("reversals", "reason"),
    [
        # Another usage took as much, or more: that is not this one's to give back.
        ([(3, 11)], "a reversal gives back more than was used"),
        ([(3, 10), (3, 1)], "a reversal gives back more than was used"),
        ([(4, 20), (3, 5), (4, 1)], "a reversal gives back more than was used"),
        ([(None, 31)], "a reversal gives back more than was used"),
        # Of those that name none it is not known whose credits they gave back.
        ([(None, 25), (3, 6)], "reversals give back more than was used"),
    ],
)
def test_a_usage_is_never_given_back_more_than_it_took(
    reversals: list[tuple[int | None, int]], reason: str
) -> None:
    assert fault(with_reversals(*reversals)) == (4 + len(reversals), reason)


def test_a_usage_gives_nothing_back_to_a_batch_that_it_took_nothing_of() -> None:
    now = at("2026-07-01T00:00:00Z")
    entries = [ledger.grant(Account(USER), 10, why("manual#1"), now, ZONE, None)]
    entries.append(ledger.grant(Account(USER, entries[-1]), 10, why("manual#2"), now, ZONE, None))
    entries.append(ledger.use(Account(USER, entries[-1]), 10, why("usage#3"), now))
    entries.append(ledger.use(Account(USER, entries[-1]), 5, why("usage#4"), now))
    account = Account(USER, entries[-1])
    right = ledger.reverse(account, entries[2], entries[1], 0, 1, why("reversal#5"), now).entry
    assert right.legs == (Leg(1, 1),)
    assert verify(USER, sealed([*entries, right])).ledger_balance == 6
    (second,) = entries[-1].batches
    wrong = replace(right, legs=(Leg(2, 1),), batches=(replace(second, remaining=6),))
    reason = "a reversal gives back more than was used"
    assert fault(sealed([*entries, wrong])) == (5, reason)


# --- Markers and links --------------------------------------------------------------------------


def operations_of(entries: Iterable[LedgerEntry]) -> list[Operation]:
    return [operation for entry in entries if (operation := operation_of(entry))]


def markers_of(operations: Iterable[Operation], **expired: int) -> dict[str, Marker]:
    """The markers of operations; ``expired`` of those whose type it names."""
    return {
        each.digests[0]: Marker(each.digests[0], "", USER, each.number, expired.get(each.type, 0))
        for each in operations
    }


def links_fault(
    reversals: list[tuple[int | None, int]], links: list[Link], expired: int = 0
) -> tuple[int, str] | None:
    """What is wrong with the links of two usages, of 10 and of 20; None for nothing."""
    lines = with_reversals(*reversals)
    entries = [LedgerEntry.from_body(USER, line.number, line.body) for line in lines]
    entries = [replace(entry, operation=f"operation#{entry.number}") for entry in entries]
    operations = operations_of(entries)
    try:
        check_links(USER, iter(operations), markers_of(operations, reversal=expired), links)
    except LedgerCorrupt as corrupt:
        found = corrupt
    else:
        return None
    assert found.user_id == USER
    return found.number, found.reason


def test_the_operation_of_an_entry_is_told_for_all_but_scheduled_work() -> None:
    told = {each.number: each for each in operations_of(ENTRIES)}
    assert list(told)[:7] == [2, 3, 4, 5, 6, 8, 10], "no allocation and no expiration"
    for number, type_, amount, usage in (
        (2, EntryType.MANUAL, 50, None),
        (3, EntryType.USAGE, -110, None),
        (4, EntryType.REVERSAL, 30, 3),
        (10, EntryType.USAGE, -58, None),
    ):
        digests = (entries.operation_digest(f"{type_}#{number}"),)
        assert told[number] == Operation(number, digests, type_, amount, usage)


@pytest.mark.parametrize(
    ("type_", "expired", "is_right"),
    [
        (EntryType.REVERSAL, 0, True),
        (EntryType.REVERSAL, 5, True),
        (EntryType.REVERSAL, -1, False),
        (EntryType.USAGE, 0, True),
        (EntryType.USAGE, 1, False),
        (EntryType.USAGE, -1, False),
        (EntryType.MANUAL, 1, False),
    ],
)
def test_only_of_what_a_reversal_gave_back_some_can_have_expired(
    type_: EntryType, expired: int, *, is_right: bool
) -> None:
    operation = Operation(7, ("a digest",), type_, 0, None)
    markers = markers_of([operation], **{type_: expired})
    if is_right:
        check_markers(USER, [operation], markers)
        return
    with pytest.raises(LedgerCorrupt) as caught:
        check_markers(USER, [operation], markers)
    reason = "its marker says what cannot be expired"
    assert (caught.value.number, caught.value.reason) == (7, reason)


@pytest.mark.parametrize(
    ("reversals", "links", "expired"),
    [
        ([], [], 0),
        ([(3, 10)], [Link(3, 1, 10)], 0),
        ([(4, 5), (3, 1), (4, 15)], [Link(4, 2, 20), Link(3, 1, 1), Link(4, 1, 5)], 0),
        ([(4, 5), (4, 6)], [Link(4, 1, 9), Link(4, 2, 19)], 4),
        ([(None, 5), (4, 6)], [Link(4, 1, 5), Link(4, 2, 11)], 0),
    ],
)
def test_links_that_add_up_to_the_reversals_are_right(
    reversals: list[tuple[int | None, int]], links: list[Link], expired: int
) -> None:
    assert links_fault(reversals, links, expired) is None


NEVER_USED = "its links say that what was never used was given back"
NOT_THERE = "its links tell of reversals that are not there"


@pytest.mark.parametrize(
    ("reversals", "links", "fault"),
    [
        # More than the usage, nothing at all, less than before; of what is no usage.
        ([(3, 10)], [Link(3, 1, 11)], (3, NEVER_USED)),
        ([], [Link(3, 1, 0)], (3, NEVER_USED)),
        ([], [Link(4, 1, 5), Link(4, 2, 4)], (4, NEVER_USED)),
        ([], [Link(2, 1, 1)], (2, NEVER_USED)),
        ([(3, 10)], [Link(3, 2, 10)], (3, "a link of its reversals is missing")),
        ([(3, 10)], [Link(3, 1, 9)], (5, "the links of its usage do not agree")),
        ([(3, 10)], [], (5, "the links of its usage do not agree")),
        ([(4, 5)], [Link(3, 1, 1), Link(4, 1, 5)], (3, NOT_THERE)),
        # Which usage an older reversal was of, nobody knows where there is no link at all.
        ([(None, 5)], [], (0, NOT_THERE)),
        ([(None, 5)], [Link(4, 1, 6)], (4, NOT_THERE)),
        ([(3, 10)], [Link(3, 1, 10), Link(4, 1, 6)], (4, NOT_THERE)),
    ],
)
def test_links_that_do_not_add_up_to_the_reversals_are_found(
    reversals: list[tuple[int | None, int]], links: list[Link], fault: tuple[int, str]
) -> None:
    assert links_fault(reversals, links) == fault


# --- Anchors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, len(LINES) + 1))
def test_a_ledger_that_has_its_anchor_passes_however_much_it_has_grown(number: int) -> None:
    anchor = Anchor(number, LINES[number - 1].hash)
    assert verify(USER, LINES, anchor) == verify(USER, LINES)


@pytest.mark.parametrize("left", range(len(LINES)))
def test_an_end_that_was_cut_off_is_found_by_the_anchor(left: int) -> None:
    anchor = Anchor(len(LINES), LINES[-1].hash)
    with pytest.raises(LedgerCorrupt) as caught:
        verify(USER, LINES[:left], anchor)
    assert (caught.value.number, caught.value.reason) == (
        left + 1,
        f"entries up to {len(LINES)} were anchored and are gone",
    )


@pytest.mark.parametrize("number", range(1, len(LINES) + 1))
def test_a_chain_that_was_written_anew_is_found_by_the_anchor(number: int) -> None:
    anchor = Anchor(number, LINES[number - 1].hash)
    forged = sealed([replace(ENTRIES[0], description="Another"), *ENTRIES[1:]])
    assert verify(USER, forged).last == ENTRIES[-1], "by itself it is right"
    with pytest.raises(LedgerCorrupt) as caught:
        verify(USER, forged, anchor)
    assert (caught.value.number, caught.value.reason) == (
        number,
        "it is not the entry that was anchored",
    )
