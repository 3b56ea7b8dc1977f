"""What a run is like, and the users and the clock that its processes share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from chalicelib.services import Services
from chalicelib.settings import Settings
from chalicelib.store.database import connect
from infra.local import emulator

STAGE = "dev"
FIRST_AMOUNT = 100
"""Everybody's own monthly amount in version 1; each edit adds one to it."""

BEGIN = datetime(2026, 1, 20, 12, tzinfo=UTC)
ZONES = ("UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Asia/Kathmandu")
PLANS = ("starter", "pro")
_RESOURCES = Path(__file__).parents[2] / "infra" / "resources.yaml"


@dataclass(frozen=True)
class Plan:
    """How many do what, for how long.

    Ends when ``seconds`` are over or, if given, when each thread has done ``operations``. The clock
    of all runs at ``days_a_second``, so that months begin and credits expire on the way.
    """

    processes: int = 4
    threads: int = 16
    seconds: float = 180.0
    operations: int | None = None
    kills: int | None = None
    hot: int = 20
    cold: int = 2_000
    seed: int = 1
    days_a_second: float = 1.0
    plant: str = ""
    endpoint_url: str = ""
    began: float = 0.0
    folder: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def running(self, endpoint_url: str, folder: Path) -> Plan:
        return replace(self, endpoint_url=endpoint_url, folder=str(folder), began=time.time())

    @property
    def hot_users(self) -> list[str]:
        return [f"hot-{number}" for number in range(self.hot)]

    @property
    def cold_users(self) -> list[str]:
        return [f"cold-{number}" for number in range(self.cold)]

    @property
    def users(self) -> list[str]:
        return self.hot_users + self.cold_users

    def clock(self) -> Callable[[], datetime]:
        """The time in the run: the same in all processes, but for what they are late to ask."""
        began, speed = self.began, self.days_a_second
        return lambda: BEGIN + timedelta(days=(time.time() - began) * speed)

    def journal(self, process: int, life: int) -> Path:
        """What a process writes down in one of its lives."""
        return Path(self.folder) / f"{process}-{life}.jsonl"

    def journals(self, process: int) -> list[Path]:
        """All that there are of a process. One that was killed while it started has none."""
        return sorted(Path(self.folder).glob(f"{process}-*.jsonl"))

    def services(self, threads: int) -> Services:
        """The product's own services, over the emulator."""
        tables = names_of_tables()
        keys = {"access_key": emulator.ACCESS_KEY, "secret_key": emulator.SECRET_KEY}
        url = self.endpoint_url
        dynamodb = connect(emulator.REGION, threads, endpoint_url=url, **keys)
        settings = Settings(
            stage=STAGE,
            region=emulator.REGION,
            ledger_table=tables["LedgerTable"],
            subscriptions_table=tables["SubscriptionsTable"],
            edits_table=tables["EditsTable"],
            sweeps_queue_url="",
            allocations_queue_url="",
            expiries_queue_url="",
        )
        return Services(settings, clock=self.clock(), dynamodb=dynamodb, threads=2)


def names_of_tables() -> dict[str, str]:
    tables = ("LedgerTable", "SubscriptionsTable", "EditsTable")
    return {name: f"credits-{STAGE}-{name.lower()}" for name in tables}


def create_tables(services: Services) -> None:
    """Creates the tables as infra/resources.yaml declares them, without the stream."""
    declared = yaml.safe_load(_RESOURCES.read_text(encoding="utf-8"))["Resources"]
    for name, table in names_of_tables().items():
        properties = declared[name]["Properties"]
        kept = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
        asked = {key: properties[key] for key in kept if key in properties}
        services.dynamodb.call("CreateTable", {"TableName": table, **asked})
