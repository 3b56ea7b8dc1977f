"""The clients: `Credits` for sync code, `AsyncCredits` for async. Each route is a line in each."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import sys
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import httpx

from . import routes
from .answers import CaptureAnswer, HoldAnswer, ReleaseAnswer
from .errors import APIError, CreditsError, HoldEnded, NoToken
from .routes import Page, Request
from .talks import Ask, Manners, Send, Step
from .tokens import ClientCredentials

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing itself only since Python 3.11

__all__ = ["AsyncCredits", "AsyncHeld", "Credits", "Held"]

P = ParamSpec("P")
T = TypeVar("T")
Listed = TypeVar("Listed", bound=Page[Any])
Item = TypeVar("Item")
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)

Token = str | Callable[[str | None], str] | ClientCredentials
"""A token, or a source that is called before each request: with the token that the API has just
refused, or None."""

AsyncToken = Token | Callable[[str | None], Awaitable[str]]

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
"""In seconds. The API itself answers within 5 s, or says that it cannot."""

log = logging.getLogger("credits_client")


class _Client(Generic[Http]):
    """Shared by both clients: the address, the manners, and how a request is built."""

    def __init__(
        self,
        url: str,
        http: Http,
        manners: Manners,
        timeout: httpx.Timeout | float | None,
        *,
        is_own: bool,
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError("url must begin with https://; it is what `make deploy` prints")
        if manners.attempts < 1:
            raise ValueError("attempts must be at least 1")
        self._url = url.rstrip("/")
        self._http: Http = http
        self._manners = manners
        self._timeout: Any = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        self._is_own = is_own

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    def _built(self, request: Request[Any], token: str | None) -> httpx.Request:
        headers = {"Accept": "application/json", "User-Agent": "credits-client", **request.headers}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        built: httpx.Request = self._http.build_request(
            request.method,
            self._url + request.target,
            params=request.query,
            json=request.body,
            headers=headers,
            timeout=self._timeout,
        )
        return built

    def _talk(self, request: Request[T]) -> Generator[Step, Any, T]:
        return self._manners.talk(request, functools.partial(self._built, request))


def _named_as(route: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a method the name, the docstring and the arguments of a route, for `help`."""

    def name(method: Callable[..., Any]) -> Callable[..., Any]:
        functools.update_wrapper(method, route, assigned=("__name__", "__doc__"))
        del method.__wrapped__  # type: ignore[attr-defined]
        told = inspect.signature(route)
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        arguments = [
            each.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
            if each.kind is inspect.Parameter.POSITIONAL_ONLY
            else each
            for each in told.parameters.values()
        ]
        method.__signature__ = told.replace(  # type: ignore[attr-defined]
            parameters=[first, *arguments], return_annotation=inspect.Signature.empty
        )
        return method

    return name


# --- Sync -----------------------------------------------------------------------------------------


def _sending(route: Callable[P, Request[T]]) -> Callable[Concatenate[Credits, P], T]:
    """The method that sends a route's request and returns its answer."""

    @_named_as(route)
    def send(self: Credits, /, *words: P.args, **named: P.kwargs) -> T:
        return self._send(route(*words, **named))

    return send


def _paging(
    route: Callable[P, Request[Listed]],
) -> Callable[Concatenate[Credits, P], Iterator[Listed]]:
    """The method that returns page after page, each fetched when needed."""

    @_named_as(route)
    def pages(self: Credits, /, *words: P.args, **named: P.kwargs) -> Iterator[Listed]:
        return self._pages(route(*words, **named))

    return pages


def _listing(
    route: Callable[P, Request[Page[Item]]],
) -> Callable[Concatenate[Credits, P], Iterator[Item]]:
    """The method that returns all elements of all pages."""

    @_named_as(route)
    def listing(self: Credits, /, *words: P.args, **named: P.kwargs) -> Iterator[Item]:
        pages = self._pages(route(*words, **named))
        return (item for page in pages for item in page.items)

    return listing


def _holding(
    route: Callable[P, Request[HoldAnswer]],
) -> Callable[Concatenate[Credits, P], Held]:
    @_named_as(route)
    def hold(self: Credits, /, *words: P.args, **named: P.kwargs) -> Held:
        return Held(self, self._send(route(*words, **named)))

    return hold


class Credits(_Client[httpx.Client]):
    """A client of the Credits API.

    >>> credits = Credits("https://abc123.execute-api.eu-west-1.amazonaws.com/v1", token="...")

    ``url``: the address of the API, without ``/api``. ``token``: see `Token`. ``http``: your own
    client to send with; it is not closed, and its timeouts apply unless ``timeout`` is given.

    A request is sent up to ``attempts`` times, until ``patience`` seconds after the first: after a
    temporary problem, or without an answer. Its key stays the same. Safe to use in threads.
    """

    def __init__(  # noqa: PLR0913 - all but two have defaults
        self,
        url: str,
        token: Token,
        *,
        http: httpx.Client | None = None,
        timeout: httpx.Timeout | float | None = None,
        attempts: int = 4,
        patience: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(
            url,
            http or httpx.Client(timeout=TIMEOUT),
            Manners(attempts, patience, clock, random),
            timeout,
            is_own=http is None,
        )
        self._token = token
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        if self._is_own:
            self._http.close()

    schedule = _sending(routes.schedule)
    balance = _sending(routes.balance)
    forecast = _sending(routes.forecast)
    statement_page = _sending(routes.statement_page)
    statement = _listing(routes.statement_page)
    explain = _sending(routes.explain)
    explain_transaction = _sending(routes.explain_transaction)
    history_page = _sending(routes.history_page)
    history_pages = _paging(routes.history_page)
    history = _listing(routes.history_page)
    transaction = _sending(routes.transaction)
    use = _sending(routes.use)
    use_many = _sending(routes.use_many)
    reverse = _sending(routes.reverse)
    allocate = _sending(routes.allocate)
    void_batch = _sending(routes.void_batch)

    hold = _holding(routes.hold)
    capture = _sending(routes.capture)
    release = _sending(routes.release)
    holds = _sending(routes.holds)

    purchase = _sending(routes.purchase)
    refund = _sending(routes.refund)

    allocation_run = _sending(routes.allocation_run)
    allocate_due = _sending(routes.allocate_due)
    allocation_preview_page = _sending(routes.allocation_preview_page)
    allocation_preview_pages = _paging(routes.allocation_preview_page)
    allocation_preview = _listing(routes.allocation_preview_page)

    plans = _sending(routes.plans)
    subscription = _sending(routes.subscription)
    found_subscriptions_page = _sending(routes.found_subscriptions_page)
    found_subscriptions_pages = _paging(routes.found_subscriptions_page)
    found_subscriptions = _listing(routes.found_subscriptions_page)
    put_subscription = _sending(routes.put_subscription)
    patch_subscription = _sending(routes.patch_subscription)
    subscription_edits_page = _sending(routes.subscription_edits_page)
    subscription_edits_pages = _paging(routes.subscription_edits_page)
    subscription_edits = _listing(routes.subscription_edits_page)
    subscription_emails_page = _sending(routes.subscription_emails_page)
    subscription_emails_pages = _paging(routes.subscription_emails_page)
    subscription_emails = _listing(routes.subscription_emails_page)
    transaction_email = _sending(routes.transaction_email)
    transaction_events = _sending(routes.transaction_events)
    month = _sending(routes.month)
    operations = _sending(routes.operations)

    unsubscribe_page = _sending(routes.unsubscribe_page)
    unsubscribe = _sending(routes.unsubscribe)
    health = _sending(routes.health)
    contract = _sending(routes.contract)

    def _send(self, request: Request[T]) -> T:
        talk = self._talk(request)
        step = next(talk)
        while True:
            try:
                came = self._do(step)
            except (httpx.RequestError, NoToken) as error:
                tell = functools.partial(talk.throw, error)
            else:
                tell = functools.partial(talk.send, came)
            try:
                step = tell()
            except StopIteration as end:
                answer: T = end.value
                return answer

    def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return self._http.send(step.request)
        if isinstance(step, Ask):
            return self._get_token(step.refused)
        return self._sleep(step.seconds)

    def _get_token(self, refused: str | None) -> str:
        source = self._token
        if isinstance(source, str):
            return source
        if not isinstance(source, ClientCredentials):
            return source(refused)
        kept = source.kept(refused)
        if kept is None:
            with source.renewing:
                kept = source.kept(refused) or source.keep(self._http.send(source.request()))
        return kept

    def _pages(self, request: Request[Listed]) -> Iterator[Listed]:
        while True:
            page = self._send(request)
            yield page
            if page.next_cursor is None:
                return
            request = request.after(page.next_cursor)


# --- Async ----------------------------------------------------------------------------------------


def _sending_async(
    route: Callable[P, Request[T]],
) -> Callable[Concatenate[AsyncCredits, P], Coroutine[Any, Any, T]]:
    @_named_as(route)
    async def send(self: AsyncCredits, /, *words: P.args, **named: P.kwargs) -> T:
        return await self._send(route(*words, **named))

    return send


def _paging_async(
    route: Callable[P, Request[Listed]],
) -> Callable[Concatenate[AsyncCredits, P], AsyncIterator[Listed]]:
    @_named_as(route)
    def pages(self: AsyncCredits, /, *words: P.args, **named: P.kwargs) -> AsyncIterator[Listed]:
        return self._pages(route(*words, **named))

    return pages


def _listing_async(
    route: Callable[P, Request[Page[Item]]],
) -> Callable[Concatenate[AsyncCredits, P], AsyncIterator[Item]]:
    @_named_as(route)
    def listing(self: AsyncCredits, /, *words: P.args, **named: P.kwargs) -> AsyncIterator[Item]:
        pages = self._pages(route(*words, **named))
        return (item async for page in pages for item in page.items)

    return listing


def _holding_async(
    route: Callable[P, Request[HoldAnswer]],
) -> Callable[Concatenate[AsyncCredits, P], Opening]:
    @_named_as(route)
    def hold(self: AsyncCredits, /, *words: P.args, **named: P.kwargs) -> Opening:
        return Opening(self, self._send(route(*words, **named)))

    return hold


class AsyncCredits(_Client[httpx.AsyncClient]):
    """A client of the Credits API for asyncio: `Credits`, with ``await``.

    Safe to use in all tasks of one event loop. ``token`` may be an async function.
    """

    def __init__(  # noqa: PLR0913 - all but two have defaults
        self,
        url: str,
        token: AsyncToken,
        *,
        http: httpx.AsyncClient | None = None,
        timeout: httpx.Timeout | float | None = None,
        attempts: int = 4,
        patience: float = 60.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(
            url,
            http or httpx.AsyncClient(timeout=TIMEOUT),
            Manners(attempts, patience, clock, random),
            timeout,
            is_own=http is None,
        )
        self._token = token
        self._sleep = sleep
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes its connections."""
        if self._is_own:
            await self._http.aclose()

    schedule = _sending_async(routes.schedule)
    balance = _sending_async(routes.balance)
    forecast = _sending_async(routes.forecast)
    statement_page = _sending_async(routes.statement_page)
    statement = _listing_async(routes.statement_page)
    explain = _sending_async(routes.explain)
    explain_transaction = _sending_async(routes.explain_transaction)
    history_page = _sending_async(routes.history_page)
    history_pages = _paging_async(routes.history_page)
    history = _listing_async(routes.history_page)
    transaction = _sending_async(routes.transaction)
    use = _sending_async(routes.use)
    use_many = _sending_async(routes.use_many)
    reverse = _sending_async(routes.reverse)
    allocate = _sending_async(routes.allocate)
    void_batch = _sending_async(routes.void_batch)

    hold = _holding_async(routes.hold)
    capture = _sending_async(routes.capture)
    release = _sending_async(routes.release)
    holds = _sending_async(routes.holds)

    purchase = _sending_async(routes.purchase)
    refund = _sending_async(routes.refund)

    allocation_run = _sending_async(routes.allocation_run)
    allocate_due = _sending_async(routes.allocate_due)
    allocation_preview_page = _sending_async(routes.allocation_preview_page)
    allocation_preview_pages = _paging_async(routes.allocation_preview_page)
    allocation_preview = _listing_async(routes.allocation_preview_page)

    plans = _sending_async(routes.plans)
    subscription = _sending_async(routes.subscription)
    found_subscriptions_page = _sending_async(routes.found_subscriptions_page)
    found_subscriptions_pages = _paging_async(routes.found_subscriptions_page)
    found_subscriptions = _listing_async(routes.found_subscriptions_page)
    put_subscription = _sending_async(routes.put_subscription)
    patch_subscription = _sending_async(routes.patch_subscription)
    subscription_edits_page = _sending_async(routes.subscription_edits_page)
    subscription_edits_pages = _paging_async(routes.subscription_edits_page)
    subscription_edits = _listing_async(routes.subscription_edits_page)
    subscription_emails_page = _sending_async(routes.subscription_emails_page)
    subscription_emails_pages = _paging_async(routes.subscription_emails_page)
    subscription_emails = _listing_async(routes.subscription_emails_page)
    transaction_email = _sending_async(routes.transaction_email)
    transaction_events = _sending_async(routes.transaction_events)
    month = _sending_async(routes.month)
    operations = _sending_async(routes.operations)

    unsubscribe_page = _sending_async(routes.unsubscribe_page)
    unsubscribe = _sending_async(routes.unsubscribe)
    health = _sending_async(routes.health)
    contract = _sending_async(routes.contract)

    async def _send(self, request: Request[T]) -> T:
        talk = self._talk(request)
        step = next(talk)
        while True:
            try:
                came = await self._do(step)
            except (httpx.RequestError, NoToken) as error:
                tell = functools.partial(talk.throw, error)
            else:
                tell = functools.partial(talk.send, came)
            try:
                step = tell()
            except StopIteration as end:
                answer: T = end.value
                return answer

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._http.send(step.request)
        if isinstance(step, Ask):
            return await self._get_token(step.refused)
        return await self._sleep(step.seconds)

    async def _get_token(self, refused: str | None) -> str:
        source = self._token
        if isinstance(source, str):
            return source
        if not isinstance(source, ClientCredentials):
            given = source(refused)
            return given if isinstance(given, str) else await given
        kept = source.kept(refused)
        if kept is None:
            async with self._renewing:
                kept = source.kept(refused)
                kept = kept or source.keep(await self._http.send(source.request()))
        return kept

    async def _pages(self, request: Request[Listed]) -> AsyncIterator[Listed]:
        while True:
            page = await self._send(request)
            yield page
            if page.next_cursor is None:
                return
            request = request.after(page.next_cursor)


# --- Holds ----------------------------------------------------------------------------------------


class _Held:
    """A hold that was opened here."""

    def __init__(self, answer: HoldAnswer) -> None:
        self.answer = answer
        # Whether the end of the block leaves the hold alone: it has ended, or nobody knows.
        self._is_over = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.answer!r})"

    @property
    def hold_id(self) -> str:
        """Its id, for capturing or releasing it from somewhere else."""
        return self.answer.hold_id

    @property
    def amount(self) -> int:
        """How many credits were set aside."""
        return self.answer.amount

    @property
    def expires_at(self) -> datetime:
        """When it ends by itself."""
        return self.answer.expires_at

    @property
    def replayed(self) -> bool:
        """Whether the key was used before: then the hold may have ended since."""
        return self.answer.replayed

    def _keep(self, failure: CreditsError) -> None:
        """Records that ending it was refused: it is still held. Without an answer, nobody knows."""
        if isinstance(failure, APIError):
            self._is_over = False

    def _forgive(self, failure: Exception, block: BaseException) -> None:
        """Reports a failed release, without replacing the error of the block."""
        words = f"hold {self.hold_id} was not released, and ends at {self.expires_at:%FT%TZ}"
        log.warning("%s", words, exc_info=failure)
        if sys.version_info >= (3, 11):
            block.add_note(f"{words}: {failure}")


class Held(_Held):
    """Credits that are set aside. A context manager: released at the end unless captured."""

    def __init__(self, client: Credits, answer: HoldAnswer) -> None:
        super().__init__(answer)
        self._client = client

    def capture(
        self,
        amount: int,
        description: str | None = None,
        *,
        beyond_hold: bool | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> CaptureAnswer:
        """Uses what the job cost, and frees the rest; `HoldEnded` if it ended in another way.

        Without an answer (`NoAnswer`) it may have been done. Then the end of the block leaves the
        hold as it is, and you can send the same capture again.
        """
        self._is_over = True
        try:
            return self._client.capture(
                self.hold_id, amount, description, beyond_hold=beyond_hold, metadata=metadata
            )
        except CreditsError as failure:
            self._keep(failure)
            raise

    def release(self) -> ReleaseAnswer:
        """Frees all of it."""
        answer = self._client.release(self.hold_id)
        self._is_over = True
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_over:
            return
        try:
            self.release()
        except HoldEnded:
            return  # nothing is held any more
        except Exception as failure:
            if error is None:
                raise
            self._forgive(failure, error)


class AsyncHeld(_Held):
    """`Held`, with ``await``."""

    def __init__(self, client: AsyncCredits, answer: HoldAnswer) -> None:
        super().__init__(answer)
        self._client = client

    async def capture(
        self,
        amount: int,
        description: str | None = None,
        *,
        beyond_hold: bool | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> CaptureAnswer:
        """Uses what the job cost, and frees the rest: see `Held.capture`."""
        self._is_over = True
        try:
            return await self._client.capture(
                self.hold_id, amount, description, beyond_hold=beyond_hold, metadata=metadata
            )
        except CreditsError as failure:
            self._keep(failure)
            raise

    async def release(self) -> ReleaseAnswer:
        """Frees all of it."""
        answer = await self._client.release(self.hold_id)
        self._is_over = True
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_over:
            return
        try:
            await self.release()
        except HoldEnded:
            return
        except Exception as failure:
            if error is None:
                raise
            self._forgive(failure, error)


class Opening:
    """A hold that is being opened: ``await`` it, or use it with ``async with``."""

    def __init__(self, client: AsyncCredits, answer: Coroutine[Any, Any, HoldAnswer]) -> None:
        self._client = client
        self._answer = answer
        self._held: AsyncHeld | None = None

    def __await__(self) -> Generator[Any, None, AsyncHeld]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncHeld:
        self._held = await self._open()
        return self._held

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._held is not None:
            await self._held.__aexit__(kind, error, traceback)

    async def _open(self) -> AsyncHeld:
        return AsyncHeld(self._client, await self._answer)
