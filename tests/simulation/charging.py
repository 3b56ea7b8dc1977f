"""What happens to several usages that are charged at once: each once, whichever way it comes."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation.drawn import Drawn, amounts, places, troubles
from tests.simulation.faults import Troubles
from tests.simulation.life import CALM, SHOP, Life
from tests.simulation.oracle import Intent
from tests.simulation.reference import require
from tests.simulation.world import Reply

Json = dict[str, Any]
Judge = Callable[[Reply | None, Troubles, Counter[str]], None]

MOST_KEYS = 6


class Charging(Life):
    """The rules of several usages at once. Their keys are theirs alone, but for `use_one`."""

    @rule(
        who=places,
        first=st.integers(0, MOST_KEYS - 1),
        several=st.lists(amounts, min_size=1, max_size=4),
        same=st.booleans(),
        drawn=troubles,
    )
    def use_many(
        self,
        who: int,
        first: int,
        several: list[int],
        same: bool,  # noqa: FBT001
        drawn: Drawn,
    ) -> None:
        """Some of the keys may be known; then mostly for the same usage as before."""
        user = self.user(who)
        items = {}
        for place, amount in enumerate(several):
            item = self._usage(user, (first + place) % MOST_KEYS, amount)
            known = self.oracle.intents.get(item.operation)
            items[item.operation] = known if same and known else item
        # Those of others under one of the keys: all is refused.
        self._charge(user, items, drawn)

    @rule(who=places, place=st.integers(0, MOST_KEYS - 1), amount=amounts, drawn=troubles)
    def use_one(self, who: int, place: int, amount: int, drawn: Drawn) -> None:
        """One of the same usages, by itself."""
        user = self.user(who)
        item = self._usage(user, place, amount)
        known = self.oracle.intents.get(item.operation, item)
        if known.user_id == user:
            key = known.operation.rpartition("#")[2]
            words = f"{user} uses {known.amount} credits, key {key}, by itself"
            self.ask(words, drawn, "use", self.use_of(user, known.amount or 1, key, own=False))

    def _usage(self, user: str, place: int, amount: int) -> Intent:
        operation = f"usage#{SHOP['caller']}#many-{user}-{place}"
        return Intent(operation, user, "usage", amount, "Report")

    def _charge(self, user: str, items: dict[str, Intent], drawn: Drawn) -> None:
        keys = {operation: operation.rpartition("#")[2] for operation in items}
        body: Json = {
            "user_id": user,
            "items": [
                {"key": keys[operation], "amount": item.amount, "description": item.text}
                for operation, item in items.items()
            ],
        }
        sums = ", ".join(f"{item.amount} for {keys[name]}" for name, item in items.items())

        def send() -> Reply:
            return self.world.call("POST", "/api/credits/use-many", SHOP, body)

        with self.step(f"{user} uses at once {sums}", drawn, "use") as t:
            judge = self._many_asked(user, items, keys)

            def again() -> None:
                reply, posted = send(), self.oracle.posted()
                self.later.append(lambda: judge(reply, CALM, posted))

            judge(self.attempt(t, send, again), t, self.oracle.posted())

    def _many_asked(self, user: str, items: dict[str, Intent], keys: dict[str, str]) -> Judge:
        """They are about to be asked for; what judges the answer."""
        oracle = self.oracle
        before = {operation for operation in items if operation in oracle.performed}
        oracle.intents |= {name: item for name, item in items.items() if name not in before}

        def judge(reply: Reply | None, troubles: Troubles, _: Counter[str]) -> None:
            if (reply := self.answered(reply, troubles, "several usages", body_of(items))) is None:
                return
            others = [name for name, item in items.items() if oracle.intents[name] != item]
            if reply.status == 422:
                require(bool(others), "refused to charge the same again:", reply, items)
            elif reply.status == 402:
                self._not_covered(user, items, reply)
            else:
                require(reply.status == 200 and not others, "several usages came to", reply)
                self._charged(user, {keys[name]: item for name, item in items.items()}, reply)
                told = {keys[name] for name in before}
                require(not told & {*reply.json["charged"]}, "charged again:", told, reply)

        return judge

    def _charged(self, user: str, items: dict[str, Intent], reply: Reply) -> None:
        """All are done, and each is said to be done by the entry that did it."""
        told, performed = reply.json, self.oracle.performed
        named = dict.fromkeys(told["charged"], told["transaction_id"])
        named |= {each["key"]: each["transaction_id"] for each in told["already_charged"]}
        right = {
            key: "{}-{}".format(*performed.get(item.operation, ("nobody", 0)))
            for key, item in items.items()
        }
        require(named == right, "several usages are said to be in", named, "and are in", right)
        amount = sum(items[key].amount or 0 for key in told["charged"])
        require(told["amount"] == amount, "they came to", amount, "and not", told)
        if told["transaction_id"]:
            number = int(told["transaction_id"].rpartition("-")[2])
            ledger = self.oracle.ledger(user).until(number)
            line = ledger.lines[-1]
            balance = (-line.amount, ledger.available(line.posted_at))
            found = (told["amount"], told["new_balance"])
            require(found == balance, "the entry is of", balance, "and not", found)

    def _not_covered(self, user: str, items: dict[str, Intent], reply: Reply) -> None:
        """The credits of some moment do not cover what was not charged by then."""
        reasons = []
        for ledger in self.oracle.visited(user):
            done = {
                name
                for name, (_, number) in self.oracle.performed.items()
                if number <= len(ledger.lines)
            }
            wanted = sum(item.amount or 0 for name, item in items.items() if name not in done)
            available = ledger.available(ledger.time(self.world.clock))
            if wanted > available:
                reasons.append(available)
        found = reply.json["available_balance"]
        require(found in reasons, "several usages were refused for no reason:", reply, reasons)


def body_of(items: dict[str, Intent]) -> str:
    """What was asked for, in short."""
    return ", ".join(f"{item.operation}: {item.amount}" for item in items.values())
