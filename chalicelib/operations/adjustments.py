"""Adjustments: an admin grants or claws back credits, over the API or with the Lambda."""

from dataclasses import dataclass

from chalicelib.domain import ledger
from chalicelib.domain.batches import DEFAULT_PRIORITY, Source
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import (
    FieldReader,
    parse_boolean,
    parse_choice,
    parse_days,
    parse_priority,
    parse_signed_amount,
    parse_text,
    parse_user_id,
)
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days, Lifetime
from chalicelib.domain.metadata import Metadata, metadata_described, parse_metadata
from chalicelib.domain.subscriptions import Subscription, lifetime_of
from chalicelib.services import Services
from chalicelib.store.ledger import Outcome

NEVER = 0
"""The ``expires_in_days`` of a grant that never expires."""

_GRANTED_BY_HAND = (Source.ADJUSTMENT, Source.PROMOTION)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Asks to grant (a positive ``amount``) or to claw back (a negative one).

    ``expires_in_days``: of a grant, in local days of the user; None for the lifetime of the user's
    plan, `NEVER` for credits that never expire. ``up_to_available``: a claw-back takes what is
    left, if that is less; ``including_held``: it may take credits that are held.
    """

    user_id: str
    amount: int
    description: str
    expires_in_days: int | None = None
    priority: int = DEFAULT_PRIORITY
    source: Source = Source.ADJUSTMENT
    notify: bool = True
    up_to_available: bool = False
    including_held: bool = False
    metadata: Metadata = ()

    @property
    def is_grant(self) -> bool:
        """Whether it gives credits."""
        return self.amount > 0

    def described(self, actor: str) -> dict[str, object]:
        """What another request must say to count as the same adjustment."""
        return {
            "user_id": self.user_id,
            "amount": self.amount,
            # The field's former name, so that keys of the release that used it stay valid.
            "reason": self.description,
            "actor": actor,
            "expires_in_days": self.expires_in_days if self.is_grant else None,
            # Only if they are not the default, so that keys from before these fields stay valid.
            **({} if self.notify else {"notify": False}),
            **({"up_to_available": True} if self.up_to_available else {}),
            **({"including_held": True} if self.including_held else {}),
            **({} if self.priority == DEFAULT_PRIORITY else {"priority": self.priority}),
            **({} if self.source is Source.ADJUSTMENT else {"source": self.source}),
            **metadata_described(self.metadata),
        }


def read_adjustment(fields: FieldReader) -> Adjustment:
    """The adjustment that a request asks for; valid once the reader's ``finish`` has passed."""
    priority = fields.optional("priority", parse_priority)
    source = fields.optional("source", parse_source)
    adjustment = Adjustment(
        user_id=fields.required("user_id", parse_user_id),
        amount=fields.required("amount", parse_signed_amount),
        description=fields.required("description", parse_text, formerly="reason"),
        expires_in_days=fields.nullable("expires_in_days", parse_days, NEVER),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        source=source or Source.ADJUSTMENT,
        notify=fields.optional("notify", parse_boolean) is not False,
        up_to_available=fields.optional("up_to_available", parse_boolean) is True,
        including_held=fields.optional("including_held", parse_boolean) is True,
        metadata=fields.optional("metadata", parse_metadata) or (),
    )
    amount: int | None = adjustment.amount  # None if it could not be read
    if amount is not None and amount > 0:
        if adjustment.up_to_available:
            fields.reject(
                "up_to_available", "goes with a claw-back only; a grant gives the whole amount"
            )
        if adjustment.including_held:
            fields.reject("including_held", "goes with a claw-back only; a grant takes nothing")
    elif amount is not None:
        if adjustment.expires_in_days:
            fields.reject("expires_in_days", "goes with a grant only; a claw-back has no expiry")
        for name, value in (("priority", priority), ("source", source)):
            if value is not None:
                fields.reject(name, "goes with a grant only; a claw-back makes no batch")
    return adjustment


def parse_source(field: str, value: object) -> Source:
    """What a manual grant may name as the source of its credits."""
    source = parse_choice(Source)(field, value)
    if source not in _GRANTED_BY_HAND:
        words = " or ".join(_GRANTED_BY_HAND)
        raise InvalidInput.of(field, f"must be {words} for a grant by hand; is {source.value}")
    return source


def operation_of(caller: str, key: str) -> str:
    """The name of an adjustment's operation: performed once."""
    return f"manual#{caller}#{key}"


def adjust(
    services: Services,
    adjustment: Adjustment,
    *,
    actor: str,
    caller: str,
    key: str,
    dry_run: bool = False,
) -> Outcome:
    """Performs an adjustment in an admin's name, once for each key of a caller.

    The user gets an email unless ``notify`` is false. A ``dry_run`` only returns what it would do,
    and writes nothing. Raises `NotFound` for an unknown user, `InvalidInput` for a grant above the
    cap of their plan, and `InsufficientCredits` for a claw-back the balance cannot cover.
    """
    request = Request(
        operation_of(caller, key),
        actor,
        adjustment.description,
        silent=not adjustment.notify,
        metadata=adjustment.metadata,
    )
    now = services.now()

    def decide(account: Account) -> LedgerEntry:
        subscription = services.subscriptions.get(adjustment.user_id)
        if not adjustment.is_grant:
            how = ledger.claw_back_what_is_left if adjustment.up_to_available else ledger.claw_back
            taken, held = -adjustment.amount, adjustment.including_held
            return how(account, taken, request, now, including_held=held)
        check_cap(services, adjustment, subscription)
        return ledger.grant(
            account,
            adjustment.amount,
            request,
            now,
            subscription.timezone,
            _lifetime(services, adjustment, subscription),
            adjustment.priority,
            adjustment.source,
        )

    return services.ledger.perform(
        adjustment.user_id,
        request.operation,
        adjustment.described(actor),
        decide,
        dry_run=dry_run,
    )


def check_cap(services: Services, adjustment: Adjustment, subscription: Subscription) -> None:
    """Raises `InvalidInput` for a grant above the cap of the user's plan."""
    cap, amount = services.catalogue.cap_of(subscription.plan), adjustment.amount
    if amount > cap:
        raise InvalidInput.of(
            "amount",
            f"must be at most {cap:,} for a user of plan {subscription.plan!r}; is {amount:,}",
        )


def _lifetime(services: Services, adjustment: Adjustment, subscription: Subscription) -> Lifetime:
    """For how long a grant lives."""
    days = adjustment.expires_in_days
    if days is not None:
        return None if days == NEVER else Days(days)
    if subscription.plan not in services.catalogue:
        raise InvalidInput.of(
            "expires_in_days",
            f"is required: plan {subscription.plan!r} has left the catalogue, and nothing says how "
            "long its credits live; send days, or null for never",
        )
    return lifetime_of(subscription, services.catalogue)
