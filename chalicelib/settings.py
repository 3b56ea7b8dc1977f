"""The settings of a function, from its environment: read only here, once, at its first event.

They are tuples: a dataclass with so many fields takes 3 ms of every cold start.
"""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple, TypeVar
from urllib.parse import urljoin

from chalicelib.product import Product

TOKEN_ANSWER_SECONDS = 60
"""How long API Gateway keeps the authorizer's answer for a token."""

LOCAL_STAGE = "local"
"""The only stage whose clock can be moved ahead of the machine's, to turn months."""

NEVER_A_SHADOW = datetime.min.replace(tzinfo=UTC)
STILL_A_SHADOW = datetime.max.replace(tzinfo=UTC)

Number = TypeVar("Number", int, float)


class Settings(NamedTuple):
    """The settings of one function. Settings a function does not need are empty."""

    stage: str
    region: str
    ledger_table: str
    subscriptions_table: str
    sweeps_queue_url: str
    allocations_queue_url: str
    expiries_queue_url: str
    notifications_queue_url: str = ""
    checks_queue_url: str = ""
    reports_bucket: str = ""
    anchors_bucket: str = ""
    mails_table: str = ""
    edits_table: str = ""
    mail_from: str = ""
    product: Product = Product()
    mail_configuration_set: str = ""
    mails_a_second: float = 0.0
    """How many emails a second one sender may send; 0 for no limit of ours."""
    mail_retry_seconds: int = 10
    """The first delay before a failed email is tried again."""
    retry_seconds: int = 90
    """After how many seconds a work message comes back whose failure waiting does not cure."""
    expiring_soon_days: int = 3
    """How many local days before their credits expire users get a reminder; 0 for no reminders."""
    unsubscribe_url: str = ""
    unsubscribe_secret: str = ""
    events_queue_url: str = ""
    """The queue for events of the ledger; empty for a stage that sends none."""
    event_bus: str = ""
    low_balance: int = 0
    """A ledger balance below this is low, and an event says so; 0 for no such events."""
    stripe_table: str = ""
    stripe_secret: str = ""
    queue_urls: tuple[str, ...] = ()
    """Every queue of the stage, for counting the waiting messages."""
    clock_file: str = ""
    """The file with the seconds by which the clock of stage `local` is ahead; see `clock_of`."""
    shadow_until: datetime = NEVER_A_SHADOW
    """Until when the stage is, or was, the shadow of an old system (docs/migrating.md)."""

    def is_quiet(self, at: datetime) -> bool:
        """Whether nobody is told about entries of that time: the stage was a shadow."""
        return at < self.shadow_until

    @property
    def is_local(self) -> bool:
        """Whether this is the stage on the embedded emulator."""
        return self.stage == LOCAL_STAGE

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings in an environment.

        Raises KeyError for a missing variable, ValueError for an invalid one.
        """
        return cls(
            stage=environment["STAGE"],
            region=environment["AWS_REGION"],
            ledger_table=environment.get("LEDGER_TABLE", ""),
            subscriptions_table=environment.get("SUBSCRIPTIONS_TABLE", ""),
            sweeps_queue_url=environment.get("SWEEPS_QUEUE_URL", ""),
            allocations_queue_url=environment.get("ALLOCATIONS_QUEUE_URL", ""),
            expiries_queue_url=environment.get("EXPIRIES_QUEUE_URL", ""),
            notifications_queue_url=environment.get("NOTIFICATIONS_QUEUE_URL", ""),
            checks_queue_url=environment.get("CHECKS_QUEUE_URL", ""),
            reports_bucket=environment.get("REPORTS_BUCKET", ""),
            anchors_bucket=environment.get("ANCHORS_BUCKET", ""),
            mails_table=environment.get("MAILS_TABLE", ""),
            edits_table=environment.get("EDITS_TABLE", ""),
            mail_from=environment.get("MAIL_FROM", ""),
            product=_product(environment),
            mail_configuration_set=environment.get("MAIL_CONFIGURATION_SET", ""),
            mails_a_second=_number(environment, "MAILS_A_SECOND", float, 0.0, 0.0, 1e6)
            / _number(environment, "MAIL_SENDERS", int, 1, 1, 1_000),
            mail_retry_seconds=_number(environment, "MAIL_RETRY_SECONDS", int, 10, 1, 400),
            retry_seconds=_number(environment, "RETRY_SECONDS", int, 90, 1, 360),
            expiring_soon_days=_number(environment, "EXPIRING_SOON_DAYS", int, 3, 0, 60),
            # The emulator's address is not known earlier, so the path is added here.
            unsubscribe_url=urljoin(
                environment.get("AWS_ENDPOINT_URL", ""), environment.get("UNSUBSCRIBE_URL", "")
            ),
            unsubscribe_secret=environment.get("UNSUBSCRIBE_SECRET", ""),
            events_queue_url=environment.get("EVENTS_QUEUE_URL", ""),
            event_bus=environment.get("EVENT_BUS", ""),
            low_balance=_number(environment, "LOW_BALANCE", int, 0, 0, 1_000_000),
            stripe_table=environment.get("STRIPE_TABLE", ""),
            stripe_secret=environment.get("STRIPE_SECRET", ""),
            queue_urls=_words(environment.get("QUEUE_URLS", "")),
            clock_file=environment.get("CLOCK_FILE", ""),
            shadow_until=_shadow_until(environment.get("SHADOW_UNTIL", "")),
        )


class TokenSettings(NamedTuple):
    """The tokens that the authorizer accepts, and what it reads from them.

    ``issuer``: the required `iss`. ``audiences``: the claim ``audience_claim`` must name one of
    them. ``jwks_url`` is empty if the issuer's discovery document has it. ``scope_names`` maps our
    scopes to the issuer's names; the name ``*`` stands for every valid token. Each claim can be a
    dotted path, such as ``app_metadata.user_id``. ``is_local``: the stage is on this machine, where
    keys may come without https and an answer says why a token is refused. ``lane_keys``: the prefix
    of the API keys of the callers' lanes.
    """

    issuer: str
    audiences: tuple[str, ...]
    audience_claim: str
    jwks_url: str
    user_claim: str
    scope_claims: tuple[str, ...]
    scope_names: Mapping[str, frozenset[str]]
    is_local: bool
    lane_keys: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "TokenSettings":
        """The settings in an environment.

        Raises KeyError for a missing variable, ValueError for an invalid one.
        """
        found = cls(
            issuer=environment["TOKEN_ISSUER"],
            audiences=_words(environment["TOKEN_AUDIENCE"]),
            audience_claim=environment.get("TOKEN_AUDIENCE_CLAIM") or "aud",
            jwks_url=environment.get("TOKEN_JWKS_URL", ""),
            user_claim=environment.get("TOKEN_USER_CLAIM") or "sub",
            scope_claims=_words(environment.get("TOKEN_SCOPE_CLAIMS") or "scope,scp"),
            scope_names=_scope_names(environment.get("TOKEN_SCOPE_NAMES", "")),
            is_local=environment["STAGE"] == LOCAL_STAGE,
            lane_keys=environment.get("LANE_KEYS", ""),
        )
        for name, url in (("TOKEN_ISSUER", found.issuer), ("TOKEN_JWKS_URL", found.jwks_url)):
            if url and not found.may_fetch(url):
                raise ValueError(f"{name} must be an https:// address; is {url[:80]}")
        if not found.issuer or not found.audiences:
            raise ValueError("TOKEN_ISSUER and TOKEN_AUDIENCE must be set")
        return found

    def may_fetch(self, url: str) -> bool:
        """Whether keys may come from this address: nobody in between can change them."""
        return url.startswith("https://") or (self.is_local and url.startswith("http://"))


class ConsoleSettings(NamedTuple):
    """How people sign in to the console.

    ``client_id``: the console's client at the issuer. ``scope``: the scope that it requests.
    ``audience``: the audience that it requests, if the issuer needs one; empty if tokens name no
    audience. ``product``: the name shown on the page.
    """

    client_id: str
    scope: str
    audience: str
    product: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "ConsoleSettings | None":
        """The settings in an environment; None for a stage without a console."""
        client_id = environment.get("CONSOLE_CLIENT_ID", "")
        if not client_id:
            return None
        names_audience = (environment.get("TOKEN_AUDIENCE_CLAIM") or "aud") == "aud"
        audiences = _words(environment.get("TOKEN_AUDIENCE", "")) if names_audience else ()
        return cls(
            client_id=client_id,
            scope=environment.get("CONSOLE_SCOPE") or "openid",
            audience=audiences[0] if audiences else "",
            product=_product(environment).name,
        )


def _number(
    environment: Mapping[str, str],
    name: str,
    read: Callable[[str], Number],
    default: Number,
    least: Number,
    most: Number,
) -> Number:
    """A number in an environment. Raises ValueError naming the variable."""
    text = environment.get(name)
    if not text:
        return default
    try:
        value = read(text)
    except ValueError:
        value = None
    # A comparison with NaN is false.
    if value is None or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least} to {most}; is {text[:80]}")
    return value


def _shadow_until(text: str) -> datetime:
    """Until when a stage is a shadow, by its parameter Shadow. Raises ValueError."""
    if text in ("", "off"):
        return NEVER_A_SHADOW
    if text == "on":
        return STILL_A_SHADOW
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(
            f"SHADOW_UNTIL must be on, off or an instant with its offset; is {text[:80]}"
        )
    return instant


def _product(environment: Mapping[str, str]) -> Product:
    given = {name: environment.get(f"PRODUCT_{name.upper()}", "") for name in Product._fields}
    return Product(**{name: value for name, value in given.items() if value})


def _words(text: str) -> tuple[str, ...]:
    """The words of a list separated by spaces or commas."""
    return tuple(text.replace(",", " ").split())


def _scope_names(text: str) -> dict[str, frozenset[str]]:
    """The issuer's names for our scopes, from ``ours=theirs`` pairs; a scope can have several."""
    names: dict[str, set[str]] = {}
    for pair in _words(text):
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise ValueError(f"TOKEN_SCOPE_NAMES must be ours=theirs pairs; {pair[:80]} is not")
        names.setdefault(ours, set()).add(theirs)
    return {ours: frozenset(theirs) for ours, theirs in names.items()}


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings.read(os.environ)


@cache
def token_settings() -> TokenSettings:
    """The token settings of this process, which is the authorizer's."""
    return TokenSettings.read(os.environ)


@cache
def console_settings() -> ConsoleSettings | None:
    """How people sign in to this stage's console; None if it has none."""
    return ConsoleSettings.read(os.environ)


@cache
def allowed_origins() -> frozenset[str]:
    """The origins whose pages may call the API, such as https://app.example.com; `*` is any."""
    return frozenset(_words(os.environ.get("ALLOWED_ORIGINS", "")))


@cache
def written_metrics() -> frozenset[str] | None:
    """The names of the metrics to write; None for all. Each metric costs money."""
    return frozenset(_words(os.environ.get("METRICS", ""))) or None
