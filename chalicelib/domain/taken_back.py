"""How much money of a payment refunds and disputes took back: from events in any order.

    charge refunded   10:00   1,000 in all          1,000
    dispute dp_1      10:05   2,000 withdrawn       3,000
    dispute dp_1      10:09   2,000 reinstated      1,000
    refund re_1       10:12     400 failed            600

The newest event of the charge counts: it says the total of its refunds. The newest event of each
dispute counts. A failed refund has an event of its own, and counts only if it is newer than the
charge's newest event. So the sum does not depend on the order in which the events come, or on how
often each does.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from .damage import Damage, count, instant
from .instants import to_milliseconds


class Seen(NamedTuple):
    """An amount in minor units, and when it was seen, in whole seconds."""

    at: datetime
    amount: int


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What is known about a payment.

    ``charged``: what was paid, if an event says it. ``refunded``: of the charge, in all.
    ``failed``: refunds that failed, by their ids. ``disputed``: what is withdrawn, by dispute.
    """

    charged: int | None = None
    refunded: Seen | None = None
    failed: tuple[tuple[str, Seen], ...] = ()
    disputed: tuple[tuple[str, Seen], ...] = ()

    @property
    def in_all(self) -> int:
        """What is taken back so far, in minor units."""
        refunded = 0
        if self.refunded is not None:
            since = [seen.amount for _, seen in self.failed if seen.at >= self.refunded.at]
            refunded = max(0, self.refunded.amount - sum(since))
        return refunded + sum(seen.amount for _, seen in self.disputed)

    def with_charge(self, charged: int, refunded: Seen) -> "TakenBack":
        """After an event of the charge. Of two in one second, the larger refund is later."""
        newest = max(self.refunded, refunded) if self.refunded else refunded
        return TakenBack(self.charged or charged, newest, self.failed, self.disputed)

    def with_failure(self, refund_id: str, failed: Seen) -> "TakenBack":
        """After an event of a failed or cancelled refund. A refund fails once."""
        known = dict(self.failed)
        known[refund_id] = min(known.get(refund_id, failed), failed)
        return TakenBack(self.charged, self.refunded, _sorted(known), self.disputed)

    def with_dispute(self, dispute_id: str, withdrawn: Seen) -> "TakenBack":
        """After an event of a dispute: the money withdrawn for it, 0 once that is reinstated.

        Of two events in one second, the reinstatement is the later.
        """
        known = dict(self.disputed)
        before = known.get(dispute_id, withdrawn)
        known[dispute_id] = max(before, withdrawn, key=lambda seen: (seen.at, -seen.amount))
        return TakenBack(self.charged, self.refunded, self.failed, _sorted(known))

    def credits_of(self, bought: int, paid: int) -> int:
        """How many of the bought credits are taken back: never more than the money's share.

        The user keeps the remainder of the division. A payment of 0 takes nothing back.
        """
        return bought * min(self.in_all, paid) // paid if paid else 0

    def body(self) -> str:
        """As text, to be stored."""
        return json.dumps(
            {
                "charged": self.charged,
                "refunded": self.refunded and _written(self.refunded),
                "failed": {name: _written(seen) for name, seen in self.failed},
                "disputed": {name: _written(seen) for name, seen in self.disputed},
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_body(cls, body: str) -> "TakenBack":
        """Reads it from its stored text. Raises `Damage`."""
        stored = json.loads(body)
        if not isinstance(stored, dict):
            raise Damage("is no object")
        charged, refunded = stored["charged"], stored["refunded"]
        return cls(
            None if charged is None else count(charged),
            None if refunded is None else _seen(refunded),
            _sorted({name: _seen(seen) for name, seen in stored["failed"].items()}),
            _sorted({name: _seen(seen) for name, seen in stored["disputed"].items()}),
        )


def _sorted(known: dict[str, Seen]) -> tuple[tuple[str, Seen], ...]:
    return tuple(sorted(known.items()))


def _written(seen: Seen) -> list[int]:
    return [to_milliseconds(seen.at), seen.amount]


def _seen(stored: Any) -> Seen:
    at, amount = stored
    return Seen(instant(at), count(amount))
