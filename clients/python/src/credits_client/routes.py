"""The routes of the API, each as a description: what to send, and how to read the answer.

Nothing here sends anything. The sync and the async client send the same descriptions (`client`), so
that a route, its arguments and their checks are written once, and mypy sees them in both.
Generating one client from the other would need a generator, a step that runs it, and two files to
review.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from . import answers
from .answers import Versioned
from .reading import Unreadable, read

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Item_co = TypeVar("Item_co", covariant=True)

UserId = str | int
"""A text, or a whole number of at most 18 digits."""


class _Omitted(Enum):
    OMITTED = "omitted"

    def __repr__(self) -> str:
        return "..."


OMITTED: Final = _Omitted.OMITTED
"""For a field that is not sent at all, if None has a meaning."""

Omitted = _Omitted


class Page(Protocol[Item_co]):
    """A page of a listing."""

    @property
    def items(self) -> tuple[Item_co, ...]:
        """Its elements."""

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins; None on the last one."""


@dataclass(frozen=True)
class Request(Generic[T_co]):
    """What to send, and how to read the answer.

    ``is_repeatable``: whether it may be sent again if nobody knows whether it was done.
    ``is_public``: it needs no token.
    """

    method: str
    route: str
    read: Callable[[httpx.Response], T_co]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True
    is_public: bool = False

    @property
    def target(self) -> str:
        """The path to send it to."""
        # A name of dots alone would be a path segment of its own unless encoded.
        names = {name: quote(value, safe="") for name, value in self.path.items()}
        return self.route.format(
            **{name: text if text.strip(".") else "%2E" * len(text) for name, text in names.items()}
        )

    def after(self, cursor: str) -> Request[T_co]:
        """The same request for the page that begins at a cursor."""
        if self.body is not None:
            return replace(self, body={**self.body, "cursor": cursor})
        return replace(self, query={**self.query, "cursor": cursor})


# --- A user's credits -----------------------------------------------------------------------------


def schedule(user_id: UserId | None = None) -> Request[answers.AllocationSchedule]:
    """The next credits, the current ones, and those that will expire."""
    query = {"user_id": user_id}
    return _get("/api/credits/allocation-schedule", answers.AllocationSchedule, query)


def balance(
    user_id: UserId | None = None, *, at: datetime | None = None
) -> Request[answers.Balance]:
    """The balance, batch by batch: now, or at a past instant."""
    return _get("/api/credits/balance", answers.Balance, {"user_id": user_id, "at": at})


def forecast(user_id: UserId | None = None) -> Request[answers.Forecast]:
    """When the credits will run out, and what will be granted and expire until then."""
    return _get("/api/credits/forecast", answers.Forecast, {"user_id": user_id})


def explain(
    user_id: UserId | None = None, *, at: datetime | None = None, amount: int | None = None
) -> Request[answers.Explanation]:
    """Why an amount could or could not be taken: now, or at a past instant."""
    query = {"user_id": user_id, "at": at, "amount": amount}
    return _get("/api/credits/explain", answers.Explanation, query)


def explain_transaction(transaction_id: str) -> Request[answers.Explanation]:
    """Why a line of the history took the credits it took."""
    query = {"transaction_id": transaction_id}
    return _get("/api/credits/explain", answers.Explanation, query)


def history_page(
    user_id: UserId | None = None,
    *,
    type: str | None = None,  # noqa: A002 - the word of the API
    since: datetime | None = None,
    until: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    search: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Request[answers.HistoryPage]:
    """One page of the history, newest first.

    ``type`` such as ``usage``; ``metadata`` finds the entries with these pairs, ``search`` those
    whose texts contain it; ``since`` is inclusive, ``until`` is not.
    """
    query = {
        "user_id": user_id,
        "type": type,
        "from": _text_of("since", since),
        "to": _text_of("until", until),
        "search": search,
        "limit": limit,
        "cursor": cursor,
        **{f"metadata.{name}": value for name, value in (metadata or {}).items()},
    }
    return _get("/api/credits/history", answers.HistoryPage, query)


def statement_page(
    user_id: UserId | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Request[answers.StatementPage]:
    """One page of a statement, oldest line first, to be checked by `verify_statement`.

    ``since`` is inclusive, ``until`` is not. All pages together are one statement.
    """
    query = {
        "user_id": user_id,
        "from": _text_of("since", since),
        "to": _text_of("until", until),
        "limit": limit,
        "cursor": cursor,
    }
    given = {name: str(value) for name, value in query.items() if value is not None}
    return Request("GET", "/api/credits/statement", _statement, {}, given)


def transaction(transaction_id: str) -> Request[answers.TransactionInFull]:
    """One line of the history; if it books several usages, with each of them."""
    path = _path(transaction_id=transaction_id)
    route = "/api/credits/transactions/{transaction_id}"
    return _get(route, answers.TransactionInFull, path=path)


def use(
    user_id: UserId | None,
    amount: int,
    description: str = "Usage",
    *,
    key: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Request[answers.UseAnswer]:
    """Uses credits, in the order of use: all of them or, with `InsufficientCredits`, none.

    The key names the purpose. However often the request is sent, it takes effect once. Give a key
    of your own, such as an order's id, if the same request could come a second time. ``user_id`` is
    None for the token's user. Users read the description in their history.
    """
    body = {
        "user_id": user_id,
        "amount": amount,
        "description": description,
        "metadata": metadata,
    }
    return _post("/api/credits/use", answers.UseAnswer, body, key=_key(key))


class _UseItem(TypedDict):
    key: str
    amount: int
    description: str


class UseItem(_UseItem, total=False):
    """One of several usages; its key is the same as a key of `use`."""

    metadata: Mapping[str, str]


def use_many(user_id: UserId, items: Iterable[UseItem]) -> Request[answers.UseManyAnswer]:
    """Uses credits for several things at once, at most 90: for all that were not charged before.

    If it raises `InsufficientCredits`, nothing was charged. For backends.
    """
    body = {"user_id": user_id, "items": [dict(item) for item in items]}
    return _post("/api/credits/use-many", answers.UseManyAnswer, body)


def reverse(
    user_id: UserId,
    transaction_id: str,
    amount: int | None = None,
    *,
    description: str,
    key: str | None = None,
    metadata: Mapping[str, str] | None = None,
    dry_run: bool | None = None,
) -> Request[answers.ReverseAnswer]:
    """Gives a usage back: ``amount`` of it, or all that is left. For backends and admins.

    With ``dry_run`` nothing is written; the answer has the ``transaction`` that would be written.
    """
    body = {
        "user_id": user_id,
        "transaction_id": transaction_id,
        "amount": amount,
        "description": description,
        "metadata": metadata,
        "dry_run": dry_run,
    }
    return _post("/api/credits/reverse", answers.ReverseAnswer, body, key=_key(key))


def allocate(  # noqa: PLR0913 - the fields of the API
    user_id: UserId,
    amount: int,
    description: str,
    *,
    key: str | None = None,
    expires_in_days: int | Omitted | None = OMITTED,
    notify: bool | None = None,
    up_to_available: bool | None = None,
    priority: int | None = None,
    source: str | None = None,
    including_held: bool | None = None,
    metadata: Mapping[str, str] | None = None,
    dry_run: bool | None = None,
) -> Request[answers.AllocateAnswer]:
    """Adjusts credits by hand: grants them or, with a negative amount, claws them back. For admins.

    A grant lives as long as the credits of the user's plan unless ``expires_in_days`` is given;
    None means for ever. ``up_to_available`` takes at most what is left. With ``dry_run`` nothing is
    written; the answer has the ``transaction`` that would be written.
    """
    body = {
        "user_id": user_id,
        "amount": amount,
        "description": description,
        "notify": notify,
        "up_to_available": up_to_available,
        "priority": priority,
        "source": source,
        "including_held": including_held,
        "metadata": metadata,
        "dry_run": dry_run,
    }
    kept = {"expires_in_days": expires_in_days}
    return _post("/api/credits/allocate", answers.AllocateAnswer, body, kept, key=_key(key))


def void_batch(
    batch_id: str,
    description: str,
    *,
    key: str | None = None,
    notify: bool | None = None,
    including_held: bool | None = None,
    dry_run: bool | None = None,
) -> Request[answers.VoidAnswer]:
    """Takes back all that is left of one batch, even if older ones are open. For admins.

    Held credits of it stay, unless ``including_held``. With ``dry_run`` nothing is written; the
    answer has the ``transaction`` that would be written.
    """
    body = {
        "description": description,
        "notify": notify,
        "including_held": including_held,
        "dry_run": dry_run,
    }
    route, path = "/api/credits/batches/{batch_id}/void", _path(batch_id=batch_id)
    return _post(route, answers.VoidAnswer, body, path=path, key=_key(key))


# --- Holds ----------------------------------------------------------------------------------------


def hold(
    user_id: UserId,
    amount: int,
    description: str = "Hold",
    *,
    key: str | None = None,
    expires_in_seconds: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Request[answers.HoldAnswer]:
    """Sets credits aside for a job: all of them or, with `InsufficientCredits`, none.

    Nothing else can use them until the hold is captured, released, or over: after an hour, or after
    ``expires_in_seconds``. In a ``with`` block it is released at the end unless it was captured.

    The same key gets the first answer for ever, even when that hold has ended: a capture is then
    refused with `HoldEnded`. So a job that may be tried again needs a new key for each try.
    """
    body = {
        "user_id": user_id,
        "amount": amount,
        "description": description,
        "expires_in_seconds": expires_in_seconds,
        "metadata": metadata,
    }
    return _post("/api/credits/holds", answers.HoldAnswer, body, key=_key(key))


def capture(
    hold_id: str,
    amount: int,
    description: str | None = None,
    *,
    beyond_hold: bool | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Request[answers.CaptureAnswer]:
    """Uses what a job cost, and frees the rest.

    It has no key: a hold ends once, and repeating the same end gets the first answer. With
    ``beyond_hold`` the available balance pays for what exceeds the hold.
    """
    body = {
        "amount": amount,
        "description": description,
        "beyond_hold": beyond_hold,
        "metadata": metadata,
    }
    path = _path(hold_id=hold_id)
    return _post("/api/credits/holds/{hold_id}/capture", answers.CaptureAnswer, body, path=path)


def release(hold_id: str, *, dry_run: bool | None = None) -> Request[answers.ReleaseAnswer]:
    """Frees everything that is held. Like a capture, it can be repeated.

    With ``dry_run`` nothing is written; the answer has the ``transaction`` that would be written.
    """
    route, path = "/api/credits/holds/{hold_id}/release", _path(hold_id=hold_id)
    return _post(route, answers.ReleaseAnswer, {"dry_run": dry_run}, path=path)


def holds(user_id: UserId | None = None) -> Request[tuple[answers.Hold, ...]]:
    """The holds of a user that have not ended, the oldest first."""
    found = _get("/api/credits/holds", answers.Holds, {"user_id": user_id})
    return Request("GET", found.route, lambda response: found.read(response).holds, {}, found.query)


# --- Payments -------------------------------------------------------------------------------------


def purchase(
    user_id: UserId,
    amount: int,
    payment_id: str,
    *,
    description: str | None = None,
    price: answers.Price | None = None,
    expires_in_days: int | None = None,
    priority: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Request[answers.PurchaseAnswer]:
    """Grants what a payment has bought. For billing and admins.

    The payment is the key: the same payment again gets the first answer.
    """
    body = {
        "user_id": user_id,
        "amount": amount,
        "payment_id": payment_id,
        "description": description,
        "price": price and {"amount": price.amount, "currency": price.currency},
        "expires_in_days": expires_in_days,
        "priority": priority,
        "metadata": metadata,
    }
    return _post("/api/credits/purchases", answers.PurchaseAnswer, body)


def refund(
    payment_id: str,
    amount: int,
    description: str,
    *,
    observed_at: datetime | None = None,
    dry_run: bool | None = None,
) -> Request[answers.RefundAnswer]:
    """Reports how many credits of a payment were refunded, in all. For billing and admins.

    A larger total than before takes the difference back, as far as it is there; a smaller one gives
    back what was taken. The same total changes nothing. With ``dry_run`` nothing is written; the
    answer has the ``transaction`` that would be written.
    """
    body = {
        "payment_id": payment_id,
        "amount": amount,
        "description": description,
        "observed_at": observed_at,
        "dry_run": dry_run,
    }
    return _post("/api/credits/refunds", answers.RefundAnswer, body)


# --- Allocation runs: for admins ------------------------------------------------------------------


def allocation_run(
    period: str, *, zones: Iterable[str] | None = None
) -> Request[answers.AllocationRunStarted]:
    """Starts the monthly allocation of a period such as ``2026-07``, in all or some timezones."""
    body = {"period": period, "zones": None if zones is None else list(zones)}
    return _post("/api/credits/allocation-runs", answers.AllocationRunStarted, body)


def allocate_due(
    user_id: UserId, period: str, *, dry_run: bool | None = None
) -> Request[answers.AllocationRunPreview]:
    """Allocates what is due to one user through a period, or with ``dry_run`` only shows it."""
    body = {"period": period, "user_id": user_id, "dry_run": dry_run}
    return _post("/api/credits/allocation-runs", answers.AllocationRunPreview, body)


def allocation_preview_page(
    period: str,
    *,
    zones: Iterable[str] | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Request[answers.AllocationRunPreview]:
    """One page of what such a run would do."""
    body = {
        "period": period,
        "zones": None if zones is None else list(zones),
        "dry_run": True,
        "limit": limit,
        "cursor": cursor,
    }
    return _post("/api/credits/allocation-runs", answers.AllocationRunPreview, body)


# --- Subscriptions and plans ----------------------------------------------------------------------

_SUBSCRIPTION = "/api/subscriptions/{user_id}"


def plans() -> Request[tuple[answers.Plan, ...]]:
    """The plans on offer."""
    found = _get("/api/plans", answers.Plans)
    return Request("GET", found.route, lambda response: found.read(response).plans)


def subscription(user_id: UserId) -> Request[Versioned[answers.Subscription]]:
    """A user's subscription and its version. For backends, billing and admins."""
    return Request("GET", _SUBSCRIPTION, _versioned, _path(user_id=user_id))


def found_subscriptions_page(
    *,
    email: str | None = None,
    plan: str | None = None,
    status: str | None = None,
    timezone: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Request[answers.SubscriptionsPage]:
    """The users with an address, or with a plan, status or timezone: one page. For admins."""
    query = {
        "email": email,
        "plan": plan,
        "status": status,
        "timezone": timezone,
        "limit": limit,
        "cursor": cursor,
    }
    return _get("/api/subscriptions", answers.SubscriptionsPage, query)


def put_subscription(  # noqa: PLR0913 - the fields of the API
    user_id: UserId,
    *,
    timezone: str,
    plan: str,
    billing_interval: str,
    status: str,
    started_at: datetime,
    email: str | None = None,
    eligible_from: datetime | date | None = None,
    ends_at: datetime | None = None,
    observed_at: datetime | None = None,
    allocation_amount: int | None = None,
    language: str | None = None,
    notifications: Iterable[str] | None = None,
    etag: str | None = None,
    only_new: bool = False,
) -> Request[Versioned[answers.Subscription]]:
    """Registers a user, or replaces the whole subscription.

    With ``etag`` it edits only this version; with ``only_new`` only a user without a subscription.
    Otherwise it raises `VersionConflict`. Such an edit is not sent again when its answer was lost:
    it would meet its own version. Read the subscription to know the outcome.
    """
    body = {
        "timezone": timezone,
        "plan": plan,
        "billing_interval": billing_interval,
        "status": status,
        "started_at": started_at,
        "email": email,
        "eligible_from": eligible_from,
        "ends_at": ends_at,
        "observed_at": observed_at,
        "allocation_amount": allocation_amount,
        "language": language,
        "notifications": None if notifications is None else list(notifications),
    }
    return _edit("PUT", user_id, _sent(body), etag, only_new=only_new)


def patch_subscription(  # noqa: PLR0913 - the fields of the API
    user_id: UserId,
    *,
    etag: str | None = None,
    timezone: str | Omitted = OMITTED,
    plan: str | Omitted = OMITTED,
    billing_interval: str | Omitted = OMITTED,
    status: str | Omitted = OMITTED,
    started_at: datetime | Omitted = OMITTED,
    email: str | Omitted | None = OMITTED,
    eligible_from: datetime | date | Omitted | None = OMITTED,
    ends_at: datetime | Omitted | None = OMITTED,
    observed_at: datetime | Omitted = OMITTED,
    allocation_amount: int | Omitted | None = OMITTED,
    language: str | Omitted = OMITTED,
    notifications: Iterable[str] | Omitted = OMITTED,
    mail_suppressed_because: Omitted | None = OMITTED,
    dry_run: bool | None = None,
) -> Request[Versioned[answers.Subscription]]:
    """Changes some fields of a subscription. None resets a field; unnamed fields stay.

    With ``dry_run`` nothing is written. The answer is the subscription as it would be, with what
    would be allocated at once in ``due``; the ``etag`` is that of the stored version.
    """
    changes = {
        "timezone": timezone,
        "plan": plan,
        "billing_interval": billing_interval,
        "status": status,
        "started_at": started_at,
        "email": email,
        "eligible_from": eligible_from,
        "ends_at": ends_at,
        "observed_at": observed_at,
        "allocation_amount": allocation_amount,
        "language": language,
        "notifications": OMITTED if isinstance(notifications, Omitted) else list(notifications),
        "mail_suppressed_because": mail_suppressed_because,
    }
    return _edit("PATCH", user_id, _sent({"dry_run": dry_run}, changes), etag)


def subscription_edits_page(
    user_id: UserId, *, limit: int | None = None, cursor: str | None = None
) -> Request[answers.EditsPage]:
    """Who edited a subscription, when and what: one page, newest first. For admins."""
    query = {"limit": limit, "cursor": cursor}
    path = _path(user_id=user_id)
    return _get("/api/subscriptions/{user_id}/edits", answers.EditsPage, query, path=path)


def subscription_emails_page(
    user_id: UserId, *, limit: int | None = None, cursor: str | None = None
) -> Request[answers.EmailsPage]:
    """The emails about a user's credits and what is recorded of them: one page. For admins.

    ``limit`` is how many entries a page examines.
    """
    query = {"limit": limit, "cursor": cursor}
    path = _path(user_id=user_id)
    return _get("/api/subscriptions/{user_id}/emails", answers.EmailsPage, query, path=path)


def transaction_email(transaction_id: str) -> Request[answers.EntryEmail]:
    """The email about an entry, as it is or was sent. For admins."""
    path = _path(transaction_id=transaction_id)
    return _get("/api/credits/transactions/{transaction_id}/email", answers.EntryEmail, path=path)


def transaction_events(transaction_id: str) -> Request[tuple[answers.EntryEvent, ...]]:
    """The events of an entry, as a stage with events publishes them. For admins."""
    route = "/api/credits/transactions/{transaction_id}/events"
    found = _get(route, answers.EntryEvents, path=_path(transaction_id=transaction_id))
    return Request("GET", route, lambda response: found.read(response).events, found.path)


def month(period: str) -> Request[answers.Month]:
    """Who was due for a month such as ``2026-12`` and who was allocated. For admins."""
    return _get("/api/months/{period}", answers.Month, path=_path(period=period))


def operations() -> Request[answers.Operations]:
    """The waiting messages and the ringing alarms. For admins."""
    return _get("/api/operations", answers.Operations)


# --- Links in emails, and the API itself: no token ------------------------------------------------


def unsubscribe_page(token: str) -> Request[str]:
    """The page, in HTML, behind the unsubscribe link of an email; ``token`` is the link's."""
    return _public("GET", "/api/unsubscribe", _text, token)


def unsubscribe(token: str) -> Request[str]:
    """Ends the emails that a link is about, and returns the page that says so."""
    return _public("POST", "/api/unsubscribe", _text, token)


def health() -> Request[answers.Health]:
    """Whether the API is up."""
    return _public("GET", "/api/health", _object(answers.Health))


def contract() -> Request[Mapping[str, Any]]:
    """The contract of the API, an OpenAPI document."""
    return _public("GET", "/api/openapi.json", _json)


# --- Making them ----------------------------------------------------------------------------------


def _get(
    route: str,
    kind: type[T],
    query: Mapping[str, object] | None = None,
    *,
    path: Mapping[str, str] | None = None,
) -> Request[T]:
    found = {name: _text_of(name, value) for name, value in (query or {}).items()}
    given = {name: value for name, value in found.items() if value is not None}
    return Request("GET", route, _object(kind), path or {}, given)


def _post(
    route: str,
    kind: type[T],
    body: Mapping[str, object],
    nullable: Mapping[str, object] | None = None,
    *,
    path: Mapping[str, str] | None = None,
    key: str | None = None,
) -> Request[T]:
    headers = {} if key is None else {"Idempotency-Key": key}
    return Request(
        "POST", route, _object(kind), path or {}, {}, _sent(body, nullable or {}), headers
    )


def _edit(
    method: str,
    user_id: UserId,
    body: Mapping[str, object],
    etag: str | None,
    *,
    only_new: bool = False,
) -> Request[Versioned[answers.Subscription]]:
    conditions = {"If-Match": etag, "If-None-Match": "*" if only_new else None}
    headers = {name: value for name, value in conditions.items() if value is not None}
    path = _path(user_id=user_id)
    return Request(method, _SUBSCRIPTION, _versioned, path, {}, body, headers, not headers)


def _public(
    method: str, route: str, read_it: Callable[[httpx.Response], T], token: str | None = None
) -> Request[T]:
    query = {} if token is None else {"token": token}
    return Request(method, route, read_it, {}, query, is_public=True)


def _sent(
    body: Mapping[str, object], nullable: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The fields of a body: those that are not None, and those of ``nullable`` that are given."""
    fields = {name: value for name, value in body.items() if value is not None}
    fields |= {name: value for name, value in (nullable or {}).items() if value is not OMITTED}
    return {
        name: _text_of(name, value) if isinstance(value, date) else value
        for name, value in fields.items()
    }


def _text_of(name: str, value: object) -> str | None:
    """A value as it is written in a query."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError(f"{name} must be an aware datetime, such as one with tzinfo=timezone.utc")
    if isinstance(value, date):
        return value.isoformat()
    return None if value is None else str(value)


def _path(**names: UserId) -> dict[str, str]:
    for name, value in names.items():
        if value == "":
            raise ValueError(f"{name} must not be empty")
    return {name: str(value) for name, value in names.items()}


_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def _key(given: str | None) -> str:
    """The key of a request: made now, before the first attempt, if the caller gives none."""
    key = str(uuid.uuid4()) if given is None else given
    if not _KEY.fullmatch(key):
        raise ValueError("key must be 1 to 255 visible ASCII characters without spaces")
    return key


# --- Reading answers ------------------------------------------------------------------------------


def _json(response: httpx.Response) -> dict[str, Any]:
    """The object of an answer. Raises `Unreadable` for anything else: it is not from the API."""
    try:
        found = response.json()
    except ValueError as error:
        raise Unreadable("it is not JSON") from error
    if not isinstance(found, dict):
        raise Unreadable("it is not a JSON object")
    return found


def _text(response: httpx.Response) -> str:
    return response.text


def _statement(response: httpx.Response) -> answers.StatementPage:
    lines = tuple(response.text.split("\n")[:-1])
    try:
        cursor = json.loads(lines[-1])["next_cursor"]
    except (LookupError, TypeError, ValueError) as error:
        raise Unreadable("it is not a page of a statement") from error
    return answers.StatementPage(items=lines, next_cursor=cursor)


def _object(kind: type[T]) -> Callable[[httpx.Response], T]:
    def read_it(response: httpx.Response) -> T:
        replayed = response.headers.get("Idempotency-Replayed") == "true"
        return read(kind, {**_json(response), "replayed": replayed})

    return read_it


def _versioned(response: httpx.Response) -> Versioned[answers.Subscription]:
    found = _object(answers.Subscription)(response)
    return Versioned(found, response.headers.get("ETag", ""))


def problem(response: httpx.Response) -> answers.Problem:
    """The problem of a refusal. Raises `Unreadable` if it is not from the API."""
    return read(answers.Problem, _json(response))
