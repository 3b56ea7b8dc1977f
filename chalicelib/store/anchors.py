"""The anchors bucket: the heads of all ledgers, under Object Lock.

    heads/<instant>-<digest>.gz    of the entries of one batch of the ledger's stream
    digests/<instant>.gz           of all ledgers: the digest before it, and the heads since

Every day the digest of the day before is merged with the heads kept since, a line at a time. This
does not read the table, and needs no more memory as the ledgers grow. A late batch has the instant
at which it was written, so it is in the digest of the next day.

A lock protects a version of an object, not its name: a writer to the bucket can put another version
on top. So we read the oldest version. (Amazon S3 User Guide, "How S3 Object Lock works",
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html)
"""

import gzip
import hashlib
import heapq
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple

from botocore.exceptions import ClientError

from chalicelib.domain.anchors import Head, in_order, latest, user_digest
from chalicelib.domain.errors import AnchorUnreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.verification import Anchor
from chalicelib.settings import Settings
from chalicelib.store.reports import s3_client

HEADS_IN_MEMORY = 100_000
"""How many heads are sorted at once; more are sorted in parts, which are then merged."""

_HEADS = "heads/"
_DIGESTS = "digests/"


class Anchored(NamedTuple):
    """The anchors of some users by their ids, and when they were taken (None without a digest)."""

    taken_at: datetime | None
    anchors: Mapping[str, Anchor]


class Folded(NamedTuple):
    """The result of making a digest: heads that contradict earlier ones, and unreadable objects."""

    contradictions: list[Head]
    unreadable: list[AnchorUnreadable]


class Anchors:
    """The heads of ledgers, and the digests of all of them."""

    def __init__(self, settings: Settings, client: Any = None) -> None:
        self._bucket = settings.anchors_bucket
        self._client: Any = client or s3_client(settings)

    def keep(self, heads: Iterable[Head], now: datetime) -> None:
        """Keeps the heads of a batch.

        Keeping a batch again makes one more object, which changes nothing.
        """
        lines = "".join(head.line() for head in sorted(heads)).encode()
        name = hashlib.sha256(lines).hexdigest()[:16]
        with BytesIO(gzip.compress(lines, mtime=0)) as file:
            self._put(f"{_HEADS}{format_instant(now)}-{name}.gz", file)

    def fold(self, until: datetime) -> Folded:
        """Makes the digest of an instant, of all heads kept before it.

        A digest is made once: if it or a later one exists, nothing happens.
        """
        digests = self._objects(_DIGESTS)
        newest = max(digests, default=None)
        key = f"{_DIGESTS}{format_instant(until)}.gz"
        folded = Folded([], [])
        if newest is not None and newest >= key:
            return folded
        batches = self._batches(_instant_of(newest) if newest else None, until)
        with TemporaryDirectory() as folder:
            parts = [*self._sorted_parts(batches, Path(folder), folded)]
            before = self._read(newest, digests[newest]) if newest else ()
            merged = heapq.merge(before, *map(_read_file, parts), key=in_order)
            digest = Path(folder) / "digest"
            _write_file(digest, latest(merged, folded.contradictions.append))
            with digest.open("rb") as file:
                self._put(key, file)
        return folded

    def find(self, user_ids: Iterable[str], before: datetime | None = None) -> Anchored:
        """The anchors of users in the newest digest, or in the newest from before an instant."""
        ids = {user_digest(user_id): user_id for user_id in user_ids}
        taken_at, heads = self.newest(before)
        return Anchored(
            taken_at, {ids[head.user]: head.anchor for head in heads if head.user in ids}
        )

    def newest(self, before: datetime | None = None) -> tuple[datetime | None, Iterable[Head]]:
        """The instant of the newest digest (from before an instant), and its heads, in order."""
        digests = self._objects(_DIGESTS)
        bound = f"{_DIGESTS}{format_instant(before)}" if before else None
        key = max((key for key in digests if bound is None or key < bound), default="")
        if not key:
            return None, ()
        return _instant_of(key), self._read(key, digests[key])

    def _batches(self, since: datetime | None, until: datetime) -> dict[str, str]:
        """The batches of ``[since, until)``, by their keys; listed day by day."""
        days = until.toordinal() - since.toordinal() + 1 if since else 0
        prefixes = [f"{_HEADS}{(until - timedelta(days=n)).date()}" for n in range(days)[::-1]]
        first = f"{_HEADS}{format_instant(since)}" if since else _HEADS
        return {
            key: version
            for prefix in prefixes or [_HEADS]
            for key, version in self._objects(prefix).items()
            if first <= key < f"{_HEADS}{format_instant(until)}"
        }

    def _sorted_parts(
        self, batches: Mapping[str, str], folder: Path, folded: Folded
    ) -> Iterator[Path]:
        def heads() -> Iterator[Head]:
            for key, version in batches.items():
                try:
                    yield from self._read(key, version)
                except AnchorUnreadable as error:
                    folded.unreadable.append(error)

        waiting = heads()
        while part := sorted(islice(waiting, HEADS_IN_MEMORY), key=in_order):
            path = folder / f"part-{len([*folder.iterdir()])}"
            _write_file(path, part)
            yield path

    def _objects(self, prefix: str) -> dict[str, str]:
        """The oldest version of each object with this key prefix, in the order of their keys."""
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        # S3 lists the newest version of a key first.
        return {
            found["Key"]: found["VersionId"] for page in pages for found in page.get("Versions", ())
        }

    def _read(self, key: str, version: str) -> Iterator[Head]:
        """Raises `AnchorUnreadable` while it is iterated."""
        answer = self._client.get_object(Bucket=self._bucket, Key=key, VersionId=version)
        try:
            yield from _heads_of(answer["Body"])
        except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
            raise AnchorUnreadable(key, error) from error

    def _put(self, key: str, file: BinaryIO) -> None:
        """Writes a new object. S3 requires a checksum of a locked object.

        (Amazon S3 API Reference, PutObject,
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html)
        """
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=file,
                ChecksumAlgorithm="CRC32",
                IfNoneMatch="*",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise


def _instant_of(digest: str) -> datetime:
    return parse_instant("digest", digest.removeprefix(_DIGESTS).removesuffix(".gz"))


def _heads_of(file: Any) -> Iterator[Head]:
    with gzip.open(file, "rt", encoding="ascii", newline="\n") as lines:
        for line in lines:
            yield Head.parse(line)


def _read_file(path: Path) -> Iterator[Head]:
    with path.open("rb") as file:
        yield from _heads_of(file)


def _write_file(path: Path, heads: Iterable[Head]) -> None:
    """The same heads give the same bytes, whenever they are written."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as lines:
        lines.writelines(head.line().encode() for head in heads)
