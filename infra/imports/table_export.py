"""Reads a table that DynamoDB has exported to S3: there, or a copy of it on this machine.

`aws dynamodb export-table-to-point-in-time` leaves in `<prefix>/AWSDynamoDB/<id>/`

    manifest-summary.json   of which table, as of when, how many items, in which form
    manifest-files.json     for each data file a line: its key, its items, its MD5
    data/<name>.json.gz     items, one a line and in no order: {"Item": {"user_id": {"S": "42"}}}

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html

Nothing else is read or listed: the right to get these objects is enough. Only the MD5 of the two
checksums in the list of files is compared. The other, S3's ETag, changes when a file is copied or
encrypted with another key.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

from botocore.exceptions import ClientError

from chalicelib.domain.damage import Damage, count, text, value_of
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import shown
from chalicelib.domain.instants import parse_instant
from chalicelib.store.database import Item
from chalicelib.store.reading import as_text
from infra.faults import FAULTS
from infra.session import Clients

SUMMARY = "manifest-summary.json"
FILES = "manifest-files.json"

FORM = "DYNAMODB_JSON"
"""The only supported format of data files; the other is Amazon Ion."""

FULL = "FULL_EXPORT"
"""The kind of export that has the whole table; exports that name no kind are full, too."""

_BUCKET = re.compile(
    rf"s3://([a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9])/(.*?[^/])(?:/{re.escape(SUMMARY)})?/*"
)
_TABLE = re.compile(
    r"arn:[a-z-]+:dynamodb:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):table/(?P<name>[\w.-]+)"
)
# Only names inside the folder of the export.
_DATA_FILE = re.compile(r"(?:.*/)?(data/[\w-]+\.json\.gz)", re.ASCII)

_MISSING = ("NoSuchBucket", "NoSuchKey", "404")
_REFUSED = ("AccessDenied", "403")


class ExportError(Exception):
    """There is no such export, or it is unsuitable; the message says why."""


class Body(Protocol):
    """A file or an S3 object, read from beginning to end."""

    def read(self, size: int = ..., /) -> bytes:
        """The next bytes, at most so many; none at the end."""

    def close(self) -> None:
        """Closes it."""


class Place(Protocol):
    """Where an export is; as text, it is written as a person would write it."""

    def open(self, name: str) -> Body:
        """One of its files. Raises `ExportError` if it does not exist."""


@dataclass(frozen=True)
class Bucket:
    """A bucket of S3, and the prefix of all keys of the export."""

    client: Any
    name: str
    prefix: str

    def open(self, name: str) -> Body:
        """One of its files. Raises `ExportError` if it does not exist or may not be read."""
        key = f"{self.prefix}/{name}"
        try:
            body: Body = self.client.get_object(Bucket=self.name, Key=key)["Body"]
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING:
                raise ExportError(f"there is no s3://{self.name}/{key}") from error
            if code in _REFUSED:
                raise ExportError(
                    f"S3 does not give you s3://{self.name}/{key}: it is not there, or you lack "
                    f"s3:GetObject, or kms:Decrypt for its key ({error})"
                ) from error
            raise
        return body

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}"


@dataclass(frozen=True)
class Folder:
    """A folder of this machine with the objects that S3 had under the export's prefix."""

    path: Path

    def open(self, name: str) -> Body:
        """One of its files. Raises `ExportError` if it cannot be opened."""
        try:
            return (self.path / name).open("rb")
        except OSError as error:
            raise ExportError(f"{self.path / name}: {error.strerror}") from error

    def __str__(self) -> str:
        return str(self.path)


class DataFile(NamedTuple):
    """A data file: its name in the export, how many items it has, and its MD5 in base64."""

    name: str
    items: int
    md5: str


class Table(NamedTuple):
    """A table, as its ARN names it."""

    region: str
    account: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} in account {self.account}, region {self.region}"


class Summary(NamedTuple):
    """The metadata of an export. ``at``: it contains everything written until then."""

    table: Table
    at: datetime
    items: int


@dataclass(frozen=True)
class TableExport:
    """A full export."""

    place: Place
    summary: Summary
    files: tuple[DataFile, ...]

    def read(self, *keys: str) -> Iterator[Item]:
        """Every item, in no order; ``keys``: text attributes that each must have.

        The checksum of a file is compared at its end, so that no file is read twice or kept. So use
        results only after all items have been read. Raises `ExportError`.
        """
        for file in self.files:
            yield from self._items_of(file, keys)

    def _items_of(self, file: DataFile, keys: tuple[str, ...]) -> Iterator[Item]:
        lines = 0
        with closing(self.place.open(file.name)) as body:
            raw = _Summed(body)
            try:
                for line in gzip.GzipFile(fileobj=cast(IO[bytes], raw), mode="rb"):
                    lines += 1
                    yield parse_line(line, keys)
            except FAULTS:
                raise  # some of them are subclasses of OSError
            except (Damage, EOFError, OSError, zlib.error) as error:
                where = f"line {lines}: " if isinstance(error, Damage) else ""
                raise ExportError(self._damaged(file, f"{where}{error}")) from error
        if raw.md5 != file.md5:
            raise ExportError(self._damaged(file, f"its MD5 is {raw.md5} and not {file.md5}"))
        if lines != file.items:
            raise ExportError(self._damaged(file, f"it has {lines:,} items, not {file.items:,}"))

    def _damaged(self, file: DataFile, why: str) -> str:
        return f"{self.place}/{file.name} is not as DynamoDB wrote it ({why}); nothing is counted"


class _Summed:
    """The bytes of a file, and their MD5 so far."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1, /) -> bytes:
        data = self._body.read(size)
        self._md5.update(data)
        return data

    @property
    def md5(self) -> str:
        return base64.b64encode(self._md5.digest()).decode()


def place_of(field: str, where: str, client: Clients) -> Place:
    """The place that a person names: s3://bucket/prefix/AWSDynamoDB/id, or a folder.

    The path of its summary also works: `ExportManifest` names an export by it. Raises
    `InvalidInput`.
    """
    if found := _BUCKET.fullmatch(where):
        return Bucket(client("s3"), found[1], found[2])
    folder = where.rstrip("/").removesuffix(f"/{SUMMARY}")
    if not folder or "://" in where:
        message = f"must be s3://bucket/prefix/AWSDynamoDB/id or a folder; is {shown(where)}"
        raise InvalidInput.of(field, message)
    return Folder(Path(folder))


def find(place: Place) -> TableExport:
    """The full export in a place. Raises `ExportError`."""
    try:
        summary = parse_summary(_read(place, SUMMARY))
        files = parse_files(_read(place, FILES))
    except Damage as error:
        raise ExportError(f"{place} {error}") from error
    listed = sum(file.items for file in files)
    if listed != summary.items:
        raise ExportError(
            f"{place} has {summary.items:,} items, and its files have {listed:,}: {FILES} is not "
            "whole, or of another export"
        )
    return TableExport(place, summary, files)


def parse_summary(raw: bytes) -> Summary:
    """Reads the summary of a full export in our format. Raises `Damage`."""
    with _in(SUMMARY):
        values = _object(raw)
        kind = value_of({"exportType": FULL, **values}, "exportType", text)
        form = value_of(values, "outputFormat", text)
    if kind != FULL or "exportFromTime" in values:
        raise Damage(
            f"is an incremental export ({kind}), which has only what changed between two instants: "
            "name a full one"
        )
    if form != FORM:
        raise Damage(f"is in the form {form}, and only {FORM} is read")
    with _in(SUMMARY):
        return Summary(
            value_of(values, "tableArn", _table),
            value_of(values, "exportTime", partial(parse_instant, "exportTime")),
            value_of(values, "itemCount", count),
        )


def parse_files(raw: bytes) -> tuple[DataFile, ...]:
    """The data files of an export. Raises `Damage`."""
    with _in(FILES):
        files = tuple(_data_file(_object(line)) for line in raw.splitlines() if line.strip())
        if len({file.name for file in files}) != len(files):
            raise Damage("names a file twice")
    return files


def parse_line(raw: bytes, keys: tuple[str, ...]) -> Item:
    """The item of a line, which must have these keys. Raises `Damage`."""
    item: Item = value_of(_object(raw), "Item", _attributes)
    for key in keys:
        value_of(item, key, as_text)
    return item


def _data_file(values: dict[str, Any]) -> DataFile:
    return DataFile(
        value_of(values, "dataFileS3Key", _name),
        value_of(values, "itemCount", count),
        value_of(values, "md5Checksum", text),
    )


@contextmanager
def _in(manifest: str) -> Iterator[None]:
    """Adds the manifest's name to errors about damage."""
    try:
        yield
    except Damage as error:
        raise Damage(f"has a {manifest} that cannot be read: {error}") from error


def _read(place: Place, name: str) -> bytes:
    with closing(place.open(name)) as body:
        try:
            return body.read()
        except FAULTS:
            raise  # some of them are subclasses of OSError
        except OSError as error:
            raise ExportError(f"{place}/{name}: {error.strerror}") from error


def _object(raw: bytes) -> dict[str, Any]:
    try:
        values = json.loads(raw)
    except (RecursionError, ValueError) as error:
        raise Damage("it is no JSON") from error
    return _attributes(values)


def _attributes(values: object) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise Damage("is no object")
    return values


def _table(value: object) -> Table:
    found = _TABLE.fullmatch(text(value))
    if not found:
        raise Damage("is no ARN of a table")
    return Table(**found.groupdict())


def _name(value: object) -> str:
    found = _DATA_FILE.fullmatch(text(value))
    if not found:
        raise Damage("is no data/<name>.json.gz")
    return found[1]
