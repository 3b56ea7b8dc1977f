"""What the office gives away: promotions from a file, which are run again, in part or changed."""

from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import rule

from infra.imports.promotions import CALLER, Promotion
from tests.simulation.drawn import Drawn, places, troubles
from tests.simulation.faults import Fault
from tests.simulation.life import void
from tests.simulation.office import Office, csv_of
from tests.simulation.oracle import Intent
from tests.simulation.reference import require

Json = dict[str, Any]

HEADER = ("user_id", "amount", "description", "expires_in_days", "notify")

numbers = st.integers(1, 3)
gifts = st.lists(st.sampled_from((1, 30, 100)), min_size=1, max_size=3)


class File(NamedTuple):
    """What a file grants to whom: the same, it is the same promotion."""

    amounts: tuple[tuple[str, int], ...]
    text: str
    days: int | None
    silent: bool

    @property
    def csv(self) -> str:
        """The file as somebody has written it."""
        days, notify = self.days or "never", str(not self.silent).lower()
        return csv_of(
            HEADER, [(user, amount, self.text, days, notify) for user, amount in self.amounts]
        )

    def intents(self, name: str) -> list[Intent]:
        """What its rows ask for, under the promotion's name."""
        return [
            Intent(
                *(f"manual#{CALLER}#{name}-{user}", user, "manual", amount, self.text, self.days),
                silent=self.silent,
                source="promotion",
            )
            for user, amount in self.amounts
        ]


class Promoting(Office):
    """The rules for those who grant promotions."""

    def __init__(self) -> None:
        super().__init__()
        self.promotions: dict[File, str] = {}
        """What was granted, and under which name."""

    @rule(
        number=numbers,
        gifts=gifts,
        days=st.sampled_from((None, 1, 30)),
        silent=st.booleans(),
        who=places,
        drawn=troubles,
    )
    def promote(
        self,
        number: int,
        gifts: list[int],
        days: int | None,
        who: int,
        drawn: Drawn,
        *,
        silent: bool = False,
    ) -> None:
        """A promotion for some users; or another of the same description."""
        amounts = {self.user(who + place): amount for place, amount in enumerate(gifts)}
        file = File(tuple(amounts.items()), f"Promotion {number}", days, silent)
        self._promote("a promotion", file, drawn)

    @rule(place=st.integers(0, 9), drawn=troubles)
    def promote_again(self, place: int, drawn: Drawn) -> None:
        """The same file, its rows the other way round: somebody was interrupted, or is not sure."""
        if self.promotions:
            file = list(self.promotions)[-1 - place % len(self.promotions)]
            self._promote("an old promotion", file._replace(amounts=file.amounts[::-1]), drawn)

    def _promote(self, words: str, file: File, drawn: Drawn) -> None:
        told = ", ".join(f"{amount} for {user}" for user, amount in file.amounts)
        with self.step(f"{words}, {file.text!r}, is run: {told}", drawn, "promotion") as troubles:
            self.oracle.is_importing = True
            promotion = self._promotion_of(file)
            same = file._replace(amounts=tuple(sorted(file.amounts)))
            name = self.promotions.setdefault(same, promotion.name)
            require(name == promotion.name, "a promotion has two names:", file)
            is_known = sum(each == name for each in self.promotions.values()) > 1
            require(not is_known, "two promotions have one name:", file)
            intents = file.intents(name)
            self.oracle.intents |= {intent.operation: intent for intent in intents}

            def act() -> Json | None:
                return self._import(self._promotion_of(file).file, file.csv)

            found = self.attempt(troubles, act, lambda: void(act()))
            if found is None or found["failures"]:
                require(not troubles.is_absorbed, "a promotion failed for no reason:", found)
                return
            is_alone = not troubles.has_struck(Fault.MEANWHILE)
            require(not found["wrong"] or not is_alone, "the file was refused:", found)
            missing = [each for each in intents if each.operation not in self.oracle.performed]
            require(found["wrong"] or not missing, "are said to be granted:", missing)

    def _promotion_of(self, file: File) -> Promotion:
        services = self.world.services
        read = Promotion({}, "admin").file
        alone = read.check_alone(file.csv, services.catalogue, self.world.clock)
        require(not alone.problems, "the file cannot be read:", alone.problems)
        return Promotion.of(alone.good, "admin")
