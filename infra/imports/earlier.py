"""Compares a file with earlier runs: a row that comes again is right, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import Unreadable
from chalicelib.services import Services
from infra.imports.csv_file import Finding, Row
from infra.imports.importing import Watch, read_many
from infra.imports.receivers import cannot_read


class Asked(NamedTuple):
    """A row, and the request that it makes."""

    row: Row
    request: Mapping[str, object]


class Earlier(NamedTuple):
    """The new rows, the number written before, and those that are wrong."""

    new: list[Row]
    written: int
    findings: list[Finding]


def compared_with_earlier(
    services: Services,
    column: str,
    asked: Mapping[str, Asked],
    otherwise: Callable[[Row, LedgerEntry], Finding],
    watch: Watch,
    title: str,
) -> Earlier:
    """Looks for operations that were performed before.

    ``otherwise``: finds what is wrong with a row whose operation was performed with other values.
    ``column``: the one that names the operation.
    """
    before = read_many(
        list(asked),
        lambda operations: services.ledger.performed_before(
            {operation: asked[operation].request for operation in operations}
        ),
        watch(title, len(asked)),
    )
    new: list[Row] = []
    findings: list[Finding] = []
    written = 0
    for operation, (row, _) in asked.items():
        performed = before.get(operation)
        if performed is None:
            new.append(row)
        elif isinstance(performed, Unreadable):
            findings.append(cannot_read(column, performed, [row]))
        elif performed.is_same:
            written += 1
        else:
            findings.append(otherwise(row, performed.entry))
    return Earlier(new, written, findings)
