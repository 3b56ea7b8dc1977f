"""Reads and edits subscriptions, for the product's backend, its billing and the admins.

Concurrent edits are safe: every answer carries the subscription's version as its ``ETag``, and an
edit with ``If-Match`` is applied to that version or not at all. A PATCH without it is merged into
the newest stored version, so two edits of different fields lose nothing.

Callers edit the fields that belong to their scope (`principal.EDITS`). The other fields stay as
they are when they are left out, even from a PUT.
"""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.domain.edits import Edit, Editor, EditorKind, gives_more, shown_fields
from chalicelib.domain.errors import InvalidInput, NotFound, Unreadable, VersionConflict
from chalicelib.domain.fields import FieldReader, parse_boolean, parse_user_id
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.subscriptions import (
    Subscription,
    SuppressedBecause,
    next_allocation,
    no_allocation_because,
    without_suppression,
)
from chalicelib.domain.terms import FIELDS, Terms, read_terms, successor
from chalicelib.observability import logger
from chalicelib.operations.allocations import Due, due_at_once, save_subscription
from chalicelib.store.edits import KEY, read_edit

from . import cursors
from .administration import due_item
from .answers import Answer, why_not
from .calls import Call, parse_limit
from .principal import Principal, Scope, name_in_logs

_ANY = "*"
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_ETAGS = re.compile(rf"{_ETAG.pattern}(?:\s*,\s*{_ETAG.pattern})*")


@dataclass(frozen=True, slots=True)
class Precondition:
    """The condition of an edit on the stored version.

    ``versions``: it must have one of these ETags (``*``: any); None for no condition. ``is_new``:
    the subscription must not exist yet.
    """

    versions: frozenset[str] | None
    is_new: bool

    @classmethod
    def of(cls, call: Call) -> "Precondition":
        """The precondition in a request's headers. Raises `InvalidInput` for malformed ones."""
        headers = FieldReader(
            {"If-Match": call.header("if-match"), "If-None-Match": call.header("if-none-match")},
            "headers",
        )
        versions = headers.optional("If-Match", _parse_etags)
        is_new = headers.optional("If-None-Match", _parse_any)
        headers.finish()
        return cls(versions, is_new is not None)

    def check(self, present: Subscription | None) -> None:
        """Raises `VersionConflict` unless the present subscription meets the condition."""
        if present is not None and self.is_new:
            raise VersionConflict(f"user {present.user_id} is registered already")
        if self.versions is None or (present is not None and _ANY in self.versions):
            return
        if present is None:
            raise VersionConflict("there is no subscription yet; leave If-Match out to make one")
        if etag(present) not in self.versions:
            raise VersionConflict(
                f"the subscription of user {present.user_id} is of version {etag(present)} now; "
                "read it again and repeat the change"
            )


def etag(subscription: Subscription) -> str:
    """The subscription's version as an ETag."""
    return f'"{subscription.version}"'


def get(call: Call) -> Answer:
    """The subscription, and what follows from it."""
    call.principal.may_manage_subscriptions()
    user_id = call.without_query().path_user_id()
    subscription = call.services.subscriptions.get(user_id)
    return _answer(call, subscription, call.services.ledger.account(user_id))


def put(call: Call) -> Answer:
    """Registers a user, or replaces the whole subscription; missing fields get their defaults."""
    precondition, user_id, values = _edit(call)
    is_registered = False
    others = call.principal.fields_of_others()

    def decide(present: Subscription | None) -> Subscription:
        nonlocal is_registered
        is_registered = present is not None
        precondition.check(present)
        return _edited(call, values, present, kept=others)

    subscription, account = _save(call, user_id, decide)
    return _answer(call, subscription, account, status=200 if is_registered else 201)


def patch(call: Call) -> Answer:
    """Changes the given fields; null sets a field back to its default.

    A dry run returns the subscription as it would be, and what would be allocated at once.
    """
    precondition, user_id, values = _edit(call)
    dry_run, values = _without_dry_run(values)
    lifts_suppression = _SUPPRESSION in values
    if lifts_suppression:
        values = _without_suppression(values)
    lifted: SuppressedBecause | None = None

    def decide(present: Subscription | None) -> Subscription:
        nonlocal lifted
        if present is None:
            raise NotFound(f"there is no user {user_id}")
        precondition.check(present)
        edited = _edited(call, values, present, kept=FIELDS)
        lifted = edited.suppressed if lifts_suppression else None
        if lifted is None:
            return edited
        call.principal.may_edit(_SUPPRESSION, gives_more=False)
        return without_suppression(edited, present.version + 1)

    if dry_run:
        return _previewed(call, user_id, decide)
    subscription, account = _save(call, user_id, decide)
    if lifted:
        actor = name_in_logs(call.principal.caller)
        logger().info("mails resumed", user_id=user_id, actor=actor, suppressed=lifted.value)
    return _answer(call, subscription, account)


def _without_dry_run(values: Mapping[str, object]) -> tuple[bool, Mapping[str, object]]:
    """Whether an edit is a dry run, and its fields."""
    fields = FieldReader({_DRY_RUN: values.get(_DRY_RUN)})
    dry_run = fields.optional(_DRY_RUN, parse_boolean) is True
    fields.finish()
    return dry_run, {name: value for name, value in values.items() if name != _DRY_RUN}


def _previewed(
    call: Call, user_id: str, decide: Callable[[Subscription | None], Subscription]
) -> Answer:
    """The result that an edit would have; its ETag is that of the stored version."""
    present = call.services.subscriptions.find(user_id)
    subscription = decide(present)
    assert present is not None  # noqa: S101 - `decide` raises for a user who does not exist
    account = call.services.ledger.account(user_id)
    due = due_at_once(call.services, account, subscription)
    found = _answer(call, subscription, Account(user_id, due[-1]) if due else account)
    assert isinstance(found.body, dict)  # noqa: S101 - it is what `_answer` makes
    items = [due_item(Due(entry, subscription.timezone)) for entry in due]
    return Answer({**found.body, "dry_run": True, "due": items}, headers={"ETag": etag(present)})


_DRY_RUN = "dry_run"

_SUPPRESSION = "mail_suppressed_because"


def edits(call: Call) -> Answer:
    """Who changed what about a subscription, and when, newest first."""
    call.principal.may_read_edits()
    user_id = call.path_user_id()
    query = call.query()
    limit = query.optional("limit", parse_limit) or _PAGE
    cursor = query.optional("cursor", cursors.parse_cursor)
    query.finish()
    listing = f"edits {user_id}"
    page = call.services.edits.newest_first(user_id, cursors.decode(listing, cursor, KEY), limit)
    if not page.items:
        call.services.subscriptions.get(user_id)  # raises if the user is unknown
    found: list[Edit] = []
    for item in page.items:
        with suppress(Unreadable):
            found.append(read_edit(item))
    return Answer(
        {
            "user_id": user_id,
            "items": [_shown_edit(edit) for edit in found],
            "unreadable": len(page.items) - len(found),
            "next_cursor": page.last_key and cursors.encode(listing, page.last_key),
        }
    )


_PAGE = 20


def _shown_edit(edit: Edit) -> dict[str, object]:
    return {
        "version": edit.version,
        "edited_at": format_instant(edit.edited_at),
        "edited_by": edit.editor._asdict(),
        "changes": [change._asdict() for change in edit.changes],
        "correlation_id": edit.correlation_id,
    }


def _edited(
    call: Call,
    values: Mapping[str, object],
    present: Subscription | None,
    kept: Collection[str],
) -> Subscription:
    """The subscription after an edit. Raises `Forbidden` for fields the caller may not edit."""
    catalogue, now = call.services.catalogue, call.services.now()
    terms = read_terms(values, catalogue, now, Terms.of(present) if present else None, kept)
    edited = successor(present, terms, catalogue, now)
    for name, is_more in gives_more(present, edited, catalogue).items():
        call.principal.may_edit(name, gives_more=is_more)
    return edited


def _without_suppression(values: Mapping[str, object]) -> Mapping[str, object]:
    """The other fields of an edit that lifts the suppression. Raises `InvalidInput`."""
    if values[_SUPPRESSION] is not None:
        raise InvalidInput.of(
            _SUPPRESSION, "can only be null, to write to the address again; SES sets the reason"
        )
    return {name: value for name, value in values.items() if name != _SUPPRESSION}


def _edit(call: Call) -> tuple[Precondition, str, Mapping[str, object]]:
    """The precondition, the user id in the path, and the fields including that user id."""
    call.principal.may_manage_subscriptions()
    user_id = call.path_user_id()
    precondition = Precondition.of(call)
    values = call.json()
    if values.get("user_id") is not None and parse_user_id("user_id", values["user_id"]) != user_id:
        raise InvalidInput.of("user_id", f"must be {user_id!r}, as in the path, or be left out")
    return precondition, user_id, {**values, "user_id": user_id}


def _save(
    call: Call, user_id: str, decide: Callable[[Subscription | None], Subscription]
) -> tuple[Subscription, Account]:
    """Makes an edit; returns the subscription and the account after it.

    The account is read first, so that an edit answered with an error has changed nothing.
    """
    account = call.services.ledger.account(user_id)
    saved = save_subscription(call.services, user_id, decide, _editor(call.principal))
    return saved.subscription, Account(user_id, saved.posted[-1]) if saved.posted else account


def _editor(principal: Principal) -> Editor:
    if Scope.ADMIN in principal.scopes:
        return Editor(EditorKind.ADMIN, principal.caller)
    is_backend = Scope.BACKEND in principal.scopes
    return Editor(EditorKind.BACKEND if is_backend else EditorKind.BILLING, principal.caller)


def _answer(call: Call, subscription: Subscription, account: Account, status: int = 200) -> Answer:
    now = account.time(call.services.now())
    upcoming = next_allocation(
        subscription, call.services.catalogue, account.allocated_through, now
    )
    reason = no_allocation_because(
        subscription, call.services.catalogue, account.allocated_through, now
    )
    body = {
        "user_id": subscription.user_id,
        **shown_fields(subscription),
        "next_credit_allocation": upcoming and upcoming.on.isoformat(),
        "credit_allocation_amount": upcoming.amount if upcoming else 0,
        "not_allocated_because": why_not(reason),
    }
    return Answer(body, status, {"ETag": etag(subscription)})


def _parse_etags(field: str, value: object) -> frozenset[str]:
    if value == _ANY:
        return frozenset({_ANY})
    if isinstance(value, str) and _ETAGS.fullmatch(value):
        return frozenset(_ETAG.findall(value))
    raise InvalidInput.of(field, 'must be * or an ETag such as "3", with its quotation marks')


def _parse_any(field: str, value: object) -> str:
    if value == _ANY:
        return _ANY
    raise InvalidInput.of(field, "must be *")
