"""The services of the handlers: made once per process, at the first event and never at import.

Each part is made at its first use, so that a function pays only for what it needs.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib.settings import Settings, settings

if TYPE_CHECKING:
    from chalicelib.aws import KeptSecret
    from chalicelib.domain.plans import PlanCatalogue
    from chalicelib.domain.price_list import PriceList
    from chalicelib.event_bus import EventBus
    from chalicelib.mails.links import UnsubscribeLinks
    from chalicelib.mails.sending import Mailer
    from chalicelib.queues import Queues
    from chalicelib.store.anchors import Anchors
    from chalicelib.store.edits import EditStore
    from chalicelib.store.ledger import LedgerStore
    from chalicelib.store.mails import MailRecords
    from chalicelib.store.reports import Reports
    from chalicelib.store.stripe import StripeStore
    from chalicelib.store.subscriptions import SubscriptionStore
    from chalicelib.store.wire.client import Client
    from chalicelib.upkeep import Upkeep

PLANS_FILE = Path(__file__).parent / "plans.toml"
PRICES_FILE = Path(__file__).parent / "stripe.toml"

THREADS = 8
"""How many users a worker handles at once. It waits for DynamoDB most of the time. Once its share
of a CPU is busy, more threads only slow each other down (bench/README.md)."""


def read_clock() -> datetime:
    """The present instant."""
    return datetime.now(UTC)


def clock_of(settings: Settings) -> Callable[[], datetime]:
    """The clock of a stage. The clock of `local` is ahead by the seconds in a file (`make clock`).

    No other stage reads such a file, whatever its environment says.
    """
    if not (settings.is_local and settings.clock_file):
        return read_clock
    seconds_ahead = Path(settings.clock_file)
    return lambda: read_clock() + timedelta(seconds=float(seconds_ahead.read_text()))


class Services:
    """The stores, the queues, the plans and the clock."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], datetime] | None = None,
        dynamodb: "Client | None" = None,
        threads: int = THREADS,
    ) -> None:
        self.settings = settings
        self.now = clock or clock_of(settings)
        self.threads = threads
        self._given_dynamodb = dynamodb

    @cached_property
    def catalogue(self) -> "PlanCatalogue":
        """The plans on offer."""
        from chalicelib.plans_file import parse_catalogue

        return parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)

    @cached_property
    def price_list(self) -> "PriceList":
        """The meaning of Stripe's prices."""
        from chalicelib.prices_file import parse_price_list

        text = PRICES_FILE.read_text(encoding="utf-8")
        return parse_price_list(text, self.catalogue, PRICES_FILE.name)

    @cached_property
    def ledger(self) -> "LedgerStore":
        """The ledger table."""
        from chalicelib.store.ledger import LedgerStore

        return LedgerStore(self.dynamodb, self.settings.ledger_table)

    @cached_property
    def subscriptions(self) -> "SubscriptionStore":
        """The subscriptions table."""
        from chalicelib.store.subscriptions import SubscriptionStore

        table = self.settings.subscriptions_table
        # Reading needs no table of edits.
        return SubscriptionStore(self.dynamodb, table, lambda: self.edits)

    @cached_property
    def edits(self) -> "EditStore":
        """The table of edits of subscriptions."""
        from chalicelib.store.edits import EditStore

        return EditStore(self.dynamodb, self.settings.edits_table)

    @cached_property
    def stripe(self) -> "StripeStore":
        """The table of facts about Stripe's customers and payments."""
        from chalicelib.store.stripe import StripeStore

        return StripeStore(self.dynamodb, self.settings.stripe_table)

    @cached_property
    def stripe_secret(self) -> "KeptSecret":
        """The secret with which Stripe signs; a placeholder until somebody enters it."""
        from chalicelib.aws import KeptSecret, read_secret

        return KeptSecret(lambda: read_secret(self.settings.region, self.settings.stripe_secret))

    @cached_property
    def queues(self) -> "Queues":
        """The work queues."""
        from chalicelib.queues import Queues

        return Queues(self.settings)

    @cached_property
    def event_bus(self) -> "EventBus":
        """The bus on which the ledger's events are published."""
        from chalicelib.event_bus import EventBus

        return EventBus(self.settings)

    @cached_property
    def upkeep(self) -> "Upkeep":
        """The state of the queues and the alarms."""
        from chalicelib.upkeep import Upkeep

        return Upkeep(self.settings)

    @cached_property
    def reports(self) -> "Reports":
        """The reports bucket."""
        from chalicelib.store.reports import Reports

        return Reports(self.settings)

    @cached_property
    def anchors(self) -> "Anchors":
        """The anchors bucket."""
        from chalicelib.store.anchors import Anchors

        return Anchors(self.settings)

    @cached_property
    def mail_records(self) -> "MailRecords":
        """The table that records sent emails."""
        from chalicelib.store.mails import MailRecords

        return MailRecords(self.dynamodb, self.settings.mails_table)

    @cached_property
    def mailer(self) -> "Mailer":
        """Sends emails through SES."""
        from chalicelib.mails.sending import Mailer

        return Mailer(self.settings)

    @cached_property
    def unsubscribe_links(self) -> "UnsubscribeLinks":
        """Signs and checks the unsubscribe links."""
        from chalicelib.mails.links import UnsubscribeLinks, read_key

        key = read_key(self.settings.region, self.settings.unsubscribe_secret)
        return UnsubscribeLinks(key, self.settings.unsubscribe_url)

    @cached_property
    def dynamodb(self) -> "Client":
        """The client of DynamoDB that all stores share."""
        from chalicelib.store.database import connect

        return self._given_dynamodb or connect(self.settings.region, self.threads)


@cache
def services() -> Services:
    """The services of this process."""
    return Services(settings())
