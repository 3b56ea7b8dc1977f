"""What happens to payments: they buy, by whichever route they are reported, and are refunded.

A payment buys once. A refund says what was refunded in all, so that the same report again changes
nothing, and less than before gives back; no order in which reports come does any harm.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation import answers
from tests.simulation.drawn import Drawn, amounts, offsets, places, trouble, troubles
from tests.simulation.faults import Troubles
from tests.simulation.life import ADMIN, CALM, HOOK, MILLISECOND, SHOP, TILL, Life
from tests.simulation.oracle import Intent, Report
from tests.simulation.reference import Forbidden, Ledger, Outdated, require, show
from tests.simulation.world import Reply

Json = dict[str, Any]

callers = st.sampled_from((TILL, HOOK, HOOK, ADMIN))
payments = st.integers(1, 6)
lifetimes = st.sampled_from((None, None, 1, 3, 40))
prices = st.none() | st.sampled_from(((990, "EUR"), (0, "JPY")))

parts = st.sampled_from(("all", "all", "some", "less", "more", "none", "none", "too much"))
"""How much is refunded by now: see `Selling._in_all`."""

sightings = st.none() | st.none() | st.sampled_from((0, 0, 1, 30))
"""How many hours ago a report saw what it says, if it says so."""


class Selling(Life):
    """The rules of payments."""

    # --- Rules ------------------------------------------------------------------------------------

    @rule(
        who=places,
        payment=payments,
        amount=amounts,
        days=lifetimes,
        price=prices,
        caller=callers,
        drawn=troubles,
    )
    def buy(
        self,
        who: int,
        payment: int,
        amount: int,
        days: int | None,
        price: tuple[int, str] | None,
        caller: Json,
        drawn: Drawn,
    ) -> None:
        """Of a payment that has bought before mostly for another user or amount, and refused."""
        self._buy(self.user(who), f"pi_{payment}", amount, drawn, caller, days, price)

    @rule(
        place=st.integers(0, 9),
        more=st.sampled_from((0, 0, 0, 1)),
        days=lifetimes,
        caller=callers,
        drawn=troubles,
    )
    def buy_again(
        self, place: int, more: int, days: int | None, caller: Json, drawn: Drawn
    ) -> None:
        """The same payment comes again, by another route, which may date it otherwise."""
        asked = [
            each
            for each in self.oracle.intents.values()
            if each.kind == "purchase" and not _is_of_stripe(each.operation)
        ]
        if asked:
            known = asked[-1 - place % len(asked)]
            amount = (known.amount or 0) + more
            payment = known.operation.partition("#")[2]
            self._buy(known.user_id, payment, amount, drawn, caller, days)

    @rule(place=places, part=parts, seen=sightings, caller=callers, drawn=troubles)
    def refund(self, place: int, part: str, seen: int | None, caller: Json, drawn: Drawn) -> None:
        payment = self._payment(place)
        self._report(self._refund_of(payment, part, seen), drawn, caller)

    @rule(place=places, caller=callers, drawn=troubles)
    def refund_again(self, place: int, caller: Json, drawn: Drawn) -> None:
        """What was reported last is reported by another route."""
        payment = self._payment(place)
        who, purchase = self.oracle.purchase_of(payment)
        done = self.oracle.ledger(who).refunds_of(purchase) if purchase else []
        if done:
            report = Report(payment, done[-1].refunded, "Again", done[-1].observed_at)
            self._report(report, drawn, caller)

    @rule(
        who=places,
        days=st.sampled_from((None, 1, 3)),
        used=st.sampled_from((0, 0, 1, 59, 60)),
        held=st.sampled_from((0, 0, 1, 30)),
        ways=st.tuples(parts, parts, parts),
        offset=st.none() | offsets,
        before=troubles,
        drawn=trouble,
    )
    def story_of_a_dispute(
        self,
        who: int,
        days: int | None,
        used: int,
        held: int,
        ways: tuple[str, str, str],
        offset: int | None,
        before: Drawn,
        drawn: Drawn,
    ) -> None:
        """Credits are bought, used and held in part, and refunded, more of them or fewer again.

        Each report comes by two routes. If they expire, the last one may come at the very end.
        """
        user = self.user(who)
        payment = f"pi_{len(self.oracle.intents)}-{user}"
        self._buy(user, payment, 60, before, HOOK, days)
        name, purchase = self.oracle.purchase_of(payment)
        if not purchase:
            return
        self._spend(user, used, held)
        for place, part in enumerate(ways):
            grant = self.oracle.ledger(name).grants[purchase]
            if place == 2 and grant.expires_at and offset is not None:
                end = grant.expires_at + offset * MILLISECOND
                self.go_to(end, f"batch {purchase} of {user} expires")
            report = self._refund_of(payment, part, None)
            self._report(report, drawn if place else [], HOOK)
            self._report(report, [], TILL)

    @rule(
        who=places,
        first=parts,
        second=parts,
        hours=st.tuples(*[st.integers(0, 3)] * 3),
        drawn=troubles,
    )
    def story_of_reports_of_refunds_in_any_order(
        self, who: int, first: str, second: str, hours: tuple[int, int, int], drawn: Drawn
    ) -> None:
        """What was seen first comes last, and the newest is told again, seen later."""
        user = self.user(who)
        payment = f"pi_{len(self.oracle.intents)}-{user}"
        self._buy(user, payment, 60, [], TILL)
        if self.oracle.purchase_of(payment)[1]:
            for part, seen in zip((first, second, first), hours, strict=True):
                self._report(self._refund_of(payment, part, seen), drawn, HOOK)
                drawn = []

    # --- What they are made of --------------------------------------------------------------------

    def _spend(self, user: str, used: int, held: int) -> None:
        """Some is used and some is held, if there is as much."""
        number = len(self.oracle.ledger(user).lines)
        for kind, amount in (("use", used), ("hold", held)):
            ledger = self.oracle.ledger(user)
            free = ledger.available(ledger.time(self.world.clock))
            if 0 < amount <= free:
                key = f"{kind}-of-bought-{number}"
                asked = self.use_of(user, amount, key, own=False)
                if kind == "hold":
                    asked = self.hold_of(user, amount, 7200, key, SHOP)
                self.ask(f"{user} {kind}s {amount}, key {key}", [], kind, asked)

    def _buy(
        self,
        user: str,
        payment: str,
        amount: int,
        drawn: Drawn,
        caller: Json,
        days: int | None = None,
        price: tuple[int, str] | None = None,
    ) -> None:
        words = f"payment {payment} buys {amount} credits for {user}"
        words += f" for {days} days" if days else ""
        words += f", says the {caller['caller']}"
        operation = f"purchase#{payment}"
        text = f"{amount} credits"
        intent = Intent(operation, user, "purchase", amount, text, days, price=price)
        body: Json = {"user_id": user, "amount": amount, "payment_id": payment}
        body |= {"description": text, "expires_in_days": days}
        body |= {"price": {"amount": price[0], "currency": price[1]}} if price else {}

        def send() -> Reply:
            return self.world.call("POST", "/api/credits/purchases", caller, body)

        self.ask(words, drawn, "buy", (intent, send))

    def _payment(self, place: int, who: str | None = None) -> str:
        """One of the last payments of somebody or of all, or one that has bought nothing."""
        known = [
            name.partition("#")[2]
            for name, (user, _) in self.oracle.performed.items()
            if name.startswith("purchase#") and who in (None, user) and not _is_of_stripe(name)
        ]
        return known[-1 - place % len(known)] if known else "pi_0"

    def _refund_of(self, payment: str, part: str, seen: int | None) -> Report:
        """A report of so much, which was seen so many hours ago."""
        moment = None if seen is None else self.instant - timedelta(hours=seen)
        return Report(payment, self._in_all(payment, part), f"Refund of {part}", moment)

    def _in_all(self, payment: str, part: str) -> int:
        who, purchase = self.oracle.purchase_of(payment)
        if not purchase:
            return 10
        ledger = self.oracle.ledger(who)
        amount, done = ledger.grants[purchase].amount, ledger.refunds_of(purchase)
        last = done[-1].refunded if done else 0
        return {
            "all": amount,
            "some": amount * 2 // 3,
            "less": max(last - 7, 0),
            "more": min(last + 7, amount),
            "none": 0,
            "too much": amount + 1,
        }[part]

    def _report(self, report: Report, drawn: Drawn, caller: Json) -> None:
        words = f"of payment {report.payment} {report.in_all} credits are refunded in all"
        words += f", as seen at {show(report.observed_at)}" if report.observed_at else ""
        words += f", says the {caller['caller']}"
        with self.step(words, drawn, "refund") as troubles:
            judge, send = self._reported(report), self._reporter(report, caller)

            def again() -> None:
                self.later.append(judge_later(judge, send(), self.oracle.posted()))

            judge(self.attempt(troubles, send, again), troubles, self.oracle.posted())

    def _reporter(self, report: Report, caller: Json) -> Callable[[], Reply]:
        body: Json = {
            "payment_id": report.payment,
            "amount": report.in_all,
            "description": report.text,
            "observed_at": report.observed_at and show(report.observed_at),
        }
        return lambda: self.world.call("POST", "/api/credits/refunds", caller, body)

    def refund_meanwhile(self, who: str, amount: int) -> str:
        """Another process reports a refund of the newest purchase, in one way or another."""
        # Lines of this very step are not known yet: what is refunded is there already.
        payment = self._payment(0, who)
        part = ("all", "some", "less", "more", "none")[amount % 5]
        report = self._refund_of(payment, part, None)
        judge, send = self._reported(report), self._reporter(report, TILL)
        self.later.append(judge_later(judge, send(), self.oracle.posted()))
        return f"a refund of payment {payment}: {part}, {report.in_all}"

    def _reported(self, report: Report) -> Callable[[Reply | None, Troubles, Counter[str]], None]:
        """A refund is about to be reported; what judges the answer."""
        self.oracle.reporting.append(report)

        def judge(reply: Reply | None, troubles: Troubles, posted: Counter[str]) -> None:
            if (reply := self.answered(reply, troubles, report)) is None:
                return
            who, purchase = self.oracle.purchase_of(report.payment)
            if reply.status != 200:
                found = (reply.status, reply.json["code"])
                reasons = [*self._refusals(report, who, purchase)]
                require(found in reasons, "refused for no reason:", report, reply, reasons)
                return
            require(purchase > 0, "what was never bought was refunded:", report, reply)
            number = int(reply.json["transaction_id"].rpartition("-")[2])
            require(number <= posted[who], "a refund is said to be done and is not:", reply)
            line = self.oracle.ledger(who).lines[number - 1]
            is_it = (line.refunds, line.refunded) == (purchase, report.in_all)
            require(is_it, "answered with another refund:", report, line)
            right = answers.refunded(who, self.oracle.ledger(who), number)
            require(reply.json == right, "the answer is", reply.json, "and should be", right)
            is_replayed = reply.headers.get("idempotency-replayed") == "true"
            is_new = number > self.oracle.lines_before.get(who, 0)
            require(is_replayed or is_new, "a repeated report was not told so:", reply)
            possible = [*self._replays(report, who, purchase)]
            is_right = is_new or number in possible
            require(is_right, "another report's refund is answered:", report, line, possible)

        return judge

    def _replays(self, report: Report, who: str, purchase: int) -> Iterator[int]:
        """The refunds that a report can repeat, as things were at some moment of the step."""
        for ledger in self.oracle.visited(who):
            if purchase > len(ledger.lines):
                continue
            try:
                line = report.line(ledger, purchase, self.world.clock)
            except (Outdated, Forbidden):
                continue
            if line is None:
                yield max(n for n, it in enumerate(ledger.lines, 1) if it.refunds == purchase)

    def _refusals(self, report: Report, who: str, purchase: int) -> Iterator[tuple[int, str]]:
        """Why a report is refused, as things are, or were at some moment of the step."""
        if not purchase or purchase > self.oracle.lines_before.get(who, 0):
            yield 404, "not_found"
        ledgers: list[Ledger] = [*self.oracle.visited(who)] if purchase else []
        for ledger in ledgers:
            if purchase > len(ledger.lines):
                continue
            try:
                report.line(ledger, purchase, self.world.clock)
            except Outdated:
                yield 422, "outdated_edit"
            except Forbidden:
                yield 422, "not_allowed"


def _is_of_stripe(operation: str) -> bool:
    """Whether a purchase is one that Stripe tells of by itself: see `paying`."""
    return "_stripe_" in operation


def judge_later(
    judge: Callable[[Reply | None, Troubles, Counter[str]], None],
    reply: Reply,
    posted: Counter[str],
) -> Callable[[], None]:
    """The judgement of an answer, once the step's lines are known."""
    return lambda: judge(reply, CALM, posted)
