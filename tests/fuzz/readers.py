"""The readers themselves: fields, instants, messages, cursors, tokens, files and settings.

Each takes an input or refuses it with an error of its own. What it takes it must read as the same
again when it is written out, and what it says of a refusal must be fit to be sent and logged.
"""

import base64
import io
import json
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chalicelib.api import account, authorizer, calls, cursors, issuer_keys
from chalicelib.api import subscriptions as routes
from chalicelib.api.authorizer import InvalidToken, TokenChecker, answer, bearer_token
from chalicelib.api.issuer_keys import IssuerKeys, KeysUnavailable
from chalicelib.api.principal import Scope, caller_of
from chalicelib.domain import addresses, calendar, fields, instants, ledger
from chalicelib.domain.anchors import Head
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.edits import BY_LINK, Change, Edit, Editor, EditorKind, shown_fields
from chalicelib.domain.entries import FIRST_HASH, LedgerEntry, entry_hash
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, Unreadable
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.ranges import Range
from chalicelib.domain.subscriptions import (
    Subscription,
    due_periods,
    next_allocation,
)
from chalicelib.domain.terms import FIELDS as FIELDS_OF_AN_EDIT
from chalicelib.domain.verification import StoredLine, verify
from chalicelib.jobs.audits import parse_sample
from chalicelib.mails.links import UnsubscribeLinks
from chalicelib.mails.sending import user_of_tag
from chalicelib.messages import (
    UNKNOWN_ZONES,
    EntryPosted,
    ExpiringSoon,
    Sweep,
    SweepKind,
    UsersMessage,
    ZoneCheck,
    parse_notification,
)
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.services import PLANS_FILE
from chalicelib.settings import Settings, TokenSettings
from chalicelib.store import ledger_items, subscriptions
from chalicelib.store.edits import read_edit
from chalicelib.store.mails import read_mail
from infra import arguments
from infra.deployment import parameters, plan_changes
from infra.deployment.errors import DeployError
from infra.imports import balances, csv_file
from infra.imports.csv_file import CheckedFile, Row, UnreadableFileError
from infra.imports.importing import Import
from infra.imports.subscriptions import COLUMNS
from infra.imports.subscriptions import SUBSCRIPTIONS as IMPORTED_SUBSCRIPTIONS
from infra.local.clock import parse_moment
from infra.local.console import server as console
from infra.repair import redrive, replay, void
from tests.fuzz.target import Kind, Target
from tests.registered import register

LONGEST_REFUSAL = 32_000
"""In characters. Lambda answers 6 MB at most and a log event has 256 KB at most."""

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
INSTANT = "2026-02-01T00:00:00Z"
CHATHAM = "Pacific/Chatham"
VALID = (
    INSTANT,
    "1970-01-01T00:00:00Z",
    "2999-12-31T23:59:59Z",
    "Europe/Paris",
    CHATHAM,
    "42",
    "1",
)
CATALOGUE = parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"))

Json = Any
Errors = type[Exception] | tuple[type[Exception], ...]


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
    seeds: tuple[Json, ...],
    read: Callable[[Any], Any],
    *,
    write: Callable[[Any], Json] | None = lambda value: value,
    own: Errors = InvalidInput,
    check: Callable[[Any], object] = lambda _: True,
    words: tuple[str, ...] = (),
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

    return Target(name, kind, seeds, call, words)


def field(parse: Callable[[str, object], Any], *seeds: Json, name: str = "", **more: Any) -> Target:
    """A target of one parser of `FieldReader`."""
    return reader(
        f"field: {name or parse.__name__.lstrip('_').removeprefix('parse_').replace('_', ' ')}",
        Kind.VALUE,
        seeds,
        lambda value: parse("field", value),
        **more,
    )


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
    field(
        fields.parse_text,
        "Goodwill",
        "Für Ada 😀",
        check=lambda text: text.encode() and text.strip(),
    ),
    field(fields.parse_key, "order-17", check=lambda key: 0 < len(key) <= 255),
    field(fields.parse_correlation_id, "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa"),
    field(
        addresses.parse_email,
        "ada@example.com",
        "a.b+c@mail.example.co.uk",
        "ada@exämple.de",
        check=str.isascii,
    ),
    field(fields.parse_days, 1, 3650, check=lambda days: 1 <= days <= 3650),
    field(fields.parse_boolean, *(True, False), check=lambda value: type(value) is bool),
    field(
        fields.parse_choice(MailKind),
        *(kind.value for kind in MailKind),
        name="choice",
        write=lambda kind: kind.value,
    ),
    field(
        instants.parse_instant,
        INSTANT,
        "2026-07-01T00:00:00-04:00",
        "2026-07-01t00:00:00.123456z",
        write=instants.format_instant,
        check=is_instant,
    ),
    field(instants.parse_date, "2026-07-01", "2028-02-29", write=str),
    field(
        lambda name, value: Period.parse(value, name),
        "2026-07",
        "2999-12",
        "1970-01",
        name="period",
        write=str,
        check=lambda period: period.previous() < period < period.next(),
    ),
    field(
        calendar.parse_timezone,
        "Europe/Paris",
        "America/Havana",
        check=lambda name: calendar.midnight(name, NOW.date()),
        words=("paris", "EUROPE", "Asia/Calcuta", "GMT+2", "../"),
    ),
    field(calendar.parse_timezones, ["Europe/Paris"], ["America/Havana", "Asia/Kolkata"]),
    field(parse_sample, 1, 200, 10_000, name="sample of the audit"),
    field(calls.parse_limit, 1, "20", "100", check=lambda limit: 1 <= limit <= 100),
    field(cursors.parse_cursor, "MGJhZGY4ZTYx"),
    field(account._parse_transaction_id, "42-7"),
    field(routes._parse_etags, '"3"', 'W/"3", "4"', "*", write=", ".join),
    field(routes._parse_any, "*"),
    field(console._parse_scopes, "credits:read credits:use", *(scope.value for scope in Scope)),
    field(console._parse_seconds, 3600, -60),
    field(
        Tally.parse,
        Tally(3, 1, 1, 1, 1, ("a",), ("b",), ("c",)).values()
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


SUBSCRIPTION = {
    "user_id": "42",
    "email": "ada@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}

SUBSCRIPTIONS = (
    reader(
        "subscription",
        Kind.VALUE,
        (
            SUBSCRIPTION,
            SUBSCRIPTION
            | {
                "eligible_from": "2999-12-31T23:59:59Z",
                "allocation_amount": 5,
                "notifications": ["manual"],
                "ends_at": "2026-12-31T23:59:59Z",
                "observed_at": "2026-01-01T00:00:00.5Z",
            },
            SUBSCRIPTION | {"eligible_from": "2026-02-28"},
        ),
        registered,
        write=lambda found: {
            **{
                name: value
                for name, value in shown_fields(found).items()
                if name in FIELDS_OF_AN_EDIT
            },
            "user_id": found.user_id,
        },
        words=("yearly", "monthly", "active", "paused", "cancelled", "starter", "pro"),
    ),
)

# --- Messages -------------------------------------------------------------------------------------

SWEEP = Sweep(SweepKind.EXPIRY, "Europe/Paris", NOW, NOW, NOW)
MESSAGES = (
    reader(
        "message: sweep",
        Kind.JSON,
        (
            SWEEP.body(),
            replace(SWEEP, range=Range("00111"), cursor="Europe/Paris 07 x#1#2").body(),
            Sweep(SweepKind.REMINDER, CHATHAM, NOW, NOW, NOW, None, "tick", Range("1" * 16)).body(),
        ),
        Sweep.parse,
        write=Sweep.body,
        words=(*VALID, "allocation", "expiry", "reminder", "Europe/Paris 31 "),
    ),
    reader(
        "message: users",
        Kind.JSON,
        (UsersMessage(NOW, ("1", "auth0|2"), "tick").body(), UsersMessage(NOW, ("1",)).body()),
        UsersMessage.parse,
        write=UsersMessage.body,
        words=VALID,
    ),
    reader(
        "message: check of a zone",
        Kind.JSON,
        (
            ZoneCheck("run", Period(2026, 1), "Europe/Paris", 2).body(),
            ZoneCheck("run", Period(2026, 1), CHATHAM, 2, Range("01"), "tick").body(),
            ZoneCheck("run", Period(2026, 1), UNKNOWN_ZONES, 2).body(),
        ),
        ZoneCheck.parse,
        write=ZoneCheck.body,
        words=VALID,
    ),
    reader(
        "message: notification",
        Kind.JSON,
        (EntryPosted("1", 3, "tick").body(), ExpiringSoon("1", NOW, NOW, "tick").body()),
        parse_notification,
        write=lambda notification: notification.body(),
        words=VALID,
    ),
)

# --- The ledger -----------------------------------------------------------------------------------


def _ledger() -> list[LedgerEntry]:
    """A ledger with a line of every type."""
    request = Request("usage#ada#key", "ada", "Für Ada 😀")
    entries = [ledger.allocate(Account("1"), Period(2026, 1), 100, "Europe/Paris", 30, NOW)]

    def account_now() -> Account:
        return Account("1", entries[-1])

    entries.append(ledger.grant(account_now(), 50, request, NOW, "Europe/Paris", None))
    entries.append(ledger.use(account_now(), 120, request, NOW))
    reversal = ledger.reverse(account_now(), entries[2], entries[1], 0, 40, request, NOW)
    entries.append(reversal.entry)
    entries.append(ledger.claw_back(account_now(), 5, request, NOW))
    entries.append(ledger.claw_back_what_is_left(account_now(), 5, request, NOW))
    request = replace(request, metadata=(("campaign", "42"), ("team", "Für Ada")))
    for captured in (5, 0):
        held = ledger.hold(account_now(), 9, 3600, request, NOW, lambda: "Europe/Paris")
        entries.append(held)
        number = held.number
        entries.append(ledger.capture(account_now(), number, captured, request, NOW, lambda: ""))
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
        tuple(edit.body() for edit in EDITS),
        read_edit_of,
        write=Edit.body,
        own=Unreadable,
        words=("admin", "backend", "import", "mail_events", "unsubscribe_link"),
    ),
    reader(
        "ledger entry",
        Kind.JSON,
        tuple(entry.body() for entry in LEDGER),
        read_entry,
        write=LedgerEntry.body,
        own=LedgerCorrupt,
        words=(
            *("allocation", "manual", "usage", "reversal", "expiration", "(erased)"),
            *("hold", "release", "promotion", "campaign"),
        ),
    ),
    reader(
        "ledger, sealed by somebody else",
        Kind.VALUE,
        tuple([json.loads(entry.body()) for entry in LEDGER[:end]] for end in (1, 3, 6, 7, 10)),
        verified,
        write=None,
        own=LedgerCorrupt,
    ),
    reader(
        "head of a ledger",
        Kind.TEXT,
        (Head("ab" * 16, 1, "0" * 64).line(), Head("09" * 16, 10**12 - 1, "f" * 64).line()),
        Head.parse,
        write=Head.line,
        own=ValueError,
        words=("0" * 32, "f" * 64, "-1", "\n"),
    ),
)

# --- Items as they are stored ---------------------------------------------------------------------

_KEYS = {"user_id": {"S": "1"}}
"""What DynamoDB stores no item without, and always as a text."""


def item_reader(
    name: str,
    seeds: tuple[Json, ...],
    keys: Json,
    read: Callable[[Json], Any],
    write: Callable[[Any], Json] | None,
    *words: str,
    check: Callable[[Any], object] = lambda _: True,
) -> Target:
    """A target of one reader of a table. Whatever is stored there, it has its keys."""

    def stored(given: Json) -> Json:
        return (given if isinstance(given, dict) else {}) | keys

    def read_stored(given: Json) -> Any:
        return read(stored(given))

    return reader(
        f"item: {name}",
        Kind.VALUE,
        seeds,
        read_stored,
        write=write,
        own=Unreadable,
        check=check,
        words=words,
    )


def can_be_computed_with(subscription: Subscription) -> bool:
    """Whether what is read can be used: no instant of it is beyond Python's calendar."""
    next_allocation(subscription, CATALOGUE, None, NOW)
    due_periods(replace(subscription, timezone=CHATHAM, plan="pro"), CATALOGUE, None, NOW, NOW)
    return True


def _subscription(**changes: object) -> Json:
    given = {
        "user_id": "1",
        "email": "ada@example.com",
        "timezone": CHATHAM,
        "plan": "pro",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
    }
    registered = register(given | changes, CATALOGUE, NOW)
    return subscriptions._item(registered) | {"edits": {"S": "a b"}}


_SUBSCRIPTION = _subscription(
    eligible_from="2026-02-01", allocation_amount=7, ends_at=INSTANT, notifications=["manual"]
) | {
    "suppressed": {"S": "bounce"},
    "suppressed_before": {"S": f"complaint {'a' * 64}"},
    "resumed_at": {"N": "1760000000000"},
    "observed_at": {"N": "1760000000000"},
}

_ENTRY = ledger_items.item_of(LEDGER[0], FIRST_HASH)
_ENTRY_KEYS = {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}}

ITEMS = (
    item_reader(
        "subscription",
        (_subscription(), _SUBSCRIPTION),
        _KEYS,
        subscriptions.read_subscription,
        subscriptions._item,
        *("active", "paused", "yearly", "monthly", "bounce", "complaint", "S", "N", "NULL", "M"),
        check=can_be_computed_with,
    ),
    item_reader(
        "ledger entry",
        (_ENTRY,),
        _ENTRY_KEYS,
        lambda item: (ledger_items.read_entry(item), ledger_items.read_line(item)),
        None,
        *("S", "N", "B", "entry#000000000002"),
    ),
    item_reader(
        "ledger entry under another key",
        tuple({"entry": {"S": key}} for key in ("entry#000000000001", "entry#x", "entry#2")),
        {**_ENTRY, "user_id": {"S": "1"}},
        lambda item: ledger_items.read_line(item),  # noqa: PLW0108 - its second argument
        None,
    ),
    item_reader(
        "marker of an operation",
        (
            {
                "request": {"S": "a" * 64},
                "owner": {"S": "1"},
                "number": {"N": "3"},
                "expired": {"N": "0"},
            },
        ),
        {"user_id": {"S": "operation#aa"}, "entry": {"S": "operation"}},
        ledger_items.read_marker,
        None,
        *("S", "N", "-1"),
    ),
    item_reader(
        "link of a reversal",
        ({"sequence": {"N": "1"}, "reversed_in_all": {"N": "5"}},),
        {"user_id": {"S": "1"}, "entry": {"S": "reversal#000000000002#000001"}},
        ledger_items.read_reversal,
        None,
        *("S", "N", "-1"),
    ),
    item_reader(
        "record of a mail",
        (
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
        ),
        {"id": {"S": "mail#aa"}},
        lambda item: read_mail("manual 1-1", item),
        None,
        *("COMPLETED", "INPROGRESS", "S", "N", "{", "[]"),
    ),
)
"""One for each kind of item, mutated as a whole: names, types and values."""

# --- Cursors, links and tokens --------------------------------------------------------------------

LINKS = UnsubscribeLinks(b"k" * 32, "https://api.example.com/v1/api/unsubscribe")


def decoded(given: str) -> Any:
    """The position in a cursor of the history."""
    return cursors.decode("history 1", given, account._ENTRY_NUMBER)


CURSORS = (
    reader(
        "cursor",
        Kind.TEXT,
        (cursors.encode("history 1", "41"), cursors.encode("history 1", "7")),
        decoded,
        write=lambda position: cursors.encode("history 1", position),
    ),
    reader(
        "header: Accept",
        Kind.TEXT,
        ("text/csv", "application/json;q=0.5, text/csv;q=0.9, */*;q=0.1"),
        account.prefers_csv,
        write=None,
        check=lambda prefers: type(prefers) is bool,
        words=("text/csv", ";q=", ";q=1.0", ","),
    ),
    reader(
        "unsubscribe token",
        Kind.TEXT,
        (LINKS.token("auth0|42", None), LINKS.token("42", MailKind.MANUAL)),
        LINKS.read,
        write=lambda asked: LINKS.token(*asked),
    ),
    reader(
        "user of a mail's tag",
        Kind.TEXT,
        (b"auth0|42".hex(),),
        user_of_tag,
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
    replace(TOKEN_SETTINGS, user_claim="app_metadata.user_id", scope_claims=("realm.roles",)),
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
ARN = "arn:aws:execute-api:eu-west-1:123456789012:abcdef/v1/GET/api/credits/balance"


def part(content: bytes) -> str:
    """A part of a token."""
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


class FakeConnection:
    """A connection to the issuer, whose every document is the same."""

    document = b""

    def __init__(self, *_: object, **__: object) -> None:
        self.status = 200

    def request(self, *_: object, **__: object) -> None:
        """Asks."""

    def getresponse(self) -> "FakeConnection":
        """The answer."""
        return self

    def read(self, size: int) -> bytes:
        """So much of it."""
        return self.document[:size]

    def close(self) -> None:
        """The end."""


def keys_of(document: str) -> Any:
    """What is made of what the issuer's address answers."""
    FakeConnection.document = sendable(document).encode()
    with patch.object(issuer_keys, "HTTPSConnection", FakeConnection):
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
        words=(
            *("ES256", "app_metadata.user_id", "realm", "RS256"),
            *("HS256", "none", "b64", "crit", "nbf"),
        ),
    ),
    Target(
        "token, signed by nobody",
        Kind.VALUE,
        ([HEADER, CLAIMS, "x"], [{**HEADER, "alg": "none"}, CLAIMS, ""], ["[" * 4_000, "", ""]),
        unsigned,
        words=("ES256", "RS256", "HS256", "none", "b64", "crit"),
    ),
    reader(
        "key set of the issuer",
        Kind.JSON,
        (json.dumps(KEY_SET),),
        keys_of,
        write=None,
        own=KeysUnavailable,
        words=(
            "RSA",
            "EC",
            "oct",
            "OKP",
            "P-256",
            "P-384",
            "P-521",
            "Ed25519",
            "Ed448",
            "EdDSA",
            "d",
            "RS256",
            "enc",
            "AQAB",
        ),
    ),
)

# --- Files and settings ---------------------------------------------------------------------------


class FakeFile:
    """A file as the readers see it: the disk is no part of what is tried."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_bytes(self) -> bytes:
        """Reads as `Path.read_bytes` does."""
        return self._content

    def read_text(self, encoding: str = "utf-8") -> str:
        """Decodes as `Path.read_text` does."""
        return io.TextIOWrapper(io.BytesIO(self._content), encoding=encoding).read()


def imported(kind: Import) -> Callable[[str], Any]:
    """A check of a CSV text. Wrong rows are saved, and what is saved is a file of ours again."""

    def read(text: str) -> Any:
        checked = kind.check_alone(sendable(text), CATALOGUE, NOW)
        assert {problem.line for problem in checked.problems} == {row.line for row in checked.bad}
        for problem in checked.problems:
            "".join((problem.field, problem.reason)).encode()
        again = kind.check_alone(checked.rejected, CATALOGUE, NOW)
        assert [row.raw for row in sorted_rows(again)] == [row.raw for row in checked.bad]
        return checked

    return read


def sorted_rows(checked: CheckedFile) -> list[Row]:
    """All rows of a file, as they stand in it."""
    return sorted([*checked.good, *checked.bad], key=lambda row: row.line)


def parameters_of(content: str) -> Any:
    """The parameters of a stage."""
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


FILES_AND_SETTINGS = (
    reader(
        "plans.toml",
        Kind.TEXT,
        (
            PLANS_FILE.read_text(encoding="utf-8"),
            '[[plans]]\nid = "a"\nname = "A"\nmonthly_credits = 1\nlowest = true\n',
        ),
        lambda text: parse_catalogue(sendable(text)),
        write=None,
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
        (
            PLANS_FILE.read_text(encoding="utf-8"),
            '[[plans]]\nid = "a"\nmonthly_credits = 1\ngrants_since = 2027-01-01\n',
        ),
        lambda text: plan_changes.terms_of(sendable(text)),
        write=None,
        own=ValueError,
        check=lambda terms: all(type(each.monthly_credits) is int for each in terms.values()),
        words=("[[plans]]", "[plans]", "[", "a.b = 1", "id = []", "2027-01-01", "T00:00:00Z"),
    ),
    reader(
        "parameters.toml",
        Kind.TEXT,
        ('[dev]\nTokenIssuer = "https://issuer.example.com/"\nMailsASecond = 1\n',),
        parameters_of,
        write=None,
        own=DeployError,
        check=lambda found: all(isinstance(value, str) for value in found.values()),
        words=("[dev]", "[[dev]]", "dev = 1", "=", "dev.a = 1"),
    ),
    reader(
        "CSV of subscriptions",
        Kind.TEXT,
        (
            ",".join(COLUMNS.all)
            + "\n42,Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z,ada@example.com,"
            "2026-01-01,5,2027-01-01T00:00:00Z,\n",
            ",".join(COLUMNS.required)
            + '\r\n42,"Pacific/Chatham",starter,monthly,paused,2025-01-01T00:00:00Z\r\n\r\n',
        ),
        imported(IMPORTED_SUBSCRIPTIONS),
        write=None,
        own=UnreadableFileError,
        words=(",", ",,", '"', '""', "\n", "\r", "42,"),
    ),
    reader(
        "CSV of balances",
        Kind.TEXT,
        (
            ",".join(balances.COLUMNS.all)
            + "\na-1,42,5,2025-01-01T00:00:00Z,2027-01-01T00:00:00Z,Left over,7\n",
        ),
        imported(balances.BALANCES),
        write=None,
        own=UnreadableFileError,
        words=(",", ",,", '"', '""', "\n", "\r", "a-1,"),
    ),
    reader(
        "file of a CSV",
        Kind.BYTES,
        ("user_id,email\n1,Zoë\n".encode(), b"\xef\xbb\xbfuser_id\n1\n"),
        lambda content: csv_file.read(FakeFile(content)),  # type: ignore[arg-type]
        write=None,
        own=UnreadableFileError,
        check=lambda text: text.encode() is not None,
    ),
    reader(
        "settings",
        Kind.VALUE,
        (ENVIRONMENT,),
        lambda values: Settings.read(environment(values)),
        write=None,
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
        (ENVIRONMENT, ENVIRONMENT | {"STAGE": "local", "TOKEN_ISSUER": "http://localhost:1"}),
        lambda values: TokenSettings.read(environment(values)),
        write=None,
        own=(KeyError, ValueError),
        words=("http://", "https://", "=", "credits:admin=admin"),
    ),
)

# --- What people type -----------------------------------------------------------------------------

COMMANDS = (
    reader(
        "moment to move the clock to",
        Kind.VALUE,
        ("next midnight", "next 1st", "+30 days", INSTANT),
        lambda value: parse_moment(value, NOW, "Europe/Paris"),
        write=instants.format_instant,
        check=is_instant,
        words=("next ", "+1 day", "+366 days", "days"),
    ),
    reader(
        "tick to replay",
        Kind.VALUE,
        ("2026-07-01T00:00Z", "2026-07-01T00:15:00+02:00"),
        lambda value: replay.parse_tick("--from", value),
        write=instants.format_instant,
        check=is_instant,
    ),
    reader(
        "batch to void",
        Kind.VALUE,
        ("7", "42-7"),
        lambda value: void.parse_batch("--batch", value, "42"),
        write=str,
        check=lambda number: 1 <= number < 10**12,
    ),
    reader(
        "whole number of a command",
        Kind.TEXT,
        ("10", "1000000000"),
        arguments.whole_number(),
        write=str,
        own=ArgumentTypeError,
        check=lambda read: 1 <= read <= arguments.MOST,
    ),
    reader(
        "number of a command",
        Kind.TEXT,
        ("10", "1.5", "1e3", "0"),
        arguments.number(),
        write=str,
        own=ArgumentTypeError,
        check=lambda read: 0 <= read <= arguments.MOST,
    ),
    reader(
        "line of a function's log",
        Kind.JSON,
        ('{"level":"ERROR","error":"InvalidInput: body"}', 'x {"message":"m"}'),
        redrive._error_in,
        write=None,
        check=lambda said: type(said) is str,
    ),
)

READERS = (
    *FIELDS,
    *SUBSCRIPTIONS,
    *MESSAGES,
    *LEDGERS,
    *ITEMS,
    *CURSORS,
    *TOKENS,
    *FILES_AND_SETTINGS,
    *COMMANDS,
)
