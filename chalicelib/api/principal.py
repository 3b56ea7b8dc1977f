"""The caller, and the one place that decides who may do what to whose credits.

    scope             own credits      anybody's credits
    credits:read      read             -
    credits:use       use              -
    credits:backend   -                read, use, hold, reverse; read and edit subscriptions
    credits:billing   -                read, sell, refund; read and edit subscriptions
    credits:admin     -                read, hold, reverse, sell, refund, allocate, run allocations;
                                       read and edit subscriptions, read who edited them

A scope allows what its line says and nothing more; a token can carry several. A refusal reveals
nothing: it is the same whether the other user exists or not.

Each scope may edit its own fields of a subscription: `EDITS`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chalicelib.domain.errors import FieldError, InvalidInput
from chalicelib.domain.fields import is_reserved

from .errors import Forbidden, Unauthenticated


class Scope(StrEnum):
    """A permission of a token, by our name; the authorizer translates the issuer's names."""

    READ = "credits:read"
    USE = "credits:use"
    BACKEND = "credits:backend"
    BILLING = "credits:billing"
    ADMIN = "credits:admin"


class Reach(StrEnum):
    """How far a scope may edit a field."""

    ALL = "all"
    """To any valid value."""
    LESS = "less"
    """Only to values that give the user no more, as `domain.edits.gives_more` defines it."""


_FREE: Mapping[Scope, Reach] = dict.fromkeys((Scope.ADMIN, Scope.BACKEND, Scope.BILLING), Reach.ALL)
_LESS: Mapping[Scope, Reach] = {
    Scope.ADMIN: Reach.ALL,
    Scope.BACKEND: Reach.LESS,
    Scope.BILLING: Reach.LESS,
}

EDITS: Mapping[str, Mapping[Scope, Reach]] = {
    "email": _FREE,
    "timezone": _FREE,
    "plan": _FREE,
    "billing_interval": _FREE,
    "status": _FREE,
    "started_at": _FREE,
    "ends_at": _FREE,
    "notifications": _FREE,
    "language": _FREE,
    "observed_at": _FREE,
    "allocation_amount": _LESS,
    "eligible_from": _LESS,
    "mail_suppressed_because": {Scope.ADMIN: Reach.ALL},
}
"""Which scope may edit which field of a subscription. By editing, neither the backend nor billing
can create credits: they name a user's plan, and the plan decides the amount. They may set a smaller
amount than the plan's, because that gives nobody anything. Repeating a stored value is not an
edit."""

_HOW_TO_BE_ALLOWED = {
    "allocation_amount": "send no more than is stored, or leave it out",
    "eligible_from": (
        "send no moment before the one that is stored, for a new user none before now, "
        "or leave it out"
    ),
    "mail_suppressed_because": "leave it out",
}

LONGEST_SUBJECT = 255
"""The longest subject of a token, in characters: what OpenID Connect allows an issuer."""

_WRITTEN = str.maketrans({"%": "%25", "#": "%23", "/": "%2F"})


def caller_of(field: str, subject: object) -> str:
    r"""The name of a caller in the ledger, from the subject of their token.

    >>> caller_of("sub", "CORP\\ada"), caller_of("sub", "team#1/ada"), caller_of("sub", 42)
    ('CORP\\ada', 'team%231%2Fada', '42')

    A subject is any printable text, or a whole number. No two subjects have the same name. A name
    contains no `#`, because that ends the caller in the name of an operation. It contains no `/`,
    because that marks callers without a token. Raises `InvalidInput`, which does not quote the
    subject.
    """
    text = str(subject) if type(subject) is int and subject >= 0 else subject
    if (
        not isinstance(text, str)
        or len(text) > LONGEST_SUBJECT
        or not text.strip()
        or not text.isprintable()
    ):
        raise InvalidInput.of(
            field, f"must be 1 to {LONGEST_SUBJECT} printable characters, or a whole number"
        )
    if is_reserved(text):
        raise InvalidInput.of(field, "is a name that the ledger has for no person")
    return text.translate(_WRITTEN)


def name_in_logs(caller: str) -> str:
    """A caller as the logs name them: never by an address.

    >>> name_in_logs("auth0|1048"), name_in_logs("ada@example.com")
    ('auth0|1048', 'sha256:b5fc85e55755f9e0')

    Some issuers use logins as subjects, and these are addresses. If you know an address, you can
    find its lines: ``printf %s ada@example.com | sha256sum | cut -c-16``.
    """
    if "@" not in caller:
        return caller
    return f"sha256:{hashlib.sha256(caller.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller of one request.

    ``caller`` is the token's subject, as `caller_of` writes it: the actor of every entry, and the
    owner of the idempotency keys. ``user_id`` is the user that the token stands for; None for a
    backend, or an admin without credits.
    """

    caller: str
    user_id: str | None
    scopes: frozenset[str]

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> "Principal":
        """The caller that the authorizer put into a request's context.

        Raises `Unauthenticated` without a caller: if a route is deployed without its authorizer by
        mistake, it answers nobody.
        """
        authorized = context.get("authorizer") or {}
        caller = authorized.get("caller")
        if not caller:
            raise Unauthenticated("a valid bearer token is required")
        return cls(
            caller=caller,
            user_id=authorized.get("user_id") or None,
            scopes=frozenset(authorized.get("scopes", "").split()),
        )

    def reads_credits_of(self, user_id: str | None) -> str:
        """The user whose credits a request reads; None means the caller's own."""
        return self._whose(user_id, Scope.READ, Scope.BACKEND, Scope.BILLING, Scope.ADMIN)

    def uses_credits_of(self, user_id: str | None) -> str:
        """The user whose credits a request uses; None means the caller's own."""
        return self._whose(user_id, Scope.USE, Scope.BACKEND)

    def may_use_many(self) -> None:
        """Passes callers who may book several usages of any users at once."""
        self._needs(Scope.BACKEND)

    def may_hold(self) -> None:
        """Passes callers who may set a user's credits aside, and capture or release them."""
        self._needs(Scope.BACKEND, Scope.ADMIN)

    def may_reverse(self) -> None:
        """Passes callers who may give a usage back to its user."""
        self._needs(Scope.BACKEND, Scope.ADMIN)

    def may_allocate(self) -> None:
        """Passes callers who may make manual adjustments and run allocations."""
        self._needs(Scope.ADMIN)

    def may_sell(self) -> None:
        """Passes callers who may grant paid credits, and take back refunded ones."""
        self._needs(Scope.BILLING, Scope.ADMIN)

    def may_manage_subscriptions(self) -> None:
        """Passes callers who may read and edit anybody's subscription."""
        self._needs(Scope.BACKEND, Scope.BILLING, Scope.ADMIN)

    def may_read_edits(self) -> None:
        """Passes callers who may read who edited anybody's subscription."""
        self._needs(Scope.ADMIN)

    def may_support(self) -> None:
        """Passes callers who may see everything that support needs."""
        self._needs(Scope.ADMIN)

    def may_edit(self, field: str, *, gives_more: bool) -> None:
        """Passes callers who may edit a field in this way; see `EDITS`.

        Raises `Forbidden` naming the field and what is allowed instead.
        """
        reaches = self._reaches(field)
        if Reach.ALL in reaches or (Reach.LESS in reaches and not gives_more):
            return
        whose = [scope for scope, reach in EDITS[field].items() if reach is Reach.ALL]
        message = f"is for {' and '.join(whose)} to set so; {_HOW_TO_BE_ALLOWED[field]}"
        raise Forbidden(f"{field}: {message}", [FieldError(field, message)])

    def fields_of_others(self) -> frozenset[str]:
        """The fields of a subscription that the caller may not edit freely."""
        return frozenset(field for field in EDITS if Reach.ALL not in self._reaches(field))

    def _reaches(self, field: str) -> set[Reach]:
        return {reach for scope, reach in EDITS[field].items() if scope in self.scopes}

    def _whose(self, user_id: str | None, own: Scope, *anybodys: Scope) -> str:
        whose = self.user_id if user_id is None else user_id
        if not self.scopes.isdisjoint(anybodys):
            if whose is None:
                raise InvalidInput.of("user_id", "is required: the token stands for no user")
            return whose
        if whose is None or whose != self.user_id or own not in self.scopes:
            raise Forbidden(_REFUSED)
        return whose

    def _needs(self, *scopes: Scope) -> None:
        if self.scopes.isdisjoint(scopes):
            raise Forbidden(_REFUSED)


_REFUSED = "the token does not allow this"
