"""The operations that a person or a product requests, done once per idempotency key.

Every operation is named ``<type>#<caller>#<key>``: two callers can use the same key, but one caller
cannot use it for two requests.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain import ledger
from chalicelib.domain.batches import DEFAULT_PRIORITY
from chalicelib.domain.entries import LedgerEntry, UsageItem
from chalicelib.domain.errors import NotFound
from chalicelib.domain.fields import ENTRY_NUMBER
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.metadata import Metadata, metadata_described
from chalicelib.services import Services
from chalicelib.store.ledger import Outcome


class Void(NamedTuple):
    """Asks to take back all that remains of one credit batch, in an admin's name."""

    user_id: str
    batch: int
    reason: str
    actor: str
    caller: str
    key: str
    notify: bool = True
    including_held: bool = False

    @property
    def operation(self) -> str:
        """The operation's name: performed once."""
        return f"{ledger.VOID}{self.caller}#{self.key}"

    def described(self) -> dict[str, object]:
        """What another request must say to count as the same void."""
        described = self._asdict()
        if not self.including_held:
            del described["including_held"]  # keys from before this field stay valid
        return described

    def decide(self, services: Services, account: Account) -> LedgerEntry:
        """The entry it makes. Raises `NotFound` and `NotAllowed`."""
        if services.ledger.entry(self.user_id, self.batch).granted_batch is None:
            raise NotFound(f"user {self.user_id} has no credit batch {self.user_id}-{self.batch}")
        request = Request(self.operation, self.actor, self.reason, silent=not self.notify)
        return ledger.void(
            account, self.batch, request, services.now(), including_held=self.including_held
        )


def void_batch(services: Services, void: Void, *, dry_run: bool = False) -> Outcome:
    """Takes back all that remains of a batch; a ``dry_run`` only returns what it would do.

    Raises `NotFound` when the user was never granted such a batch, and `NotAllowed` when nothing
    usable remains of it.
    """
    return services.ledger.perform(
        void.user_id,
        void.operation,
        void.described(),
        lambda account: void.decide(services, account),
        dry_run=dry_run,
    )


class CarryOver(NamedTuple):
    """Asks to take over the rest of a batch of another system; see `domain.ledger.carry_over`.

    ``key`` is the batch's name there. No email: these are existing credits.
    """

    user_id: str
    amount: int
    granted_at: datetime
    expires_at: datetime | None
    description: str
    caller: str
    key: str
    priority: int = DEFAULT_PRIORITY

    @property
    def operation(self) -> str:
        """The operation's name: performed once."""
        return f"manual#{self.caller}#{self.key}"

    def described(self) -> dict[str, object]:
        """What another request must say to count as the same batch."""
        return {
            "user_id": self.user_id,
            "amount": self.amount,
            "granted_at": format_instant(self.granted_at),
            "expires_at": self.expires_at and format_instant(self.expires_at),
            "description": self.description,
            # Only if it is not the default, so that keys from before this field stay valid.
            **({} if self.priority == DEFAULT_PRIORITY else {"priority": self.priority}),
        }


def carry_over(services: Services, batch: CarryOver) -> Outcome:
    """Takes a batch over. Raises `NotFound` for an unknown user, and `NotAllowed`."""
    request = Request(batch.operation, batch.caller, batch.description, silent=True)
    now = services.now()

    def decide(account: Account) -> LedgerEntry:
        timezone = services.subscriptions.get(batch.user_id).timezone
        return ledger.carry_over(
            account,
            batch.amount,
            batch.granted_at,
            batch.expires_at,
            request,
            now,
            timezone,
            batch.priority,
        )

    return services.ledger.perform(batch.user_id, batch.operation, batch.described(), decide)


def _use_described(
    user_id: str, amount: int, description: str, metadata: Metadata
) -> dict[str, object]:
    """What another request must say to count as the same use, by any route."""
    return {
        "user_id": user_id,
        "amount": amount,
        "description": description,
        **metadata_described(metadata),
    }


def check_user(services: Services, account: Account) -> None:
    """Raises `NotFound` for an account without entries whose user does not exist."""
    if account.last is None:
        services.subscriptions.get(account.user_id)


def use_credits(
    services: Services,
    user_id: str,
    amount: int,
    description: str,
    *,
    caller: str,
    key: str,
    metadata: Metadata = (),
) -> Outcome:
    """Spends a user's credits, in burn-down order.

    Raises `InsufficientCredits` when fewer are available, and `NotFound` for an unknown user.
    """
    request = Request(f"usage#{caller}#{key}", caller, description, metadata=metadata)
    now = services.now()

    def decide(account: Account) -> LedgerEntry:
        check_user(services, account)
        return ledger.use(account, amount, request, now)

    described = _use_described(user_id, amount, description, metadata)
    return services.ledger.perform(user_id, request.operation, described, decide)


class Charged(NamedTuple):
    """The result of several usages, by their keys.

    ``entry``: books those that were charged now; None if there are none. ``already``: the names of
    the transactions that charged the others. ``balance``: what is available after all of it.
    """

    entry: LedgerEntry | None
    charged: list[str]
    already: dict[str, str]
    balance: int


def use_many(
    services: Services, user_id: str, items: Sequence[UsageItem], *, caller: str
) -> Charged:
    """Spends the sum of several usages in one entry; those charged before cost nothing.

    A key here is the same as a key of `use_credits`. Raises `InsufficientCredits` when the new
    usages are not covered: then nothing is charged. Raises `NotFound` for an unknown user.
    """
    operations = {f"usage#{caller}#{item.key}": item for item in items}
    now = services.now()

    def decide(account: Account, new: Collection[str]) -> LedgerEntry:
        check_user(services, account)
        wanted = [item for operation, item in operations.items() if operation in new]
        more = f" and {len(wanted) - 1} more" if len(wanted) > 1 else ""
        request = Request(f"usage#{caller}", caller, f"{wanted[0].description}{more}")
        return ledger.use_many(account, wanted, request, now)

    requests = {
        operation: _use_described(user_id, item.amount, item.description, item.metadata)
        for operation, item in operations.items()
    }
    done = services.ledger.perform_many(user_id, requests, decide)
    before = {operations[operation].key: marker for operation, marker in done.before.items()}
    return Charged(
        done.entry,
        [item.key for item in items if item.key not in before],
        {key: f"{marker.owner}-{marker.number}" for key, marker in before.items()},
        done.entry.available_balance()
        if done.entry
        else done.account.available_balance(done.account.time(now)),
    )


def reverse_usage(  # noqa: PLR0913 - what is asked for, by whom, and whether in earnest
    services: Services,
    user_id: str,
    transaction_id: str,
    amount: int | None,
    description: str,
    *,
    caller: str,
    key: str,
    metadata: Metadata = (),
    dry_run: bool = False,
) -> Outcome:
    """Gives a usage back to the batches it came from: ``amount`` of it, or all that is left.

    A ``dry_run`` only returns what it would do, and writes nothing. Raises `NotFound` for a
    transaction the user does not have, and `NotAllowed` for one that is not a usage, and if all its
    reversals would exceed it.
    """
    owner, _, number = transaction_id.rpartition("-")
    if owner != user_id or not ENTRY_NUMBER.fullmatch(number):
        raise NotFound(f"user {user_id} has no transaction {transaction_id}")
    request = Request(f"reversal#{caller}#{key}", caller, description, metadata=metadata)
    return services.ledger.reverse(
        user_id, int(number), amount, request, services.now(), dry_run=dry_run
    )
