"""Who changed what in a subscription, and when: one permanent record for each edit.

A record and its edit are written together or not at all. It holds the fields of a subscription that
the API shows, before and after the edit. Addresses are among them, so erasing a person removes
their records.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from . import calendar
from .billing import stands_at
from .damage import Damage, instant, text_or_none, value_of
from .instants import CLOCKS_DIFFER, format_instant, to_milliseconds
from .notifications import MailKind
from .plans import PlanCatalogue
from .subscriptions import Moment, Subscription, instant_of, monthly_amount
from .terms import FIELDS

SCHEMA = 1
"""The version of a record's form. Records are kept for good, so each form stays readable."""


class EditorKind(StrEnum):
    """The source of an edit."""

    ADMIN = "admin"
    BACKEND = "backend"
    BILLING = "billing"
    UNSUBSCRIBE_LINK = "unsubscribe_link"
    MAIL_EVENTS = "mail_events"
    IMPORT = "import"
    STRIPE = "stripe"


class Editor(NamedTuple):
    """Who made an edit.

    ``subject``: the caller of the API, or the id of Stripe's event; other sources have none.
    """

    kind: EditorKind
    subject: str | None = None


BY_LINK = Editor(EditorKind.UNSUBSCRIBE_LINK)
BY_MAIL_EVENTS = Editor(EditorKind.MAIL_EVENTS)
BY_IMPORT = Editor(EditorKind.IMPORT)


class Change(NamedTuple):
    """One field, as the API shows it, before and after an edit; None for no value."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit, which made ``version`` of the subscription."""

    user_id: str
    version: int
    edited_at: datetime
    editor: Editor
    changes: tuple[Change, ...]
    correlation_id: str | None

    def body(self) -> str:
        """The stored body of the edit, without its key."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "version": self.version,
                "edited_at": to_milliseconds(self.edited_at),
                "kind": self.editor.kind,
                "subject": self.editor.subject,
                "changes": self.changes,
                "correlation_id": self.correlation_id,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_body(cls, user_id: str, body: str) -> "Edit":
        """Reads an edit from its stored body. Raises `Damage`."""
        stored = json.loads(body)
        if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
            raise Damage("is of another schema")
        return cls(
            user_id=user_id,
            version=value_of(stored, "version", _whole),
            edited_at=value_of(stored, "edited_at", instant),
            editor=Editor(
                value_of(stored, "kind", EditorKind), value_of(stored, "subject", text_or_none)
            ),
            changes=value_of(stored, "changes", lambda each: tuple(Change(*one) for one in each)),
            correlation_id=value_of(stored, "correlation_id", text_or_none),
        )


def _whole(value: object) -> int:
    if type(value) is not int or value < 1:
        raise Damage("is no version")
    return value


def shown_fields(subscription: Subscription) -> dict[str, Any]:
    """All stored fields of a subscription that the API shows, without the user id and the version.

    The fields that a request may name come first (`terms.FIELDS`).
    """
    return {
        "email": subscription.email,
        "timezone": subscription.timezone,
        "plan": subscription.plan,
        "billing_interval": subscription.billing_interval.value,
        "status": subscription.status.value,
        "started_at": format_instant(subscription.started_at),
        "eligible_from": _moment(subscription.eligible_from),
        "ends_at": _shown(subscription.ends_at),
        "allocation_amount": subscription.allocation_amount,
        "language": subscription.language.value,
        "notifications": [kind.value for kind in MailKind if kind in subscription.notifications],
        "mail_suppressed_because": subscription.suppressed and subscription.suppressed.value,
        "resumed_at": _shown(subscription.resumed_at),
        "observed_at": _shown(subscription.observed_at),
    }


def changes(before: Subscription | None, after: Subscription) -> tuple[Change, ...]:
    """The fields in which a subscription differs from the one before, if there was one."""
    then: Mapping[str, Any] = _recorded(before) if before else {}
    return tuple(
        Change(name, then.get(name), value)
        for name, value in _recorded(after).items()
        if then.get(name) != value
    )


def _recorded(subscription: Subscription) -> dict[str, Any]:
    """What a record says of a subscription: what the API shows, and the state of its contracts."""
    fields = shown_fields(subscription)
    if subscription.contracts:
        fields["contracts"] = [
            f"{each.id}: {stands_at(each).status}" for each in subscription.contracts
        ]
    return fields


def gives_more(
    before: Subscription | None, after: Subscription, catalogue: PlanCatalogue
) -> dict[str, bool]:
    """The fields that an edit changes, each with whether the change gives the user more.

    Two kinds of change give more. First, an own amount that is new or higher than before, or whose
    removal gives the user their plan's larger amount. Second, an eligibility that begins earlier,
    or earlier than now for a new user. No other edit gives anybody anything for the past.
    """
    more = {name: False for name, *_ in changes(before, after) if name in FIELDS}
    if "allocation_amount" in more:
        more["allocation_amount"] = _is_more(before, after, catalogue)
    if "eligible_from" in more:
        more["eligible_from"] = _is_earlier(before, after)
    return more


def _is_more(before: Subscription | None, after: Subscription, catalogue: PlanCatalogue) -> bool:
    own = before.allocation_amount if before else None
    if own is None:
        return True  # the amount has changed: there was none before
    if after.allocation_amount is not None:
        return after.allocation_amount > own
    return after.plan in catalogue and monthly_amount(after, catalogue) > own


def _is_earlier(before: Subscription | None, after: Subscription) -> bool:
    if before is None:
        begins = instant_of(after.eligible_from, after.timezone)
        # A client that registers a user sends its own clock's time, if any.
        return after.registered_at is None or begins < after.registered_at - CLOCKS_DIFFER
    timezone = calendar.known_or_utc(before.timezone)
    return instant_of(after.eligible_from, timezone) < instant_of(before.eligible_from, timezone)


def _moment(moment: Moment) -> str:
    return format_instant(moment) if isinstance(moment, datetime) else moment.isoformat()


def _shown(instant: datetime | None) -> str | None:
    return format_instant(instant) if instant else None
