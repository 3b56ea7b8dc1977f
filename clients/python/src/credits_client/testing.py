"""Fakes of the clients, for your own tests: no network, no server, the same interface.

>>> from datetime import timedelta
>>> credits = FakeCredits()
>>> credits.grant("42", 100)
>>> with credits.hold("42", 50, key="job-7") as hold:
...     hold.capture(31).new_balance
69

A fake is a client whose API is in memory: it sends and reads the same requests and answers, so your
code meets the same classes and errors. It keeps batches by priority and age, their expiry, holds,
idempotency keys and the history. It refuses everything else with `NotInTheFake`: plans, payments,
subscriptions, adjustments and reversals. Nothing is swept, so an expired batch stays in
``ledger_balance``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import httpx

from .client import AsyncCredits, Credits

__all__ = ["AsyncFakeCredits", "Books", "FakeCredits", "NotInTheFake"]

Json = dict[str, Any]
Legs = list[tuple[int, int]]
"""How much each batch moves; for a hold, how much of each batch it sets aside."""

MOST = 1_000_000_000
DEFAULT_SECONDS = 3600


class NotInTheFake(NotImplementedError):
    """The fake does not know this route or field. Not a `CreditsError`, so nothing catches it."""


@dataclass
class _Batch:
    number: int
    granted: int
    remaining: int
    granted_at: datetime
    expires_at: datetime | None
    priority: int
    source: str

    def is_usable(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


@dataclass
class _Hold:
    number: int
    legs: Legs
    expires_at: datetime
    line: Json

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.legs)


@dataclass
class _Done:
    """A finished request, by its key: its content and its result."""

    asked: Json
    line: Json
    balance: int


@dataclass
class _Account:
    user_id: str
    batches: list[_Batch] = field(default_factory=list)
    holds: dict[int, _Hold] = field(default_factory=dict)
    """All holds not ended by a request, including lapsed ones."""
    lines: list[Json] = field(default_factory=list)

    def active(self, now: datetime) -> list[_Hold]:
        return [hold for hold in self.holds.values() if now < hold.expires_at]

    def held(self, batch: int, now: datetime) -> int:
        legs = [leg for hold in self.active(now) for leg in hold.legs]
        return sum(amount for number, amount in legs if number == batch)

    def spendable(self, now: datetime) -> Legs:
        found = [
            (batch.number, batch.remaining - self.held(batch.number, now))
            for batch in self.batches
            if batch.is_usable(now)
        ]
        return [(number, amount) for number, amount in found if amount > 0]

    def available(self, now: datetime) -> int:
        return sum(amount for _, amount in self.spendable(now))

    def move(self, legs: Legs) -> None:
        by_number = {batch.number: batch for batch in self.batches}
        for number, amount in legs:
            by_number[number].remaining += amount
        self.batches = [batch for batch in self.batches if batch.remaining]

    def post(self, now: datetime, kind: str, description: str, **more: Any) -> Json:
        """Adds a line to the history."""
        legs: Legs = more.pop("legs", [])
        self.move(legs)
        line: Json = {
            "transaction_id": f"{self.user_id}-{len(self.lines) + 1}",
            "type": kind,
            "amount": sum(amount for _, amount in legs),
            "balance_after": sum(batch.remaining for batch in self.batches),
            "description": description,
            "actor": "fake",
            "effective_at": _instant(now),
            "posted_at": _instant(now),
            "allocation_period": None,
            "batches": self._moves(legs),
            **dict.fromkeys(("hold_id", "held_amount", "released_amount", "payment_id", "price")),
            **dict.fromkeys(("refunded_amount", "unrecovered_amount")),
            **dict.fromkeys(("left_out_amount", "balance_cap")),
            "metadata": {},
            "items": [],
            **{name: value for name, value in more.items() if value is not None},
        }
        self.lines.append(line)
        return line

    def grant(self, batch: _Batch, description: str) -> None:
        self.batches.append(batch)
        self.batches.sort(key=lambda each: (each.priority, each.granted_at, each.number))
        line = self.post(batch.granted_at, "manual", description)
        line["amount"] = batch.granted
        line["batches"] = self._moves([(batch.number, batch.granted)])

    def _moves(self, legs: Legs) -> list[Json]:
        return [{"batch_id": f"{self.user_id}-{number}", "amount": n} for number, n in legs]


class _Refused(Exception):
    def __init__(self, status: int, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status, self.code, self.more = status, code, more


def _wrong(name: str, message: str) -> _Refused:
    errors = [{"field": name, "message": message}]
    return _Refused(400, "invalid_input", f"{name}: {message}", errors=errors)


class Books:
    """The state of a fake's API; several fakes can share it. ``clock`` returns an aware time."""

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock or (lambda: datetime.now(timezone.utc))
        self._passed = timedelta(0)
        self._accounts: dict[str, _Account] = {}
        self._done: dict[str, _Done] = {}
        self._expiries: dict[str, datetime] = {}
        self._lock = threading.Lock()
        self.is_down = False

    @property
    def now(self) -> datetime:
        """The time, to the millisecond."""
        now = (self._clock() + self._passed).astimezone(timezone.utc)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def pass_time(self, span: timedelta) -> None:
        """Lets time pass: batches expire, holds lapse."""
        self._passed += span

    def grant(
        self,
        user_id: str | int,
        amount: int,
        *,
        expires_at: datetime | None = None,
        priority: int = 50,
        source: str = "adjustment",
        description: str = "Granted",
    ) -> None:
        """Grants a user credits, and makes the user known; ``expires_at`` is exclusive."""
        account = self._accounts.setdefault(str(user_id), _Account(str(user_id)))
        if not 1 <= amount <= MOST:
            raise ValueError(f"amount must be from 1 to {MOST}")
        number = len(account.lines) + 1
        batch = _Batch(number, amount, amount, self.now, expires_at, priority, source)
        account.grant(batch, description)

    def add_user(self, user_id: str | int) -> None:
        """Makes a user without credits known."""
        self._accounts.setdefault(str(user_id), _Account(str(user_id)))

    # --- The API ----------------------------------------------------------------------------------

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The API's answer. Raises `NotInTheFake` for what only the real API knows."""
        if self.is_down:
            raise httpx.ConnectError("the fake is down", request=request)
        path = request.url.raw_path.decode().partition("?")[0]
        with self._lock:
            try:
                body, replayed = self._routed(request, path)
            except _Refused as refusal:
                return httpx.Response(
                    refusal.status,
                    json={
                        "type": f"urn:credits:problem:{refusal.code}",
                        "title": refusal.code.replace("_", " "),
                        "status": refusal.status,
                        "detail": str(refusal),
                        "code": refusal.code,
                        "errors": [],
                        "request_id": "fake",
                        **refusal.more,
                    },
                )
        return httpx.Response(
            200, json=body, headers={"Idempotency-Replayed": "true"} if replayed else {}
        )

    def _routed(self, request: httpx.Request, path: str) -> tuple[Json, bool]:
        for method, pattern, fields, answer in self._routes():
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                unknown = _given(request) - set(fields.split())
                if unknown:
                    raise NotInTheFake(
                        f"the fake does not know {', '.join(sorted(unknown))} of {method} {path}: "
                        "test this against a local stack"
                    )
                name = unquote(next(iter(match.groups()), ""))
                return answer(name, request)
        raise NotInTheFake(
            f"the fake does not know {request.method} {path}: test this against a local stack"
        )

    def _routes(
        self,
    ) -> Iterable[tuple[str, str, str, Callable[[str, httpx.Request], tuple[Json, bool]]]]:
        """Method, path, the known fields, and the function that answers."""
        item = "amount description metadata"
        one = "/api/credits/holds/([^/]+)"
        yield "GET", "/api/health", "", lambda *_: ({"status": "ok", "version": "fake"}, False)
        yield "GET", "/api/credits/balance", "user_id", self._balance
        yield "GET", "/api/credits/holds", "user_id", self._holds
        yield "GET", "/api/credits/history", "user_id type limit cursor metadata", self._history
        yield "GET", "/api/credits/transactions/([^/]+)", "", self._transaction
        yield "POST", "/api/credits/use", f"user_id {item}", self._use
        yield "POST", "/api/credits/use-many", "user_id items", self._use_many
        yield "POST", "/api/credits/holds", f"user_id {item} expires_in_seconds", self._hold
        yield "POST", f"{one}/capture", f"{item} beyond_hold", self._capture
        yield "POST", f"{one}/release", "", self._release

    def _balance(self, _: str, request: httpx.Request) -> tuple[Json, bool]:
        account, now = self._asked(request), self.now
        active = account.active(now)
        body = {
            "available_balance": account.available(now),
            "held_balance": sum(hold.amount for hold in active),
            "ledger_balance": sum(batch.remaining for batch in account.batches),
            "as_of": _instant(now),
            "batches": [
                {
                    "batch_id": f"{account.user_id}-{batch.number}",
                    "granted_amount": batch.granted,
                    "remaining_amount": batch.remaining,
                    "granted_at": _instant(batch.granted_at),
                    "expires_at": batch.expires_at and _instant(batch.expires_at),
                    "held_amount": account.held(batch.number, now),
                    "priority": batch.priority,
                    "source": batch.source,
                }
                for batch in account.batches
            ],
            "holds": [
                {name: hold[name] for name in ("hold_id", "amount", "expires_at")}
                for hold in self._active(account, now)
            ],
        }
        return body, False

    def _holds(self, _: str, request: httpx.Request) -> tuple[Json, bool]:
        return {"holds": self._active(self._asked(request), self.now)}, False

    @staticmethod
    def _active(account: _Account, now: datetime) -> list[Json]:
        return [
            {
                "hold_id": f"{account.user_id}-{hold.number}",
                "amount": hold.amount,
                "description": hold.line["description"],
                "held_at": hold.line["posted_at"],
                "expires_at": _instant(hold.expires_at),
                "metadata": hold.line["metadata"],
            }
            for hold in account.active(now)
        ]

    def _history(self, _: str, request: httpx.Request) -> tuple[Json, bool]:
        asked = dict(request.url.params)
        account = self._asked(request)
        wanted = {
            name.removeprefix("metadata."): value
            for name, value in asked.items()
            if name.startswith("metadata.")
        }
        lines = [
            line
            for line in reversed(account.lines)
            if asked.get("type", line["type"]) == line["type"]
            and wanted.items() <= line["metadata"].items()
        ]
        begin, limit = int(asked.get("cursor", 0)), int(asked.get("limit", 20))
        page = [{**line} for line in lines[begin : begin + limit]]
        for line in page:
            del line["items"]
        has_more = len(lines) > begin + limit
        return {"items": page, "next_cursor": str(begin + limit) if has_more else None}, False

    def _transaction(self, name: str, _: httpx.Request) -> tuple[Json, bool]:
        user_id = name.rpartition("-")[0]
        lines = self._accounts[user_id].lines if user_id in self._accounts else []
        for line in lines:
            if line["transaction_id"] == name:
                return line, False
        raise _Refused(404, "not_found", f"there is no transaction '{name}'")

    def _use(self, _: str, request: httpx.Request) -> tuple[Json, bool]:
        body = json.loads(request.content)
        asked = _item(body, "")
        account = self._account(body)

        def do(now: datetime) -> Json:
            legs = self._covered(account, asked["amount"], now)
            text, metadata = asked["description"], asked["metadata"]
            return account.post(now, "usage", text, legs=legs, metadata=metadata)

        key = f"usage#{request.headers['Idempotency-Key']}"
        asked["user_id"] = account.user_id
        done, replayed = self._once(key, account, asked, do)
        return {**_performed(done), "batches": done.line["batches"]}, replayed

    def _use_many(self, _: str, request: httpx.Request) -> tuple[Json, bool]:
        body = json.loads(request.content)
        account, now = self._account(body), self.now
        items = {
            f"usage#{item['key']}": _item(item, f"items[{place}].")
            for place, item in enumerate(body["items"])
        }
        already, new = [], {}
        for key, item in items.items():
            asked = {**item, "user_id": account.user_id}
            known = self._known(key, asked)
            if known is None:
                new[key] = asked
            else:
                name = known.line["transaction_id"]
                already.append({"key": key.partition("#")[2], "transaction_id": name})
        amount = sum(asked["amount"] for asked in new.values())
        line: Json = {"transaction_id": None}
        if new:
            text = next(iter(new.values()))["description"]
            more = f" and {len(new) - 1} more" if len(new) > 1 else ""
            booked = [
                {"key": key.partition("#")[2], **{name: asked[name] for name in _ITEM}}
                for key, asked in new.items()
            ]
            legs = self._covered(account, amount, now)
            line = account.post(now, "usage", text + more, legs=legs, items=booked)
            for key, asked in new.items():
                self._done[key] = _Done(asked, line, account.available(now))
        answer = {
            "success": True,
            "transaction_id": line["transaction_id"],
            "amount": amount,
            "new_balance": account.available(now),
            "charged": [key.partition("#")[2] for key in new],
            "already_charged": already,
        }
        return answer, not new

    def _hold(self, _: str, request: httpx.Request) -> tuple[Json, bool]:
        body = json.loads(request.content)
        asked = _item(body, "")
        account = self._account(body)
        seconds = body.get("expires_in_seconds", DEFAULT_SECONDS)
        if not isinstance(seconds, int) or not 1 <= seconds <= 30 * 24 * 3600:
            message = f"must be a whole number of seconds from 1 to 2,592,000; is {seconds}"
            raise _wrong("expires_in_seconds", message)

        def do(now: datetime) -> Json:
            if len(account.active(now)) >= 100:
                raise _Refused(422, "not_allowed", "the user already has 100 active holds")
            legs = [(n, -amount) for n, amount in self._covered(account, asked["amount"], now)]
            line = account.post(now, "hold", asked["description"], metadata=asked["metadata"])
            line["hold_id"], line["held_amount"] = line["transaction_id"], asked["amount"]
            number = len(account.lines)
            expires_at = now + timedelta(seconds=seconds)
            account.holds[number] = _Hold(number, legs, expires_at, line)
            self._expiries[line["hold_id"]] = expires_at
            return line

        key = f"hold#{request.headers['Idempotency-Key']}"
        asked |= {"user_id": account.user_id, "expires_in_seconds": seconds}
        done, replayed = self._once(key, account, asked, do)
        hold_id = done.line["hold_id"]
        answer = {
            **_performed(done),
            "hold_id": hold_id,
            "amount": done.line["held_amount"],
            "expires_at": _instant(self._expiries[hold_id]),
        }
        return answer, replayed

    def _capture(self, hold_id: str, request: httpx.Request) -> tuple[Json, bool]:
        body = json.loads(request.content)
        _check_amount("amount", body.get("amount"), least=0)
        done, replayed = self._ended(hold_id, body)
        line = done.line
        return {
            **_performed(done),
            "captured": -line["amount"],
            "released": line["released_amount"],
            "batches": line["batches"],
        }, replayed

    def _release(self, hold_id: str, _: httpx.Request) -> tuple[Json, bool]:
        done, replayed = self._ended(hold_id, {"amount": 0})
        return {**_performed(done), "released": done.line["released_amount"]}, replayed

    # --- Shared by the routes ---------------------------------------------------------------------

    def _ended(self, hold_id: str, asked: Json) -> tuple[_Done, bool]:
        """Ends a hold, once: all its ends have one key."""
        user_id, _, number = hold_id.rpartition("-")
        account = self._accounts.get(user_id)
        if account is None or hold_id not in self._expiries:
            raise _Refused(404, "not_found", f"there is no hold '{hold_id}'")
        before = self._done.get(f"end#{hold_id}")
        if before and before.asked != asked:
            how = "released" if before.line["type"] == "release" else "captured"
            at, name = before.line["posted_at"], before.line["transaction_id"]
            raise _hold_ended(how, at, name)
        amount = asked["amount"]

        def do(now: datetime) -> Json:
            hold = account.holds[int(number)]
            if now >= hold.expires_at:
                raise _hold_ended("lapsed", _instant(hold.expires_at), None)
            taken = _taken(hold.legs, min(amount, hold.amount))
            beyond = amount - hold.amount
            if beyond > 0:
                if not asked.get("beyond_hold"):
                    detail = f"the hold holds {hold.amount} credits, and {amount} are captured"
                    raise _Refused(422, "not_allowed", f"{detail}; say beyond_hold")
                spendable = account.available(now)
                if beyond > spendable:
                    raise _insufficient(amount, hold.amount + spendable)
                taken = _together(taken + _taken(account.spendable(now), beyond))
            del account.holds[int(number)]
            what = "Capture" if amount else "Release"
            return account.post(
                now,
                "usage" if amount else "release",
                asked.get("description") or f"{what} of hold {hold_id}",
                legs=taken,
                hold_id=hold_id,
                released_amount=max(hold.amount - amount, 0),
                metadata=asked.get("metadata"),
            )

        return self._once(f"end#{hold_id}", account, asked, do)

    def _once(
        self, key: str, account: _Account, asked: Json, do: Callable[[datetime], Json]
    ) -> tuple[_Done, bool]:
        """Does what was not done before under this key; otherwise returns the former result."""
        known = self._known(key, asked)
        if known is not None:
            return known, True
        now = self.now
        line = do(now)
        self._done[key] = _Done(asked, line, account.available(now))
        return self._done[key], False

    def _known(self, key: str, asked: Json) -> _Done | None:
        known = self._done.get(key)
        if known is not None and known.asked != asked:
            detail = "the idempotency key was already used for a different request"
            raise _Refused(422, "idempotency_key_reused", detail)
        return known

    def _asked(self, request: httpx.Request) -> _Account:
        return self._account(dict(request.url.params))

    def _account(self, named: Mapping[str, object]) -> _Account:
        if "user_id" not in named:
            raise _wrong("user_id", "is required: the token stands for no user")
        user_id = str(named["user_id"])
        if user_id not in self._accounts:
            raise _Refused(404, "not_found", f"there is no user {user_id}")
        return self._accounts[user_id]

    @staticmethod
    def _covered(account: _Account, amount: int, now: datetime) -> Legs:
        available = account.available(now)
        if amount > available:
            raise _insufficient(amount, available)
        return _taken(account.spendable(now), amount)


_ITEM = ("amount", "description", "metadata")


def _given(request: httpx.Request) -> set[str]:
    """The fields of a request with a meaning: null and false count as left out."""
    body = json.loads(request.content or b"{}")
    said = {name for name, value in body.items() if value is not None and value is not False}
    return said | {name.partition(".")[0] for name in request.url.params}


def _item(body: Mapping[str, Any], where: str) -> Json:
    """The checked content of a usage or a hold."""
    _check_amount(f"{where}amount", body.get("amount"), least=1)
    text = body.get("description")
    if not isinstance(text, str) or not text.strip() or len(text) > 500:
        raise _wrong(f"{where}description", "must be a text that is not blank, of at most 500")
    return {
        "amount": body["amount"],
        "description": text.strip(),
        "metadata": body.get("metadata") or {},
    }


def _check_amount(name: str, value: object, least: int) -> None:
    if type(value) is not int or not least <= value <= MOST:
        raise _wrong(name, f"must be a whole number from {least} to {MOST:,}; is {value!r}")


def _taken(legs: Legs, amount: int) -> Legs:
    """The legs that take an amount, in this order."""
    found: Legs = []
    for number, there in legs:
        part = min(there, amount)
        amount -= part
        if part:
            found.append((number, -part))
    return found


def _together(legs: Legs) -> Legs:
    sums: dict[int, int] = {}
    for number, amount in legs:
        sums[number] = sums.get(number, 0) + amount
    return list(sums.items())


def _performed(done: _Done) -> Json:
    name = done.line["transaction_id"]
    return {"success": True, "new_balance": done.balance, "transaction_id": name}


def _insufficient(asked: int, available: int) -> _Refused:
    detail = f"{asked} credits were asked for, {available} are available"
    return _Refused(402, "insufficient_credits", detail, available_balance=available)


def _hold_ended(how: str, at: str, transaction_id: str | None) -> _Refused:
    more = {"ended": how, "ended_at": at, "transaction_id": transaction_id}
    return _Refused(410, "hold_ended", f"the hold was {how} at {at}", **more)


def _instant(at: datetime) -> str:
    text = at.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


# --- The fakes ------------------------------------------------------------------------------------


class _Fake:
    """What both fakes have besides the client's methods."""

    books: Books

    @property
    def now(self) -> datetime:
        """The time of the fake."""
        return self.books.now

    def pass_time(self, span: timedelta) -> None:
        """Lets time pass: batches expire, holds lapse."""
        self.books.pass_time(span)

    def grant(
        self,
        user_id: str | int,
        amount: int,
        *,
        expires_at: datetime | None = None,
        priority: int = 50,
    ) -> None:
        """Grants a user credits, and makes the user known; ``expires_at`` is exclusive."""
        self.books.grant(user_id, amount, expires_at=expires_at, priority=priority)

    def add_user(self, user_id: str | int) -> None:
        """Makes a user without credits known."""
        self.books.add_user(user_id)

    @property
    def is_down(self) -> bool:
        """Whether every request fails with `Unreachable`; set it to test your error handling."""
        return self.books.is_down

    @is_down.setter
    def is_down(self, value: bool) -> None:
        self.books.is_down = value


class FakeCredits(Credits, _Fake):
    """`Credits` without a server. ``clock`` returns an aware time; the default is the real one."""

    def __init__(
        self, books: Books | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.books = books or Books(clock)
        http = httpx.Client(transport=httpx.MockTransport(self.books.answer))
        super().__init__("http://fake", "fake", http=http, sleep=lambda _: None)


class AsyncFakeCredits(AsyncCredits, _Fake):
    """`AsyncCredits` without a server."""

    def __init__(
        self, books: Books | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        async def no_sleep(_: float) -> None:
            pass

        self.books = books or Books(clock)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.books.answer))
        super().__init__("http://fake", "fake", http=http, sleep=no_sleep)
