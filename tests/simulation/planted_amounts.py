"""Bugs to plant in how much comes; importing this enters them in the list of all bugs."""

from typing import Any

from chalicelib.domain import ledger, notifications
from chalicelib.domain.ledger import Account
from tests.simulation.planted import bug
from tests.simulation.planted_holds import BUGS

__all__ = ["BUGS", "OF_AMOUNTS"]

_OTHERS = {*BUGS}

# --- Caps -----------------------------------------------------------------------------------------


@bug(ledger, "_room")
def _cap_of_the_batch(_: Any, _account: Account, balance_cap: int, _now: Any) -> int:
    """The cap of a plan sees only the new batch."""
    return balance_cap


@bug(ledger, "_room")
def _cap_without_holds(_: Any, account: Account, balance_cap: int, now: Any) -> int:
    """The cap of a plan forgets credits that are held."""
    return max(0, balance_cap - account.available_balance(now))


@bug(ledger, "_room")
def _cap_with_dead_credits(_: Any, account: Account, balance_cap: int, _now: Any) -> int:
    """The cap of a plan counts credits that have expired and are not booked out."""
    return max(0, balance_cap - account.ledger_balance)


@bug(ledger, "allocate")
def _nothing_fits(original: Any, account: Account, *asked: Any, **more: Any) -> Any:
    """A month of which nothing fits is granted in full."""
    entry = original(account, *asked, **more)
    return entry if entry.amount else original(account, *asked[:-1], None)


@bug(notifications, "kind_of")
def _nothing_is_no_news(original: Any, entry: Any, threshold: Any) -> Any:
    """Nobody is told of a month of which nothing fitted."""
    return original(entry, threshold) if entry.amount else None


OF_AMOUNTS = [name for name in BUGS if name not in _OTHERS]
"""The sentences of the bugs in here."""
