"""One request as the routes see it: strict readers for its path, query, headers and body.

Nothing is guessed and nothing is ignored: a refusal names each unknown field.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from typing import cast
from urllib.parse import unquote

from chalice.app import Request

from chalicelib.domain.errors import CreditsError, FieldError, InvalidInput, NotFound
from chalicelib.domain.fields import FieldReader, parse_key, parse_user_id, shown
from chalicelib.services import Services

from .errors import BodyTooLarge, UnsupportedMediaType
from .principal import Principal

LARGEST_BODY = 16 * 1024
"""The longest body, in bytes."""

MOST_DIGITS = 1_000
"""The longest number in a body: more digits than any field has, and few enough for Python."""

LARGEST_PAGE = 100
"""The most elements of a page of a listing."""

# UTF-8 in all spellings that HTTP clients use.
_JSON = re.compile(
    r"application/json\s*(;\s*(charset\s*=\s*(utf-?8|\"utf-?8\")\s*;?\s*)?)?", re.IGNORECASE
)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


class Call:
    """A request, its sender, and the services that answer it."""

    def __init__(self, request: Request, services: Services) -> None:
        self._request = request
        self.services = services

    @cached_property
    def principal(self) -> Principal:
        """The caller. Raises `Unauthenticated`."""
        return Principal.of(self._request.context)

    @property
    def is_authenticated(self) -> bool:
        """Whether the request passed the authorizer."""
        return bool((self._request.context.get("authorizer") or {}).get("caller"))

    def authenticated(self) -> "Call":
        """This call, for routes open to every known caller. Raises `Unauthenticated`."""
        _ = self.principal
        return self

    def query(self) -> FieldReader:
        """The query parameters. Raises `InvalidInput` for one that is given twice."""
        parameters = self._request.query_params
        given = {name: parameters.getlist(name) for name in parameters} if parameters else {}
        repeated = [name for name, values in given.items() if len(values) > 1]
        if repeated:
            raise InvalidInput(
                FieldError(name[:100], "must be given only once") for name in repeated
            )
        return FieldReader({name: values[0] for name, values in given.items()}, "query")

    def without_query(self) -> "Call":
        """This call. Raises `InvalidInput` when it has query parameters."""
        self.query().finish()
        return self

    def body(self) -> FieldReader:
        """The fields of the body. Raises the errors of `json`."""
        return FieldReader(self.json())

    def json(self) -> Mapping[str, object]:
        """The body, a JSON object; such a request has no query parameters.

        Raises `UnsupportedMediaType`, `BodyTooLarge`, and `InvalidInput` on ``body`` if it is not
        JSON, or if an object names a field twice: of two amounts, nobody knows the right one.
        """
        self.without_query()
        media_type = self._request.headers.get("content-type", "application/json")
        if not _JSON.fullmatch(media_type.strip()):
            raise UnsupportedMediaType(
                "the body must be JSON in UTF-8, sent with Content-Type: application/json; "
                f"is {shown(media_type)}"
            )
        try:
            raw = cast("bytes", self._request.raw_body)  # bytes, despite its annotation
            if len(raw) > LARGEST_BODY:
                raise BodyTooLarge(
                    f"the body has {len(raw)} bytes; at most {LARGEST_BODY} are read"
                )
            # As text: given bytes, the parser would guess the encoding.
            values = json.loads(
                raw.decode(),
                object_pairs_hook=_object,
                parse_constant=_no_constant,
                parse_int=_whole,
            )
        except (ValueError, RecursionError) as error:
            raise InvalidInput.of("body", f"must be JSON in UTF-8 ({error})") from error
        if not isinstance(values, dict):
            raise InvalidInput.of("body", "must be a JSON object")
        return values

    def header(self, name: str) -> str | None:
        """The value of a header, None when it is absent."""
        value: str | None = self._request.headers.get(name)
        return value

    def idempotency_key(self) -> str:
        """The key that makes the request safe to repeat. Raises `InvalidInput` without one."""
        headers = FieldReader({"Idempotency-Key": self.header("idempotency-key")}, "headers")
        key = headers.required("Idempotency-Key", parse_key)
        headers.finish()
        return key

    def path_user_id(self) -> str:
        """The user id in the path."""
        # API Gateway passes path parameters on percent-encoded, as they were sent. An emulator may
        # have decoded them already; no user id contains a %, so decoding again changes nothing.
        return parse_user_id("user_id", unquote(self.path["user_id"]))

    @property
    def path(self) -> Mapping[str, str]:
        """The path parameters, as they were sent."""
        return self._request.uri_params or {}

    @property
    def route(self) -> str:
        """The route, such as ``GET /api/subscriptions/{user_id}``, without the values."""
        return f"{self._request.method} {self._request.path}"

    @property
    def ends_with_slash(self) -> bool:
        """Whether the sent address ends with a slash: routing ignores the difference."""
        return str(self._request.context.get("path", "")).endswith("/")

    @property
    def is_post(self) -> bool:
        """Whether the request asks for a change."""
        return bool(self._request.method == "POST")

    def names(self) -> frozenset[str]:
        """The users whom the request names, as far as it can be read, even if it is refused."""
        path, query = self.path, self._request.query_params
        readers: list[Callable[[], object]] = []
        if "user_id" in path:
            readers.append(self.path_user_id)
        owned = path.keys() & {"hold_id", "transaction_id", "batch_id"}
        of_entries = [unquote(path[name]) for name in owned]
        if query and "transaction_id" in query:
            of_entries += query.getlist("transaction_id")
        owners = [entry.rpartition("-")[0] for entry in of_entries]
        readers += [partial(parse_user_id, "user_id", owner) for owner in owners]
        if query and "user_id" in query:
            readers += [partial(parse_user_id, "user_id", it) for it in query.getlist("user_id")]
        if self.is_post:
            readers.append(lambda: parse_user_id("user_id", self.json().get("user_id")))
        found = set()
        for read in readers:
            with suppress(CreditsError):
                found.add(str(read()))
        return frozenset(found)


def ensure_user(services: Services, user_id: str, *, has_entries: bool) -> None:
    """Raises `NotFound` for an unknown user. A user with entries exists, even if erased.

    ``has_entries``: whether any were found; entries of another type or time may exist.
    """
    if has_entries:
        return
    try:
        services.subscriptions.get(user_id)
    except NotFound:
        if services.ledger.account(user_id).last is None:
            raise


def parse_limit(field: str, value: object) -> int:
    """The size of a page, as text or as a number."""
    return parse_number(field, value, LARGEST_PAGE)


def parse_number(field: str, value: object, most: int) -> int:
    """A whole number from 1 to ``most``, as text or as a number."""
    text = str(value) if type(value) is int else value
    if isinstance(text, str) and _NUMBER.fullmatch(text) and int(text) <= most:
        return int(text)
    raise InvalidInput.of(field, f"must be a whole number from 1 to {most:,}")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice[:100]!a} is given more than once")
    return values


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {MOST_DIGITS} are read")
    return int(digits)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
