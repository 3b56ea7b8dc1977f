"""Finds the export of a table of a stage, and reads it behind a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.progress import Progress

from chalicelib.domain.instants import format_instant
from chalicelib.store.database import Item
from infra import reach

from .table_export import FORM, ExportError, TableExport, find, place_of


class Exported(NamedTuple):
    """An export of a table of the stage, and the option that names it."""

    field: str
    table: str
    export: TableExport

    def read(self, progress: Progress, what: str, *keys: str) -> Iterator[Item]:
        """Its items, behind a progress bar. Raises `ExportError`."""
        items = self.export.read(*keys)
        task = progress.add_task(what, total=self.export.summary.items)
        with advised(self.field, self.table):
            yield from progress.track(items, task_id=task)

    def __str__(self) -> str:
        items, at = self.export.summary.items, format_instant(self.export.summary.at)
        return f"{self.export.place}: {items:,} items, the table {self.table} at {at}"


def find_in(stage: reach.Reach, field: str, where: str, table: str) -> Exported:
    """The export of a table of the stage. Raises `ExportError`, and `InvalidInput`."""
    place = place_of(field, where, stage.client)
    with advised(field, table):
        export = find(place)
        its = export.summary.table
        here = stage.account and (stage.services.settings.region, stage.account)
        if its.name != table or (here and (its.region, its.account) != here):
            which = f" in account {here[1]}, region {here[0]}" if here else ""
            raise ExportError(
                f"{place} is of the table {its}, and stage {stage.stage} has {table}{which}"
            )
    return Exported(field, table, export)


@contextmanager
def advised(field: str, table: str) -> Iterator[None]:
    """Adds to errors of an export which option named it, and how to make an export."""
    try:
        yield
    except ExportError as error:
        raise ExportError(
            f"{field}: {error}\nTo make one, of now: aws dynamodb export-table-to-point-in-time "
            f"--export-format {FORM} --s3-bucket BUCKET --table-arn $(aws dynamodb describe-table "
            f"--table-name {table} --query Table.TableArn --output text)"
        ) from error
