"""The life of an account: what was granted, taken, held and expired, played from its beginning.

The same few rules play two lives: that of a ledger, and that of the old system, which is the former
plus the findings. The effect of a finding is the difference of the final balances with and without
it.

    grant 17   100 on 1 May, gone on 31 May
    take  18    30 on 10 May
    on 31 May the other 70 expire: by comparison, nobody has to book them

The old system expires credits when its job runs. A lot that is ``kept`` does not expire by itself:
only an `Expire` ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

OF_THE_OLD = 1_000_000_000_000
"""Added to a line number of the old system's file, it gives the movement's order: after our entries
of the same instant, which have lower numbers."""

Legs = tuple[tuple[str, int], ...]
"""How much of which lot."""


class Grant(NamedTuple):
    """Credits that are granted together, and expire together. Its name is that of its lot."""

    at: datetime
    order: int
    amount: int
    granted_at: datetime
    number: int
    priority: int
    expires_at: datetime | None


class Take(NamedTuple):
    """Credits that are taken: first from a hold or from ``legs``, then in burn-down order."""

    at: datetime
    order: int
    amount: int
    legs: Legs = ()
    hold: str | None = None


class Give(NamedTuple):
    """Credits that go back to the lots that they came from."""

    at: datetime
    order: int
    legs: Legs


class Hold(NamedTuple):
    """Credits set aside until an instant, in burn-down order."""

    at: datetime
    order: int
    amount: int
    until: datetime


class Release(NamedTuple):
    """The end of a hold."""

    at: datetime
    order: int
    hold: str


class Expire(NamedTuple):
    """The credits of these lots that the old system booked out."""

    at: datetime
    order: int
    amount: int
    lots: tuple[str, ...]


Action = Grant | Take | Give | Hold | Release | Expire


@dataclass(frozen=True)
class Life:
    """What happened to an account, by name. ``kept``: the lots that do not expire by themselves.

    ``spends_dead``: whether a kept lot can be spent after its expiry, until it is booked out.
    """

    actions: Mapping[str, Action] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    spends_dead: bool = False

    def having(self, actions: Mapping[str, Action]) -> Life:
        """The life with these actions; they replace those with the same names."""
        return replace(self, actions={**self.actions, **actions})

    def without(self, names: Iterable[str]) -> Life:
        """The life without the actions with these names."""
        gone = frozenset(names)
        left = {name: action for name, action in self.actions.items() if name not in gone}
        return replace(self, actions=left)

    def keeping(self, lots: Iterable[str]) -> Life:
        """The life in which these lots do not expire by themselves."""
        return replace(self, kept=self.kept.union(lots))

    def without_holds(self) -> Life:
        """The life in which nothing was set aside; captured credits were still taken."""
        found = self.actions.items()
        return self.without(name for name, action in found if isinstance(action, Hold))

    @property
    def grants(self) -> dict[str, Grant]:
        """Its grants, by the names of their lots."""
        found = self.actions.items()
        return {name: action for name, action in found if isinstance(action, Grant)}

    def balances(self, instants: Sequence[datetime]) -> list[int]:
        """The balance at each instant, after the actions at it; the instants are in order.

        It counts what can be spent or is held, and everything of kept lots that was not booked out.
        """
        played = _Played(self)
        found, steps = [], self._in_order()
        step = next(steps, None)
        for at in instants:
            while step and step[1].at <= at:
                played.play(*step)
                step = next(steps, None)
            found.append(played.balance(at))
        return found

    def left(self, at: datetime, order: int) -> dict[str, int]:
        """What is left of each lot and not held, at an instant before the action of this order."""
        played = _Played(self)
        for name, action in self._in_order():
            if (action.at, action.order) >= (at, order):
                break
            played.play(name, action)
        return {lot: played.free(lot, at) for lot in played.left}

    def _in_order(self) -> Iterator[tuple[str, Action]]:
        return iter(sorted(self.actions.items(), key=lambda item: (item[1].at, item[1].order)))


class _Played:
    """An account on its way through a life."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._grants: dict[str, Grant] = {}
        self._holds: dict[str, tuple[datetime, dict[str, int]]] = {}
        self._debt = 0
        self.left: dict[str, int] = {}

    def play(self, name: str, action: Action) -> None:
        """Plays one action."""
        match action:
            case Grant():
                # Overspent credits are repaid first.
                made_up = min(self._debt, action.amount)
                self._debt -= made_up
                self._grants[name] = action
                self.left[name] = action.amount - made_up
            case Take():
                self._take(action)
            case Give():
                for lot, amount in action.legs:
                    if lot in self.left:
                        self.left[lot] += amount
                    else:
                        self._debt -= amount
            case Hold():
                legs = dict(self._burn(action.amount, action.at))
                self._holds[name] = action.until, legs
            case Release():
                self._holds.pop(action.hold, None)
            case Expire():
                self._drain(((lot, action.amount) for lot in action.lots), action)

    def _take(self, action: Take) -> None:
        legs: Iterable[tuple[str, int]] = action.legs
        if action.hold is not None:
            _, held = self._holds.pop(action.hold, (action.at, {}))
            legs = held.items()
        self._drain(legs, action)

    def _drain(self, legs: Iterable[tuple[str, int]], action: Take | Expire) -> None:
        """Takes an amount from these legs, then in burn-down order, and overdraws for the rest."""
        missing = action.amount
        for lot, most in legs:
            taken = min(missing, most, self.left.get(lot, 0))
            if taken:
                self.left[lot] -= taken
                missing -= taken
        for lot, taken in self._burn(missing, action.at):
            self.left[lot] -= taken
            missing -= taken
        self._debt += missing

    def _burn(self, amount: int, at: datetime) -> Iterator[tuple[str, int]]:
        lots = [lot for lot, left in self.left.items() if left and amount]
        for lot in sorted(lots, key=lambda lot: self._place(lot, at)):
            if amount and (there := self._spendable(lot, at)):
                taken = min(amount, there)
                amount -= taken
                yield lot, taken

    def _place(self, lot: str, at: datetime) -> tuple[bool, int, datetime, int]:
        """The order of spending. Lots that should have expired come last, or in their turn."""
        grant = self._grants[lot]
        is_last = not (self._life.spends_dead or self._is_alive(grant, at))
        return is_last, grant.priority, grant.granted_at, grant.number

    def _is_alive(self, grant: Grant, at: datetime) -> bool:
        return grant.expires_at is None or at < grant.expires_at

    def _is_there(self, lot: str, at: datetime) -> bool:
        return lot in self._life.kept or self._is_alive(self._grants[lot], at)

    def _spendable(self, lot: str, at: datetime) -> int:
        return self.free(lot, at) if self._is_there(lot, at) else 0

    def free(self, lot: str, at: datetime) -> int:
        """What is left of a lot and not held."""
        return max(0, self.left[lot] - self._held(lot, at))

    def _held(self, lot: str, at: datetime) -> int:
        return sum(legs.get(lot, 0) for until, legs in self._holds.values() if at < until)

    def balance(self, at: datetime) -> int:
        """The balance at an instant, minus overspent credits."""
        there = sum(
            left if self._is_there(lot, at) else min(left, self._held(lot, at))
            for lot, left in self.left.items()
        )
        return there - self._debt
