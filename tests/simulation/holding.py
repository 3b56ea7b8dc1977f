"""What happens to holds: they are opened, captured, released and left to lapse, and raced for.

A hold ends once. Who ends it in the same way again is answered as the first time; who ends
it otherwise is told how it ended.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.simulation import answers, reference
from tests.simulation.drawn import Drawn, amounts, keys, offsets, places, trouble, troubles
from tests.simulation.faults import Troubles
from tests.simulation.life import ADMIN, CALM, MILLISECOND, SHOP, Life
from tests.simulation.oracle import Intent
from tests.simulation.reference import Forbidden, Hold, Ledger, Over, Short, require, show
from tests.simulation.world import Reply

Json = dict[str, Any]

HOUR = 60 * 60
DAY = 24 * HOUR

lengths = st.sampled_from((1, 60, HOUR, HOUR, DAY, 3 * DAY, 30 * DAY))
"""For how many seconds credits are held."""

callers = st.sampled_from((SHOP, SHOP, ADMIN))

ways = st.sampled_from(
    (
        *("release", "release", "one", "some", "some", "all"),
        *("beyond", "beyond all", "too much", "far too much"),
    )
)
"""How a hold is ended: see `Holding.end_of`."""


class Holding(Life):
    """The rules of holds."""

    # --- Rules ------------------------------------------------------------------------------------

    @rule(who=places, amount=amounts, key=keys, seconds=lengths, caller=callers, drawn=troubles)
    def hold(
        self, who: int, amount: int, key: str, seconds: int, caller: Json, drawn: Drawn
    ) -> None:
        self._hold(self.user(who), amount, seconds, key, drawn, caller)

    @rule(
        who=places,
        more=st.sampled_from((0, 0, 1, -1, -10)),
        key=keys,
        seconds=lengths,
        drawn=troubles,
    )
    def hold_all(self, who: int, more: int, key: str, seconds: int, drawn: Drawn) -> None:
        """All there is is held, or nearly all, or one more."""
        user = self.user(who)
        amount = self._available(user) + more
        if amount > 0:
            self._hold(user, amount, seconds, key, drawn)

    @rule(who=places, place=st.integers(0, 5), way=ways, caller=callers, drawn=troubles)
    def end_a_hold(self, who: int, place: int, way: str, caller: Json, drawn: Drawn) -> None:
        user = self.user(who)
        self._end(user, self._a_hold(user, place), way, drawn, caller)

    @rule(who=places, place=st.integers(0, 2), number=st.integers(1, 40), drawn=troubles)
    def end_what_is_no_hold(self, who: int, place: int, number: int, drawn: Drawn) -> None:
        """Another line, or one that is not there."""
        user = self.user(who)
        self._end(user, number + place, "some", drawn)

    @rule(who=places, place=st.integers(0, 5), drawn=troubles)
    def end_again(self, who: int, place: int, drawn: Drawn) -> None:
        """Somebody who is not sure that a hold has ended ends it in the same way again."""
        ends = [end for asked in self.oracle.ends.values() for end in asked]
        if ends:
            end = ends[-1 - (place + who) % len(ends)]
            words = f"{end.operation} is asked for again, with {end.amount}"
            with self.step(words, drawn, "end") as troubles:
                self._perform_end(end, SHOP if place % 2 else ADMIN, troubles)

    @rule(place=st.integers(0, 9), more=st.sampled_from((0, 0, 1)), drawn=troubles)
    def hold_again(self, place: int, more: int, drawn: Drawn) -> None:
        """The same hold under the same key, or another one under it."""
        asked = [each for each in self.oracle.intents.values() if each.kind == "hold"]
        if asked:
            intent = asked[-1 - place % len(asked)]
            _, name, key = intent.operation.split("#")
            caller = ADMIN if name == "admin" else SHOP
            amount = (intent.amount or 0) + more
            self._hold(intent.user_id, amount, intent.seconds, key, drawn, caller)

    @rule(
        who=places,
        place=st.integers(0, 5),
        ways=st.tuples(ways, ways),
        first=trouble,
        drawn=troubles,
    )
    def story_of_two_ends(
        self, who: int, place: int, ways: tuple[str, str], first: Drawn, drawn: Drawn
    ) -> None:
        """Two ask for the end of one hold, each in their way, and the first asks again."""
        user = self.user(who)
        if not self.oracle.ledger(user).active(self.world.clock):
            self._hold_some(user, f"two-{self._new(user)}", HOUR)
        number = self._a_hold(user, place)
        ends = [self.end_of(user, number, way) for way in ways]
        for end, caller, troubles_drawn in (
            *((ends[0], SHOP, first), (ends[1], ADMIN, drawn)),
            *((ends[0], ADMIN, []), (ends[1], SHOP, [])),
        ):
            words = f"hold {number} of {user} is ended: {end.text}"
            with self.step(words, troubles_drawn, "end") as troubles:
                self._perform_end(end, caller, troubles)

    @rule(who=places, way=ways, seconds=lengths, offset=offsets, drawn=troubles)
    def story_of_a_lapse(self, who: int, way: str, seconds: int, offset: int, drawn: Drawn) -> None:
        """The clock goes to the end of a hold, to the millisecond, and somebody ends it."""
        user = self.user(who)
        hold = self._hold_some(user, f"lapse-{self._new(user)}", seconds)
        if hold:
            self.go_to(hold.ends_at + offset * MILLISECOND, f"hold {hold.number} of {user} lapses")
            self._end(user, hold.number, way, drawn)
            self._use_all(user, f"lapsed-{self._new(user)}")
            self._read(user, [])

    @rule(
        who=places,
        days=st.integers(1, 3),
        later=st.sampled_from((0, 0, 9)),
        way=st.none() | ways,
        offset=offsets,
        is_swept=st.booleans(),
        before=troubles,
        drawn=trouble,
    )
    def story_of_a_hold_that_outlives_its_batch(
        self,
        who: int,
        days: int,
        later: int,
        way: str | None,
        offset: int,
        is_swept: bool,  # noqa: FBT001
        before: Drawn,
        drawn: Drawn,
    ) -> None:
        """Credits die while they are held; the hold ends or lapses; what is free is booked out.

        If that is so many days ``later`` that the credits' own midnight is swept no more, the end
        of the hold has to call for it.
        """
        user = self.user(who)
        self._grant_for_days(user, days)
        hold = self._hold_some(user, f"outlives-{self._new(user)}", (days + later + 2) * DAY)
        if hold is None:
            return
        ends = [(g.expires_at, g) for g in self._batches_of(user, hold) if g.expires_at]
        end, grant = min(ends, key=lambda pair: (pair[0], pair[1].number), default=(None, None))
        if end is None or grant is None:
            return
        self.go_to(end + offset * MILLISECOND, f"a batch of hold {hold.number} of {user} expires")
        if is_swept:
            self._sweep(end, grant.timezone, before)
        self._use_all(user, f"beside-{self._new(user)}")
        self.go_to(self.world.now + later * reference.DAY, f"{later} days pass")
        if way:
            self._end(user, hold.number, way, drawn)
        else:
            self.go_to(hold.ends_at + offset * MILLISECOND, f"hold {hold.number} lapses")
        self._use_all(user, f"outlived-{self._new(user)}")
        timezone = hold.timezone or grant.timezone
        midnight = reference.next_midnight(timezone, self.world.clock)
        self.go_to(midnight + MILLISECOND, "a day begins")
        self._sweep(midnight, timezone, drawn)
        self._read(user, [])

    @rule(who=places, early=st.sampled_from((0, 0, 1, -1)), is_batch=st.booleans(), drawn=trouble)
    def story_of_a_hold_that_lapses_at_a_midnight(
        self,
        who: int,
        early: int,
        is_batch: bool,  # noqa: FBT001
        drawn: Drawn,
    ) -> None:
        """It is the midnight at which a batch of it expires, or just the next one."""
        user = self.user(who)
        self._grant_for_days(user, 1)
        timezone = self.oracle.subscription(user).timezone
        midnight = reference.next_midnight(timezone, self.world.clock + timedelta(seconds=3))
        alive = self.oracle.ledger(user).alive(self.world.clock)
        ends = [grant.expires_at for grant in alive if grant.expires_at]
        if is_batch and ends:
            midnight = min(ends)
        ledger = self.oracle.ledger(user)
        seconds = round((midnight - ledger.time(self.world.clock)).total_seconds()) - early
        if not 1 <= seconds <= 30 * DAY:
            return
        hold = self._hold_some(user, f"midnight-{self._new(user)}", seconds)
        if hold:
            self.go_to(midnight, f"hold {hold.number} of {user} lapses at a midnight or so")
            self._sweep(midnight, timezone, drawn)
            self._end(user, hold.number, "some", [])
            self._use_all(user, f"after-midnight-{self._new(user)}")
            self.go_to(midnight + reference.DAY, "a day later")
            self._sweep(midnight + reference.DAY, timezone, [])

    @rule(who=places, days=st.sampled_from((2, 10)), drawn=troubles)
    def story_of_a_reminder(self, who: int, days: int, drawn: Drawn) -> None:
        """Credits expire soon; what is held for longer does not expire with them."""
        user = self.user(who)
        self._grant_for_days(user, 4)
        self._hold_some(user, f"reminder-{self._new(user)}", days * DAY)
        grants = [g for g in self.oracle.ledger(user).grants.values() if g.expires_at]
        grant = grants[-1]
        assert grant.expires_at
        day = reference.local_day(grant.timezone, grant.expires_at) - 3 * reference.DAY
        midnight = reference.midnight(grant.timezone, day)
        self.go_to(midnight, f"batch {grant.number} of {user} expires soon")
        self._sweep(midnight, grant.timezone, [])
        while messages := self.world.waiting("notifications")[:10]:
            self.send_now(messages, drawn)
            drawn = []

    @rule(who=places, drawn=troubles)
    def read_holds(self, who: int, drawn: Drawn) -> None:
        self._read(self.user(who), drawn)

    # --- What they are made of --------------------------------------------------------------------

    def _available(self, user: str) -> int:
        ledger = self.oracle.ledger(user)
        return ledger.available(ledger.time(self.world.clock))

    def _new(self, user: str) -> str:
        """A key that nobody has used: it has a number that no line of a user has yet."""
        return f"{user}-{len(self.oracle.ledger(user).lines) + 1}"

    def _opened(self, user: str) -> list[Hold]:
        return [line.opens for line in self.oracle.ledger(user).lines if line.opens]

    def _a_hold(self, user: str, place: int) -> int:
        """One of the last holds of a user, ended or not; the first line of who has none."""
        opened = self._opened(user)
        return opened[-1 - place % len(opened)].number if opened else 1

    def _batches_of(self, user: str, hold: Hold) -> list[reference.Grant]:
        return [self.oracle.ledger(user).grants[batch] for batch, _ in hold.legs]

    def _hold(
        self,
        user: str,
        amount: int,
        seconds: int,
        key: str,
        drawn: Drawn,
        caller: Json = SHOP,
    ) -> None:
        words = f"{amount} credits of {user} are held for {seconds} seconds, key {key}"
        words += f", says the {caller['caller']}"
        with self.step(words, drawn, "hold") as troubles:
            self.perform(*self.hold_of(user, amount, seconds, key, caller), troubles)

    def _hold_some(self, user: str, key: str, seconds: int) -> Hold | None:
        """Holds most of what there is, and nothing goes wrong; None where there is nothing."""
        available = self._available(user)
        if not available:
            return None
        self._hold(user, max(1, available - 7), seconds, key, [])
        return self.oracle.ledger(user).lines[-1].opens

    def _grant_for_days(self, user: str, days: int) -> None:
        key = f"for-days-{self._new(user)}"
        with self.step(f"{user} is granted 60 credits for {days} days, key {key}") as troubles:
            asked = self.by_hand(user, 60, days, key, silent=False, by_lambda=False)
            self.perform(*asked, troubles)

    def _use_all(self, user: str, key: str) -> None:
        """All that is free is used, and one more is not."""
        for more in (1, 0):
            amount = self._available(user) + more
            if amount:
                with self.step(f"{user} uses {amount} credits, {more:+} of all") as troubles:
                    asked = self.use_of(user, amount, f"{key}-{more}", own=False)
                    self.perform(*asked, troubles)

    def _sweep(self, midnight: datetime, timezone: str, drawn: Drawn) -> None:
        self.start("expiry", midnight, (timezone,), [])
        self.deliver_all("sweeps", [])
        self.deliver_all("expiries", drawn)

    def _read(self, user: str, drawn: Drawn) -> None:
        def right() -> Iterator[Json]:
            for ledger in self.oracle.visited(user):
                yield answers.holds(user, ledger, ledger.time(self.world.clock))

        words = f"the holds of {user} are read"
        self.read(words, "/api/credits/holds", {"user_id": user}, drawn, right)

    # --- Ends -------------------------------------------------------------------------------------

    def end_of(self, user: str, number: int, way: str) -> Intent:
        """An end of a hold: what is wanted."""
        lines = self.oracle.ledger(user).lines
        hold = lines[number - 1].opens if number <= len(lines) else None
        held = hold.amount if hold else 10
        free = self._available(user)
        amount = {
            "release": 0,
            "one": 1,
            "some": max(1, held * 2 // 3),
            "all": held,
            "beyond": held + 1,
            "beyond all": held + free,
            "too much": held + 1,
            "far too much": held + free + 1,
        }[way]
        beyond = way in ("beyond", "beyond all", "far too much")
        text = f"{amount} of it or beyond" if beyond else f"{amount} of it"
        if not amount:
            text = f"Release of hold {user}-{number}"
        operation = f"end#{user}-{number}"
        return Intent(operation, user, "end", amount, text, usage=number, beyond=beyond)

    def _end(self, user: str, number: int, way: str, drawn: Drawn, caller: Json = SHOP) -> None:
        end = self.end_of(user, number, way)
        words = f"hold {number} of {user} is ended by the {caller['caller']}: {way}, {end.amount}"
        with self.step(words, drawn, "end") as troubles:
            self._perform_end(end, caller, troubles)

    def _sender(self, end: Intent, caller: Json) -> Callable[[], Reply]:
        path = f"/api/credits/holds/{end.user_id}-{end.usage}"
        if not end.amount:
            return lambda: self.world.call("POST", f"{path}/release", caller, {})
        body: Json = {"amount": end.amount, "description": end.text}
        body |= {"beyond_hold": True} if end.beyond else {}
        return lambda: self.world.call("POST", f"{path}/capture", caller, body)

    def _perform_end(self, end: Intent, caller: Json, troubles: Troubles) -> None:
        judge, send = self._asked(end), self._sender(end, caller)

        def again() -> None:
            reply, posted = send(), self.oracle.posted()
            self.later.append(lambda: judge(reply, CALM, posted))

        judge(self.attempt(troubles, send, again), troubles, self.oracle.posted())

    def end_meanwhile(self, who: str, amount: int) -> str:
        """Another process ends the newest hold there is of somebody, one way or the other."""
        # Lines of this very step are not known yet: a hold is raced for once it is there.
        number = self._a_hold(who, 0)
        way = ("release", "one", "some", "all", "beyond")[amount % 5]
        end = self.end_of(who, number, way)
        judge = self._asked(end)
        reply, posted = self._sender(end, ADMIN)(), self.oracle.posted()
        self.later.append(lambda: judge(reply, CALM, posted))
        return f"the end of hold {number} of {who}: {way}"

    def _asked(self, end: Intent) -> Callable[[Reply | None, Troubles, Counter[str]], None]:
        """An end is about to be asked for; what judges the answer."""
        was_performed = end.operation in self.oracle.performed
        asked = self.oracle.ends.setdefault(end.operation, [])
        if not was_performed and end not in asked:
            asked.append(end)

        def judge(reply: Reply | None, troubles: Troubles, posted: Counter[str]) -> None:
            if reply is None or reply.status in (409, 503):
                require(not troubles.is_absorbed, "failed for no reason:", reply, end)
                return
            performed = self.oracle.performed.get(end.operation)
            known = self.oracle.intents.get(end.operation)
            if reply.status == 200:
                require(performed is not None, "said to be done, and is not:", end, reply)
                require(known == end, "answered with another end of the hold:", end, known)
                assert performed is not None
                self._end_answered(end, reply, performed[1], was_performed=was_performed)
                return
            is_later = performed is not None and performed[1] > posted[performed[0]]
            require(
                performed is None or known != end or is_later,
                *("done, and refused all the same:", end, reply),
            )
            self._end_refused(end, reply)

        return judge

    def _end_answered(self, end: Intent, reply: Reply, number: int, *, was_performed: bool) -> None:
        who = end.user_id
        ledger = self.oracle.ledger(who).until(number)
        line = ledger.lines[-1]
        right = {
            "success": True,
            "transaction_id": f"{who}-{number}",
            "new_balance": ledger.available(line.posted_at),
            **answers.ended(who, line),
        }
        require(reply.json == right, "the answer is", reply.json, "and should be", right)
        if was_performed:
            replayed = reply.headers.get("idempotency-replayed")
            require(replayed == "true", "a repeated end was not told so:", reply)

    def _end_refused(self, end: Intent, reply: Reply) -> None:
        reasons: list[Json] = []
        for ledger in self.oracle.visited(end.user_id):
            reasons += self._reasons(end, ledger)
        names = {name for reason in reasons for name in reason} | {"status"}
        found = {"status": reply.status, **reply.json}
        require(
            any(all(found.get(n) == reason.get(n) for n in names) for reason in reasons),
            *("a hold was not ended, for no reason:", end, reply, reasons),
        )

    def _reasons(self, end: Intent, ledger: Ledger) -> Iterator[Json]:
        """Why a hold is not ended, as things are."""
        number, lines = end.usage, ledger.lines
        hold = lines[number - 1].opens if number <= len(lines) else None
        if hold is None:
            yield {"status": 404, "code": "not_found"}
            return
        for place, line in enumerate(lines, 1):
            if line.ends == number:
                how = "captured" if line.type == "usage" else "released"
                yield _told_of_end(how, line.posted_at, f"{end.user_id}-{place}")
                return
        try:
            end.line(ledger, "", self.world.clock)
        except Over:
            yield _told_of_end("lapsed", hold.ends_at, None)
        except Forbidden:
            yield {"status": 422, "code": "not_allowed"}
        except Short as short:
            yield {
                "status": 402,
                "code": "insufficient_credits",
                "available_balance": short.available,
            }


def _told_of_end(how: str, at: datetime, by: str | None) -> Json:
    return {
        "status": 410,
        "code": "hold_ended",
        "ended": how,
        "ended_at": show(at),
        "transaction_id": by,
    }
