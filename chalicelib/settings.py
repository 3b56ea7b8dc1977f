"""What the environment tells a function: read once, at its first event, and nowhere else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

LOCAL_STAGE = "local"
"""The one stage whose time may be moved ahead of the clock: it is how months are turned there."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one function. What a function does not need it is not given: empty then."""

    stage: str
    region: str
    ledger_table: str
    subscriptions_table: str
    sweeps_queue_url: str
    allocations_queue_url: str
    expiries_queue_url: str

    @property
    def is_local(self) -> bool:
        """Whether this is the stage on the embedded emulator."""
        return self.stage == LOCAL_STAGE

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings in an environment. Raises KeyError naming a variable that is missing."""
        return cls(
            stage=environment["STAGE"],
            region=environment["AWS_REGION"],
            ledger_table=environment.get("LEDGER_TABLE", ""),
            subscriptions_table=environment.get("SUBSCRIPTIONS_TABLE", ""),
            sweeps_queue_url=environment.get("SWEEPS_QUEUE_URL", ""),
            allocations_queue_url=environment.get("ALLOCATIONS_QUEUE_URL", ""),
            expiries_queue_url=environment.get("EXPIRIES_QUEUE_URL", ""),
        )


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings.read(os.environ)
