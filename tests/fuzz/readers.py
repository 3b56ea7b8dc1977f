"""The readers themselves: fields, instants, messages, cursors, tokens, files and settings.

Each takes an input or refuses it with an error of its own. What it takes it must read as the same
again when it is written out, and what it says of a refusal must be fit to be sent and logged.
"""

import base64
import json
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO, TextIOWrapper
from operator import methodcaller
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chalicelib.api import account, authorizer, calls, cursors, issuer_keys
from chalicelib.api import holds as hold_routes
from chalicelib.api import purchases as purchase_routes
from chalicelib.api import subscriptions as routes
from chalicelib.api.authorizer import InvalidToken, TokenChecker, answer, bearer_token
from chalicelib.api.issuer_keys import IssuerKeys, KeysUnavailable
from chalicelib.api.principal import Scope, caller_of
from chalicelib.domain import addresses, calendar, fields, instants, ledger
from chalicelib.domain.anchors import Head
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.damage import Damage
from chalicelib.domain.edits import BY_LINK, Change, Edit, Editor, EditorKind, shown_fields
from chalicelib.domain.entries import FIRST_HASH, LedgerEntry, entry_hash
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, Unreadable
from chalicelib.domain.events import CreditEvent, EventName
from chalicelib.domain.languages import parse_language
from chalicelib.domain.ledger import Account, AllocationTerms, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.metadata import MOST_BYTES, MOST_PAIRS, parse_metadata
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.prices import Price, parse_price
from chalicelib.domain.ranges import Range
from chalicelib.domain.subscriptions import (
    Subscription,
    TopUp,
    due_periods,
    next_allocation,
)
from chalicelib.domain.terms import FIELDS as FIELDS_OF_AN_EDIT
from chalicelib.domain.verification import StoredLine, verify
from chalicelib.jobs.audits import parse_sample
from chalicelib.mails.links import UnsubscribeLinks
from chalicelib.mails.sending import user_of_tag
from chalicelib.messages.checks import UNKNOWN_ZONES, ZoneCheck
from chalicelib.messages.events import ToPublish
from chalicelib.messages.notifications import EntryPosted, ExpiringSoon, parse_notification
from chalicelib.messages.work import Sweep, SweepKind, UsersMessage
from chalicelib.operations import adjustments
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.services import PLANS_FILE
from chalicelib.settings import Settings, TokenSettings
from chalicelib.store import ledger_items, subscriptions
from chalicelib.store.edits import read_edit
from chalicelib.store.mails import read_mail
from infra import arguments
from infra.commands import liability, whatif
from infra.deployment import parameters, plan_changes
from infra.deployment.errors import DeployError
from infra.imports import balances, csv_file, movements, promotions, table_export
from infra.imports.csv_file import CheckedFile, Row, UnreadableFileError
from infra.imports.importing import Import
from infra.imports.subscriptions import COLUMNS
from infra.imports.subscriptions import SUBSCRIPTIONS as IMPORTED_SUBSCRIPTIONS
from infra.local.clock import parse_moment
from infra.local.console import server as console
from infra.repair import events, redrive, replay, void
from infra.shadow.nights import Night
from tests.fuzz.target import Kind, Target
from tests.registered import register
from tests.simulation.world import SUBSCRIBED

LONGEST_REFUSAL = 32_000
"""In characters. Lambda answers 6 MB at most and a log event has 256 KB at most."""

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
INSTANT = "2026-02-01T00:00:00Z"
CHATHAM = "Pacific/Chatham"
VALID = f"{INSTANT} 1970-01-01T00:00:00Z 2999-12-31T23:59:59Z Europe/Paris {CHATHAM} 42 1".split()
SHIPPED_PLANS = PLANS_FILE.read_text(encoding="utf-8")
CATALOGUE = parse_catalogue(SHIPPED_PLANS)
MAIL_KINDS = [kind.value for kind in MailKind]

Json = Any
Errors = type[Exception] | tuple[type[Exception], ...]
Read = Callable[[Any], Any]


def sendable(text: str) -> str:
    """The text as it arrives: half a character travels in no request and stands in no file."""
    return text.encode("utf-8", "replace").decode()


def refused(error: Exception) -> bool:
    """Not accepted. What a refusal says must be fit to be sent."""
    said = str(error)
    said.encode()
    assert 0 < len(said) <= LONGEST_REFUSAL, f"a refusal of {len(said)} characters"
    return False


def reader(
    name: str,
    kind: Kind,
    read: Read,
    *seeds: Json,
    write: Callable[[Any], Json] | None = None,
    own: Errors = InvalidInput,
    check: Callable[[Any], object] = lambda _: True,
    words: Iterable[str] = (),
) -> Target:
    """A target of one function. ``write`` undoes it; ``check`` says whether a value is valid."""

    def call(given: Any) -> bool:
        try:
            value = read(given)
        except own as error:
            return refused(error)
        assert check(value), f"accepted as {value!r}"
        if write is not None:
            again = read(write(value))
            assert again == value, f"{value!r} was written and read as {again!r}"
        return True

    return Target(name, kind, seeds, call, tuple(words))


def as_it_is(value: Any) -> Any:
    """Of what is the same when it is written."""
    return value


def field(
    parse: Callable[[str, object], Any],
    *seeds: Json,
    name: str = "",
    write: Callable[[Any], Json] | None = as_it_is,
    **more: Any,
) -> Target:
    """A target of one parser of `FieldReader`."""
    name = name or parse.__name__.lstrip("_").removeprefix("parse_").replace("_", " ")
    read = partial(parse, "field")
    return reader(f"field: {name}", Kind.VALUE, read, *seeds, write=write, **more)


# --- Fields, instants and the calendar ------------------------------------------------------------


def is_instant(value: datetime) -> bool:
    """Whether an instant is one we compute with."""
    is_whole = value.microsecond % 1000 == 0
    return value.tzinfo is UTC and is_whole and 1969 <= value.year <= 3000


FIELDS = (
    field(fields.parse_user_id, 42, "auth0|42", "a.b_c:d@e|f+g=h-i", check=str.isascii),
    field(
        caller_of,
        *(42, "auth0|42", "CORP\\ada", "conan.o'brien@example.com", "team#1/ada 100%"),
        name="subject of a token",
        write=None,
        check=lambda caller: caller.isprintable() and not {*"#/"} & {*caller},
    ),
    field(fields.parse_amount, 1, 10**9, check=lambda value: 0 < value <= 10**9),
    field(fields.parse_signed_amount, 1, -(10**9), check=lambda value: 0 < abs(value) <= 10**9),
    field(fields.parse_text, "Goodwill", "Für Ada 😀", check=lambda t: t.encode() and t.strip()),
    field(fields.parse_key, "order-17", check=lambda key: 0 < len(key) <= 255),
    field(fields.parse_correlation_id, "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa"),
    field(
        addresses.parse_email,
        *("ada@example.com", "a.b+c@mail.example.co.uk", "ada@exämple.de"),
        check=str.isascii,
    ),
    field(fields.parse_days, 1, 3650, check=lambda days: 1 <= days <= 3650),
    field(fields.parse_boolean, *(True, False), check=lambda value: type(value) is bool),
    field(fields.parse_choice(MailKind), *MAIL_KINDS, name="choice", write=lambda kind: kind.value),
    field(parse_language, "en", "de-AT", "de_CH", write=lambda language: language.value),
    field(
        instants.parse_instant,
        *(INSTANT, "2026-07-01T00:00:00-04:00", "2026-07-01t00:00:00.123456z"),
        write=instants.format_instant,
        check=is_instant,
    ),
    field(instants.parse_date, "2026-07-01", "2028-02-29", write=str),
    field(
        lambda name, value: Period.parse(value, name),
        *("2026-07", "2999-12", "1970-01"),
        name="period",
        write=str,
        check=lambda period: period.previous() < period < period.next(),
    ),
    field(
        calendar.parse_timezone,
        *("Europe/Paris", "America/Havana"),
        check=lambda name: calendar.midnight(name, NOW.date()),
        words=("paris", "EUROPE", "Asia/Calcuta", "GMT+2", "../"),
    ),
    field(calendar.parse_timezones, ["Europe/Paris"], ["America/Havana", "Asia/Kolkata"]),
    field(parse_sample, 1, 200, 10_000, name="sample of the audit"),
    field(calls.parse_limit, 1, "20", "100", check=lambda limit: 1 <= limit <= 100),
    field(
        parse_metadata,
        {"job": "render-17", "customer_tier": "Größe 😀"},
        {},
        write=dict,
        check=lambda pairs: (
            len(pairs) <= MOST_PAIRS
            and sum(len(part.encode()) for pair in pairs for part in pair) <= MOST_BYTES
        ),
    ),
    field(hold_routes._parse_seconds, 1, 3600, 30 * 86_400, name="seconds of a hold"),
    field(hold_routes._parse_captured, 0, 1, 10**9, name="captured amount"),
    field(purchase_routes._parse_refunded, 0, 1, 10**9, name="refunded amount"),
    field(
        instants.parse_past(NOW),
        *("2026-01-15T12:00:00Z", "2025-12-31T23:59:59.5Z"),
        name="instant of the past",
        write=instants.format_instant,
        check=is_instant,
    ),
    field(
        parse_price,
        {"amount": 990, "currency": "EUR"},
        {"amount": 0, "currency": "jpy"},
        write=lambda price: price._asdict(),
        check=lambda price: 0 <= price.amount <= 10**12 and price.currency.isupper(),
        words=("amount", "currency", "usd", "€"),
    ),
    field(adjustments.parse_source, "adjustment", "promotion"),
    field(cursors.parse_cursor, "MGJhZGY4ZTYx"),
    field(account._parse_transaction_id, "42-7"),
    field(routes._parse_etags, '"3"', 'W/"3", "4"', "*", write=", ".join),
    field(routes._parse_any, "*"),
    field(console._parse_scopes, "credits:read credits:use", *(scope.value for scope in Scope)),
    field(console._parse_seconds, 3600, -60),
    field(
        Tally.parse,
        Tally(3, 1, 1, 1, 1, ("a",), ("b",), ("c",), 9).values()
        | {"missing_users": ["a"], "duplicate_users": [], "unchecked_users": ["b", "c"]},
        name="tally",
        write=lambda tally: json.loads(json.dumps(tally.values())),
    ),
)


def registered(values: Any) -> Any:
    """A subscription, and what everybody asks of one."""
    subscription = register(values, CATALOGUE, NOW)
    next_allocation(subscription, CATALOGUE, None, NOW)
    return subscription


SUBSCRIPTION = {"user_id": "42", **SUBSCRIBED, "email": "ada@example.com", "plan": "pro"}

SUBSCRIPTIONS = (
    reader(
        "subscription",
        Kind.VALUE,
        registered,
        SUBSCRIPTION,
        SUBSCRIPTION
        | {
            "eligible_from": "2999-12-31T23:59:59Z",
            "allocation_amount": 5,
            "notifications": ["manual"],
            "language": "de-AT",
            "ends_at": "2026-12-31T23:59:59Z",
            "observed_at": "2026-01-01T00:00:00.5Z",
        },
        SUBSCRIPTION | {"eligible_from": "2026-02-28"},
        write=lambda found: {
            name: value
            for name, value in {**shown_fields(found), "user_id": found.user_id}.items()
            if name in {*FIELDS_OF_AN_EDIT, "user_id"}
        },
        words=("yearly", "monthly", "active", "paused", "cancelled", "starter", "pro"),
    ),
)

# --- Messages -------------------------------------------------------------------------------------


def message(name: str, read: Read, *seeds: Any, words: Iterable[str] = VALID) -> Target:
    """A target of one reader of messages, which write themselves."""
    texts = (seed.body() for seed in seeds)
    write = methodcaller("body")
    return reader(f"message: {name}", Kind.JSON, read, *texts, write=write, words=words)


SWEEP = Sweep(SweepKind.EXPIRY, "Europe/Paris", NOW, NOW, NOW)
MESSAGES = (
    message(
        "sweep",
        Sweep.parse,
        SWEEP,
        SWEEP._replace(range=Range("00111"), cursor="Europe/Paris 07 x#1#2"),
        Sweep(SweepKind.ALLOCATION, CHATHAM, NOW, NOW, NOW, None, "tick", Range("01"), 31),
        Sweep(SweepKind.REMINDER, CHATHAM, NOW, NOW, NOW, None, "tick", Range("1" * 16)),
        words=(*VALID, "allocation", "expiry", "reminder", "Europe/Paris 31 "),
    ),
    message(
        "users",
        UsersMessage.parse,
        UsersMessage(NOW, ("1", "auth0|2"), "tick"),
        UsersMessage(NOW, ("1",)),
    ),
    message(
        "check of a zone",
        ZoneCheck.parse,
        ZoneCheck("run", Period(2026, 1), "Europe/Paris", 2),
        ZoneCheck("run", Period(2026, 1), CHATHAM, 2, Range("01"), "tick"),
        ZoneCheck("run", Period(2026, 1), UNKNOWN_ZONES, 2),
    ),
    message(
        "notification",
        parse_notification,
        *(EntryPosted("1", 3, "tick"), ExpiringSoon("1", NOW, NOW, "tick")),
    ),
    message(
        "event",
        ToPublish.parse,
        ToPublish(CreditEvent(EventName.USED, NOW, {"version": 1, "user_id": "1"}), "tick"),
        ToPublish(CreditEvent(EventName.EXHAUSTED, NOW, {})),
        words=[*EventName],
    ),
)

# --- The ledger -----------------------------------------------------------------------------------


def _ledger() -> list[LedgerEntry]:
    """A ledger with a line of every type, and of every field that a line can have."""
    told = Request("hold#shop#key", "shop", "Render", metadata=(("job", "17"), ("tier", "Größe")))
    request = Request("usage#ada#key", "ada", "Für Ada 😀")
    entries = [ledger.allocate(Account("1"), Period(2026, 1), 100, "Europe/Paris", Days(30), NOW)]

    def account_now() -> Account:
        return Account("1", entries[-1])

    entries.append(ledger.grant(account_now(), 50, request, NOW, "Europe/Paris", None))
    entries.append(ledger.use(account_now(), 120, request, NOW))
    reversal = ledger.reverse(account_now(), entries[2], entries[1], 0, 40, request, NOW)
    entries.append(reversal.entry)
    entries.append(ledger.claw_back(account_now(), 5, request, NOW))
    entries.append(ledger.claw_back_what_is_left(account_now(), 5, request, NOW))
    dates = (datetime(2026, 1, 3, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
    entries.append(ledger.carry_over(account_now(), 40, *dates, told, NOW, "Europe/Paris", 7))
    for seconds, captured in ((3600, 30), (3600, 0), (30 * 86_400, None)):
        entries.append(ledger.hold(account_now(), 45, seconds, told, NOW, lambda: "Europe/Paris"))
        if captured is not None:
            ended = (entries[-1].number, captured, told, NOW, lambda: "Europe/Paris")
            entries.append(ledger.capture(account_now(), *ended))
    entries.append(ledger.claw_back(account_now(), 30, told, NOW, including_held=True))
    paid = Request("purchase#pi_1", "till", "Pack")
    price = Price(990, "EUR")
    bought = ledger.purchase(account_now(), 60, price, paid, NOW, "Europe/Paris", 365)
    entries.append(bought)
    stands, batch = None, bought.granted_batch
    assert batch is not None
    for in_all, seen in ((60, NOW), (20, None)):
        why = Request("refund#pi_1", "till", "Part")
        refunded = ledger.refund(account_now(), batch, stands, in_all, seen, why, NOW)
        assert refunded is not None
        entries.append(refunded.entry)
        stands = refunded.entry.refund
    for month, cap in ((2, 120), (3, 60)):
        asked = (
            Period(2026, month),
            100,
            "Europe/Paris",
            Days(30),
            datetime(2026, 3, 1, tzinfo=UTC),
        )
        entries.append(ledger.allocate(account_now(), *asked, AllocationTerms(balance_cap=cap)))
    top_up = (TopUp(5, NOW), "Europe/Paris", Days(30), datetime(2026, 3, 1, tzinfo=UTC))
    entries.append(ledger.top_up(account_now(), *top_up))
    expiration = ledger.expire(account_now(), datetime(2026, 3, 1, tzinfo=UTC))
    assert expiration is not None
    return [*entries, expiration]


LEDGER = _ledger()


def body_of(values: Json) -> str:
    """A line as somebody would store it; half a character can be stored as an escape only."""
    body = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return body if body.isprintable() else json.dumps(values, separators=(",", ":"))


def read_entry(body: str) -> LedgerEntry:
    """An entry under the number that it says it has."""
    said = re.search(r'"number":([0-9]{1,12}),', body)
    return LedgerEntry.from_body("1", int(said[1]) if said else 1, body)


def verified(bodies: Json) -> Account:
    """A ledger that somebody wrote who knows how to seal each line."""
    lines, sealed = [], FIRST_HASH
    for number, values in enumerate(bodies if isinstance(bodies, list) else [bodies], 1):
        body = body_of(values)
        sealed = entry_hash(sealed, "1", body)
        lines.append(StoredLine(number, body, sealed))
    return verify("1", lines)


EDITS = [
    Edit("42", 3, NOW, Editor(EditorKind.ADMIN, "ada"), (Change("plan", None, "pro"),), "c-1"),
    Edit("42", 4, NOW, BY_LINK, (Change("notifications", ["manual"], []),), None),
]


def read_edit_of(body: str) -> Edit:
    """The record of an edit with that body."""
    return read_edit({"user_id": {"S": "42"}, "edit": {"S": "3#a"}, "body": {"S": body}})


LEDGERS = (
    reader(
        "record of an edit",
        Kind.JSON,
        read_edit_of,
        *(edit.body() for edit in EDITS),
        write=Edit.body,
        own=Unreadable,
        words=("admin", "backend", "import", "mail_events", "unsubscribe_link"),
    ),
    reader(
        "ledger entry",
        Kind.JSON,
        read_entry,
        *(entry.body() for entry in LEDGER),
        write=LedgerEntry.body,
        own=LedgerCorrupt,
        words=(
            *("allocation", "manual", "usage", "reversal", "expiration", "hold", "release"),
            *("(erased)", "holds", "released", "metadata", "promotion", "including_held"),
            *("purchase", "refund", "price"),
            *("left_out", "balance_cap", "sign_up", "topped_up"),
        ),
    ),
    reader(
        "ledger, sealed by somebody else",
        Kind.VALUE,
        verified,
        *([json.loads(entry.body()) for entry in LEDGER[:end]] for end in (1, 3, 6, len(LEDGER))),
        own=LedgerCorrupt,
    ),
    reader(
        "head of a ledger",
        Kind.TEXT,
        Head.parse,
        *(Head("ab" * 16, 1, "0" * 64).line(), Head("09" * 16, 10**12 - 1, "f" * 64).line()),
        write=Head.line,
        own=ValueError,
        words=("0" * 32, "f" * 64, "-1", "\n"),
    ),
)

# --- Items as they are stored ---------------------------------------------------------------------


def item_reader(name: str, read: Read, keys: Json, *seeds: Json, words: str, **more: Any) -> Target:
    """A target of one reader of a table. Whatever is stored there, it has its keys.

    DynamoDB stores no item without them, and always as a text.
    """

    def stored(given: Json) -> Any:
        return read((given if isinstance(given, dict) else {}) | keys)

    more |= {"own": Unreadable, "words": words.split()}
    return reader(f"item: {name}", Kind.VALUE, stored, *seeds, **more)


def can_be_computed_with(subscription: Subscription) -> bool:
    """Whether what is read can be used: no instant of it is beyond Python's calendar."""
    next_allocation(subscription, CATALOGUE, None, NOW)
    due_periods(replace(subscription, timezone=CHATHAM, plan="pro"), CATALOGUE, None, NOW, NOW)
    return True


def _subscription(**changes: object) -> Json:
    given = {**SUBSCRIPTION, "user_id": "1", "timezone": CHATHAM, **changes}
    registered = register(given, CATALOGUE, NOW)
    return subscriptions._item(registered) | {"edits": {"S": "a b"}}


_SUBSCRIPTION = _subscription(
    eligible_from="2026-02-01", allocation_amount=7, ends_at=INSTANT, notifications=["manual"]
) | {
    "language": {"S": "de"},
    "suppressed": {"S": "bounce"},
    "suppressed_before": {"S": f"complaint {'a' * 64}"},
    "resumed_at": {"N": "1760000000000"},
    "observed_at": {"N": "1760000000000"},
    "sign_up": {"S": "2026-01 5 1768478400000"},
    "raised": {"S": "2026-01 500 284@1768478400000 5@1768478400001"},
}

_ENTRY = ledger_items.item_of(LEDGER[0], FIRST_HASH)


def _keys(user_id: str, entry: str) -> Json:
    return {"user_id": {"S": user_id}, "entry": {"S": entry}}


ITEMS = (
    item_reader(
        "subscription",
        subscriptions.read_subscription,
        {"user_id": {"S": "1"}},
        *(_subscription(), _SUBSCRIPTION),
        write=subscriptions._item,
        words="active paused yearly monthly bounce complaint S N NULL M 2999-12 1970-01",
        check=can_be_computed_with,
    ),
    item_reader(
        "ledger entry",
        lambda item: (ledger_items.read_entry(item), ledger_items.read_line(item)),
        _keys("1", "entry#000000000001"),
        _ENTRY,
        words="S N B entry#000000000002",
    ),
    item_reader(
        "ledger entry under another key",
        lambda item: ledger_items.read_line(item),  # noqa: PLW0108 - its second argument
        {**_ENTRY, "user_id": {"S": "1"}},
        *({"entry": {"S": key}} for key in ("entry#000000000001", "entry#x", "entry#2")),
        words="",
    ),
    item_reader(
        "marker of an operation",
        ledger_items.read_marker,
        _keys("operation#aa", "operation"),
        {
            "request": {"S": "a" * 64},
            "owner": {"S": "1"},
            "number": {"N": "3"},
            "expired": {"N": "0"},
        },
        words="S N -1",
    ),
    item_reader(
        "link of a reversal or a refund",
        lambda item: ledger_items.read_link(item, 2),
        _keys("1", "reversal#000000000002#000001"),
        {"sequence": {"N": "1"}, "reversed_in_all": {"N": "5"}},
        {
            "sequence": {"N": "2"},
            "reversed_in_all": {"N": "0"},
            "number": {"N": "9"},
            "expired": {"N": "4"},
        },
        words="S N -1",
    ),
    item_reader(
        "record of a mail",
        lambda item: read_mail("manual 1-1", item),
        {"id": {"S": "mail#aa"}},
        {
            "status": {"S": "COMPLETED"},
            "expiration": {"N": "1780000000"},
            "data": {"S": '{"kind":"manual","message_id":"m"}'},
        },
        {
            "status": {"S": "INPROGRESS"},
            "expiration": {"N": "1780000000"},
            "in_progress_expiration": {"N": "1780000000000"},
        },
        words="COMPLETED INPROGRESS S N { []",
    ),
)
"""One for each kind of item, mutated as a whole: names, types and values."""

# --- Cursors, links and tokens --------------------------------------------------------------------

LINKS = UnsubscribeLinks(b"k" * 32, "https://api.example.com/v1/api/unsubscribe")


def decoded(given: str) -> Any:
    return cursors.decode("history 1", given, fields.ENTRY_NUMBER.pattern)


CURSORS = (
    reader(
        "cursor",
        Kind.TEXT,
        decoded,
        *(cursors.encode("history 1", "41"), cursors.encode("history 1", "7")),
        write=partial(cursors.encode, "history 1"),
    ),
    reader(
        "header: Accept",
        Kind.TEXT,
        account.prefers_csv,
        *("text/csv", "application/json;q=0.5, text/csv;q=0.9, */*;q=0.1"),
        check=lambda prefers: type(prefers) is bool,
        words=("text/csv", ";q=", ";q=1.0", ","),
    ),
    reader(
        "unsubscribe token",
        Kind.TEXT,
        LINKS.read,
        *(LINKS.token("auth0|42", None), LINKS.token("42", MailKind.MANUAL)),
        write=lambda asked: LINKS.token(*asked),
    ),
    reader(
        "user of a mail's tag",
        Kind.TEXT,
        user_of_tag,
        b"auth0|42".hex(),
        write=lambda user_id: user_id.encode().hex(),
        own=ValueError,
    ),
)

ISSUER = "https://issuer.example.com/"
KEY = ec.derive_private_key(2026, ec.SECP256R1())
KEY_SET = {
    "keys": [
        {**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "ec", "use": "sig"},
        {
            "kty": "RSA",
            "kid": "rsa",
            "alg": "RS256",
            "e": "AQAB",
            "n": base64.urlsafe_b64encode(b"\xc1" * 256).decode().rstrip("="),
        },
    ]
}
TOKEN_SETTINGS = TokenSettings.read(
    {
        "STAGE": "prod",
        "TOKEN_ISSUER": ISSUER,
        "TOKEN_AUDIENCE": "credits-api",
        "TOKEN_JWKS_URL": f"{ISSUER}keys?version=1",
    }
)
CHECKER = TokenChecker(TOKEN_SETTINGS, IssuerKeys(lambda: KEY_SET, now=lambda: 0.0))
NESTED = TokenChecker(
    TOKEN_SETTINGS._replace(user_claim="app_metadata.user_id", scope_claims=("realm.roles",)),
    IssuerKeys(lambda: KEY_SET, now=lambda: 0.0),
)
LONGEST_NAME = 60
HEADER = {"alg": "ES256", "typ": "JWT", "kid": "ec"}
CLAIMS = {
    "iss": ISSUER,
    "aud": "credits-api",
    "sub": "auth0|42",
    "scope": "credits:read credits:use",
    "iat": 1_700_000_000,
    "exp": 4_000_000_000,
}
ALGORITHMS = ("ES256", "RS256", "HS256", "none", "b64", "crit")
ARN = "arn:aws:execute-api:eu-west-1:123456789012:abcdef/v1/GET/api/credits/balance"


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def authorized(authorization: str) -> bool:
    """What the authorizer answers to a header: a policy, whatever is in it."""
    authorization = sendable(authorization)
    with suppress(InvalidToken):
        NESTED.check(bearer_token(authorization))
    try:
        CHECKER.check(bearer_token(authorization))
    except InvalidToken as error:
        # What is logged of it.
        assert all(len(name) <= LONGEST_NAME for name in authorizer._named(authorization))
        return refused(error)
    policy = answer(CHECKER, authorization, ARN)
    json.dumps(policy).encode()
    (statement,) = policy["policyDocument"]["Statement"]
    assert all(isinstance(value, str) for value in policy["context"].values())
    assert statement["Effect"] == "Allow"
    return True


def signed(parts: Json) -> bool:
    """What it answers to a token that the issuer signed, whatever is in it."""
    header, claims = parts if isinstance(parts, list) and len(parts) == 2 else (HEADER, parts)
    said = ".".join(part(json.dumps(piece).encode()) for piece in (header, claims))
    signature = ECAlgorithm(ECAlgorithm.SHA256).sign(said.encode(), KEY)
    return authorized(f"Bearer {said}.{part(signature)}")


def unsigned(parts: Json) -> bool:
    """Its answer to a sender who chooses the parts of a token freely."""
    pieces = parts if isinstance(parts, list) else [parts]
    texts = (piece if isinstance(piece, str) else json.dumps(piece) for piece in pieces)
    return authorized("Bearer " + ".".join(part(sendable(text).encode()) for text in texts))


def ignore(*_: object, **__: object) -> None:
    """Is asked, or closed."""


def keys_of(document: str) -> Any:
    """What is made of what the issuer's address answers."""
    read = BytesIO(sendable(document).encode()).read
    connection = SimpleNamespace(status=200, read=read, request=ignore, close=ignore)
    connection.getresponse = lambda: connection
    with patch.object(issuer_keys, "HTTPSConnection", lambda *_, **__: connection):
        keys = IssuerKeys(lambda: issuer_keys.fetch_keys(TOKEN_SETTINGS), now=lambda: 0.0)
        keys.find("ec")
    return keys


TOKENS = (
    Target(
        "header: Authorization",
        Kind.TEXT,
        (f"Bearer {jwt.encode(CLAIMS, KEY, 'ES256', headers={'kid': 'ec'})}",),
        authorized,
    ),
    Target(
        "token, signed by the issuer",
        Kind.VALUE,
        (
            [HEADER, CLAIMS],
            [HEADER, {**CLAIMS, "scope": ["credits:admin"], "nbf": 1}],
            [HEADER, {**CLAIMS, "app_metadata": {"user_id": 42}, "realm": {"roles": ["x"]}}],
        ),
        signed,
        words=(*ALGORITHMS, "app_metadata.user_id", "realm", "nbf"),
    ),
    Target(
        "token, signed by nobody",
        Kind.VALUE,
        ([HEADER, CLAIMS, "x"], [{**HEADER, "alg": "none"}, CLAIMS, ""], ["[" * 4_000, "", ""]),
        unsigned,
        words=ALGORITHMS,
    ),
    reader(
        "key set of the issuer",
        Kind.JSON,
        keys_of,
        json.dumps(KEY_SET),
        own=KeysUnavailable,
        words=(
            *("RSA", "EC", "oct", "OKP", "P-256", "P-384", "P-521", "Ed25519", "Ed448", "EdDSA"),
            *("d", "RS256", "enc", "AQAB"),
        ),
    ),
)

# --- Files and settings ---------------------------------------------------------------------------


class FakeFile:
    """A file as the readers see it: the disk is no part of what is tried."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        return self._content

    def read_text(self, encoding: str = "utf-8") -> str:
        return TextIOWrapper(BytesIO(self._content), encoding=encoding).read()


def imported(
    kind: Import, check: Callable[[list[Row]], object] = lambda _: None
) -> Callable[[str], Any]:
    """A check of a CSV text, and of its good rows together.

    Wrong rows are saved, and what is saved is a file of ours again.
    """

    def read(text: str) -> Any:
        checked = kind.check_alone(sendable(text), CATALOGUE, NOW)
        assert {problem.line for problem in checked.problems} == {row.line for row in checked.bad}
        for problem in checked.problems:
            "".join((problem.field, problem.reason)).encode()
        again = kind.check_alone(checked.rejected, CATALOGUE, NOW)
        assert [row.raw for row in sorted_rows(again)] == [row.raw for row in checked.bad]
        check(checked.good)
        return checked

    return read


def named(rows: list[Row]) -> None:
    """A promotion has one name, whatever the order of its rows."""
    promotion = promotions.Promotion.of(rows, "ada")
    assert promotions.Promotion.of(reversed(rows), "ada").name == promotion.name
    assert all(
        fields.parse_key("key", promotion.key_of(each)) for each in promotion.grants.values()
    )


def sorted_rows(checked: CheckedFile) -> list[Row]:
    return sorted([*checked.good, *checked.bad], key=lambda row: row.line)


def parameters_of(content: str) -> Any:
    file = FakeFile(content.encode("utf-8", "surrogatepass"))
    with patch.object(parameters, "PARAMETERS_FILE", file):
        return parameters.parameters_of("dev")


ENVIRONMENT = {
    "STAGE": "prod",
    "AWS_REGION": "eu-west-1",
    "MAILS_A_SECOND": "14",
    "MAIL_SENDERS": "2",
    "MAIL_RETRY_SECONDS": "10",
    "RETRY_SECONDS": "90",
    "EXPIRING_SOON_DAYS": "3",
    "UNSUBSCRIBE_URL": "https://api.example.com/v1/api/unsubscribe",
    "AWS_ENDPOINT_URL": "http://localhost:4566/",
    "TOKEN_ISSUER": ISSUER,
    "TOKEN_AUDIENCE": "credits-api, other",
    "TOKEN_JWKS_URL": "https://issuer.example.com/keys",
    "TOKEN_SCOPE_NAMES": "credits:read=read credits:use=*",
}


def environment(values: Json) -> dict[str, str]:
    """An environment: names and values are texts, without NUL."""
    values = values if isinstance(values, dict) else {}
    return {
        name: sendable(str(value)).replace("\0", "")
        for name, value in values.items()
        if value is not None
    }


AROUND_CELLS = (",", ",,", '"', '""', "\n", "\r")
FILES_AND_SETTINGS = (
    reader(
        "plans.toml",
        Kind.TEXT,
        lambda text: parse_catalogue(sendable(text)),
        SHIPPED_PLANS,
        '[[plans]]\nid = "a"\nname = "A"\nmonthly_credits = 1\nlowest = true\n'
        'balance_cap = 5\non_signup = "prorated"\non_plan_change = "difference"\n'
        'allocate_on = "anniversary"\nbilling_intervals = ["yearly", "monthly"]\n'
        "monthly_since = 2027-01-01\n"
        "credit_lifetime_months = 2\n",
        own=CatalogueError,
        check=lambda catalogue: catalogue.lowest in catalogue.plans,
        words=(
            *("[[plans]]", "[plans]", "[", "a.b = 1", "lowest = true", "="),
            *("grants_since = 2027-01-01", "0001-01-01", "T00:00:00Z"),
        ),
    ),
    reader(
        "plans.toml of what is deployed",
        Kind.TEXT,
        lambda text: plan_changes.terms_of(sendable(text)),
        SHIPPED_PLANS,
        '[[plans]]\nid = "a"\nmonthly_credits = 1\ngrants_since = 2027-01-01\n'
        'balance_cap = 5\non_signup = "full"\nallocate_on = "anniversary"\n'
        'billing_intervals = ["monthly"]\nmonthly_since = 2027-01-01\n'
        "credit_lifetime_months = 2\n",
        own=ValueError,
        check=lambda terms: all(type(each.monthly_credits) is int for each in terms.values()),
        words=("[[plans]]", "[plans]", "[", "a.b = 1", "id = []", "2027-01-01", "T00:00:00Z"),
    ),
    reader(
        "parameters.toml",
        Kind.TEXT,
        parameters_of,
        '[dev]\nTokenIssuer = "https://issuer.example.com/"\nMailsASecond = 1\n',
        own=DeployError,
        check=lambda found: all(isinstance(value, str) for value in found.values()),
        words=("[dev]", "[[dev]]", "dev = 1", "=", "dev.a = 1"),
    ),
    reader(
        "CSV of subscriptions",
        Kind.TEXT,
        imported(IMPORTED_SUBSCRIPTIONS),
        ",".join(COLUMNS.all)
        + "\n42,Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z,ada@example.com,"
        "2026-01-01,5,2027-01-01T00:00:00Z,\n",
        ",".join(COLUMNS.required)
        + '\r\n42,"Pacific/Chatham",starter,monthly,paused,2025-01-01T00:00:00Z\r\n\r\n',
        own=UnreadableFileError,
        words=(*AROUND_CELLS, "42,"),
    ),
    reader(
        "CSV of balances",
        Kind.TEXT,
        imported(balances.BALANCES),
        ",".join(balances.COLUMNS.all)
        + "\na-1,42,5,2025-01-01T00:00:00Z,2027-01-01T00:00:00Z,Left over,7\n",
        own=UnreadableFileError,
        words=(*AROUND_CELLS, "a-1,"),
    ),
    reader(
        "CSV of a promotion",
        Kind.TEXT,
        imported(promotions.Promotion({}, "ada").file, named),
        ",".join(promotions.COLUMNS.all) + "\n42,5,Thank you,30,7,promotion,false\n",
        ",".join(promotions.COLUMNS.required) + "\r\n42,5,Thank you,never\r\n\r\n",
        own=UnreadableFileError,
        words=(*AROUND_CELLS, "42,", "never", "TRUE"),
    ),
    reader(
        "CSV of movements",
        Kind.TEXT,
        lambda text: movements.read(movements.check(sendable(text), NOW).good, NOW),
        ",".join(movements.COLUMNS.all)
        + "\ntx-1,42,2026-01-01T00:00:00.5Z,usage,-5,Render\n"
        + "tx-2,42,2026-01-01T00:00:00Z,Allocation,100,\n",
        ",".join(movements.COLUMNS.required)
        + "\r\ntx-3,42,2026-01-01T00:00:00Z,adjustment,+5\r\n\r\n",
        own=UnreadableFileError,
        check=lambda read: all(
            each.amount and each.at <= NOW + instants.CLOCKS_DIFFER for each in read
        ),
        words=(*AROUND_CELLS, "tx-1,", "usage,-", *movements.Kind),
    ),
    reader(
        "night of a shadow",
        Kind.JSON,
        Night.parse,
        Night(NOW, 1_000, 990, 10, 0, "9f86d0").body(),
        write=Night.body,
        own=Damage,
        check=lambda night: min(night.users, night.same, night.unexplained) >= 0,
    ),
    reader(
        "file of a CSV",
        Kind.BYTES,
        lambda content: csv_file.read(FakeFile(content)),  # type: ignore[arg-type]
        *("user_id,email\n1,Zoë\n".encode(), b"\xef\xbb\xbfuser_id\n1\n"),
        own=UnreadableFileError,
        check=lambda text: text.encode() is not None,
    ),
    reader(
        "settings",
        Kind.VALUE,
        lambda values: Settings.read(environment(values)),
        ENVIRONMENT,
        own=(KeyError, ValueError),
        check=lambda found: (
            0 <= found.mails_a_second < 10**9
            and found.mail_retry_seconds > 0
            and found.retry_seconds > 0
            and found.expiring_soon_days >= 0
        ),
    ),
    reader(
        "settings of tokens",
        Kind.VALUE,
        lambda values: TokenSettings.read(environment(values)),
        *(ENVIRONMENT, ENVIRONMENT | {"STAGE": "local", "TOKEN_ISSUER": "http://localhost:1"}),
        own=(KeyError, ValueError),
        words=("http://", "https://", "=", "credits:admin=admin"),
    ),
)

# --- What people type -----------------------------------------------------------------------------

COMMANDS = (
    reader(
        "moment to move the clock to",
        Kind.VALUE,
        lambda value: parse_moment(value, NOW, "Europe/Paris"),
        *("next midnight", "next 1st", "+30 days", INSTANT),
        write=instants.format_instant,
        check=is_instant,
        words=("next ", "+1 day", "+366 days", "days"),
    ),
    reader(
        "tick to replay",
        Kind.VALUE,
        partial(replay.parse_tick, "--from"),
        *("2026-07-01T00:00Z", "2026-07-01T00:15:00+02:00"),
        write=instants.format_instant,
        check=is_instant,
    ),
    reader(
        "where events begin",
        Kind.TEXT,
        partial(events.parse_start, "--from"),
        *("17", "2026-12-01T00:00:00Z", "999999999999"),
        check=lambda start: type(start) is int or is_instant(start),
    ),
    reader(
        "instant of a liability",
        Kind.TEXT,
        partial(liability.parse_at, "AT"),
        *("2026-10-31T24:00Z", "2026-07-01T00:15:00+02:00", "2026-07-01T00:15Z"),
        write=instants.format_instant,
        check=lambda value: value.microsecond % 1000 == 0,
        words=("T24:00", "T24:00:00", "Z", "2999-12-31"),
    ),
    reader(
        "months of what if",
        Kind.TEXT,
        lambda text: whatif.parse_months(*text.partition(" ")[::2]),
        *("2026-01 2026-12", "2026-07 2026-07"),
        write=lambda months: " ".join(map(str, months)),
        check=lambda months: months[0] <= months[1],
    ),
    reader(
        "summary of an export",
        Kind.BYTES,
        table_export.parse_summary,
        b'{"tableArn": "arn:aws:dynamodb:eu-west-1:123456789012:table/credits-prod-ledger", '
        b'"exportTime": "2026-11-01T00:01:00.000Z", "itemCount": 8, '
        b'"outputFormat": "DYNAMODB_JSON", "exportType": "FULL_EXPORT"}',
        own=Damage,
        check=lambda summary: summary.items >= 0 and is_instant(summary.at),
        words=("ION", "INCREMENTAL_EXPORT", "exportFromTime"),
    ),
    reader(
        "files of an export",
        Kind.BYTES,
        table_export.parse_files,
        b'{"itemCount": 8, "md5Checksum": "sQMSpEILNgoQmarvDFonGQ==", '
        b'"etag": "af83d6f217c19b8b0fff8023d8ca4716-1", '
        b'"dataFileS3Key": "of/AWSDynamoDB/01793491260000-0a1b2c3d/data/jb3dq5hz.json.gz"}\n',
        own=Damage,
        check=lambda files: all(each.name.count("/") == 1 and each.items >= 0 for each in files),
        words=("data/", "../", ".json.gz"),
    ),
    reader(
        "line of an export",
        Kind.BYTES,
        lambda line: table_export.parse_line(line, ("user_id", "entry")),
        b'{"Item": {"user_id": {"S": "42"}, "entry": {"S": "entry#000000000001"}}}\n',
        own=Damage,
        check=lambda item: isinstance(item["entry"]["S"], str),
    ),
    reader(
        "batch to void",
        Kind.VALUE,
        lambda value: void.parse_batch("--batch", value, "42"),
        *("7", "42-7"),
        write=str,
        check=lambda number: 1 <= number < 10**12,
    ),
    reader(
        "whole number of a command",
        Kind.TEXT,
        arguments.whole_number(),
        *("10", "1000000000"),
        write=str,
        own=ArgumentTypeError,
        check=lambda read: 1 <= read <= arguments.MOST,
    ),
    reader(
        "number of a command",
        Kind.TEXT,
        arguments.number(),
        *("10", "1.5", "1e3", "0"),
        write=str,
        own=ArgumentTypeError,
        check=lambda read: 0 <= read <= arguments.MOST,
    ),
    reader(
        "line of a function's log",
        Kind.JSON,
        redrive._error_in,
        *('{"level":"ERROR","error":"InvalidInput: body"}', 'x {"message":"m"}'),
        check=lambda said: type(said) is str,
    ),
)

READERS = (
    *(*FIELDS, *SUBSCRIPTIONS, *MESSAGES, *LEDGERS, *ITEMS),
    *(*CURSORS, *TOKENS, *FILES_AND_SETTINGS, *COMMANDS),
)
