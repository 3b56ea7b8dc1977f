"""The services of a deployed stage, for commands that use them from outside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from chalicelib.domain.plans import PlanCatalogue
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.services import Services
from chalicelib.settings import Settings
from chalicelib.store.anchors import Anchors
from chalicelib.store.reports import Reports
from infra.deployment import packaging
from infra.deployment.deployed import deployed_plans
from infra.deployment.errors import DeployError
from infra.session import ClientFactory, told

if TYPE_CHECKING:
    from chalicelib.store.wire.client import Client

THREADS = 32
"""How many requests a command has under way at once."""


class DeployedNames(Protocol):
    """The names of a stack's parts, by the same short keys everywhere."""

    @property
    def tables(self) -> Mapping[str, str]:
        """The names of the DynamoDB tables."""

    @property
    def queues(self) -> Mapping[str, str]:
        """The URLs of the SQS queues."""

    @property
    def buckets(self) -> Mapping[str, str]:
        """The names of the S3 buckets."""


class StageServices(Services):
    """The services of a stage, with its deployed plans: those of this checkout may differ.

    With the plans of an edited file, a command could grant months that a deployment would refuse.
    """

    def __init__(self, settings: Settings, client: ClientFactory, dynamodb: Client) -> None:
        super().__init__(settings, dynamodb=dynamodb)
        self._client = client

    @cached_property
    def catalogue(self) -> PlanCatalogue:
        """The plans on offer. Raises `AwsError` when they cannot be read."""
        stage = self.settings.stage
        with told():
            text = deployed_plans(stage, self._client("lambda"))
        try:
            return parse_catalogue(text or "", f"the deployed {packaging.PLANS}")
        except CatalogueError as error:
            raise DeployError(
                f"{error}\nUse the checkout that stage {stage} was deployed from."
            ) from error

    @cached_property
    def anchors(self) -> Anchors:
        """The anchors bucket, read with the rights of the command's user."""
        if not self.settings.anchors_bucket:
            raise DeployError(
                f"Stage {self.settings.stage} has no bucket of anchors: deploy it first."
            )
        with told():
            return Anchors(self.settings, self._client("s3"))

    @cached_property
    def reports(self) -> Reports:
        """The reports bucket, with the rights of the command's user."""
        with told():
            return Reports(self.settings, self._client("s3"))


def settings_of(stage: str, region: str, stack: DeployedNames) -> Settings:
    """The settings that the functions of a stage have, as far as commands need them."""
    tables, queues = stack.tables, stack.queues
    return Settings(
        stage=stage,
        region=region,
        ledger_table=tables["ledger"],
        subscriptions_table=tables["subscriptions"],
        sweeps_queue_url=queues["sweeps"],
        allocations_queue_url=queues["allocations"],
        expiries_queue_url=queues["expiries"],
        notifications_queue_url=queues["notifications"],
        mails_table=tables["mails"],
        edits_table=tables["edits"],
        # Stacks of earlier releases have none.
        stripe_table=tables.get("stripe", ""),
        reports_bucket=stack.buckets.get("reports", ""),
        anchors_bucket=stack.buckets.get("anchors", ""),
    )
