"""Reads known weaknesses of packages from a file, for machines that cannot ask PyPI.

The file is OSV's export of all advisories about packages of PyPI, a zip archive with a JSON
document for each (https://google.github.io/osv.dev/data/#data-dumps). Fetch it on a machine with a
network and copy it over. The documents are explained at https://ossf.github.io/osv-schema/.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version

SOURCE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"

OLDEST = timedelta(days=14)
"""The oldest file to accept: OSV adds new advisories every day."""

_LARGEST = 20_000_000
_FIRST = Version("0.dev0")

Json = Any


class AdvisoriesError(Exception):
    """The file is not reliable; the message says why and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}\nFetch it again where there is a network: curl -O {SOURCE}")


class Advisory(NamedTuple):
    """A known weakness of a version of a package; the versions in ``fixed`` fix it."""

    package: str
    version: str
    id: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        advice = f"mended in {', '.join(self.fixed)}" if self.fixed else "no version mends it yet"
        return f"{self.package} {self.version}: {self.id}, {advice}"


class Looked(NamedTuple):
    """The weaknesses found, the number of advisories, and the date of the newest one."""

    found: list[Advisory]
    advisories: int
    of: datetime


def normal(name: str) -> str:
    """A name in PyPI's spelling (Python Packaging User Guide, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(requirements: str) -> dict[str, str]:
    """The packages of a list of requirements, with their versions."""
    found = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", requirements, re.MULTILINE
    )
    return {normal(name): version for name, version in found}


def look(file: Path, packages: Mapping[str, str], now: datetime) -> Looked:
    """What the advisories of a file say about packages. Raises `AdvisoriesError`.

    Refuses a file that is too old or has a document that cannot be understood: finding nothing in
    it would prove nothing.
    """
    found: dict[str, Advisory] = {}
    known: set[tuple[str, str]] = set()
    count, newest = 0, datetime.min.replace(tzinfo=UTC)
    for name, document in _documents(file):
        try:
            newest = max(newest, _instant(document["modified"]))
            count += 1
            if document.get("withdrawn"):
                continue
            for advisory in _of(document, packages):
                # Several advisories can be about one weakness: the first is enough.
                names = {(advisory.package, each) for each in _names(document)}
                if known.isdisjoint(names):
                    found[f"{advisory.package} {advisory.id}"] = advisory
                known |= names
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"{file}: {name} is no advisory of OSV ({type(error).__name__}: {error})"
            raise AdvisoriesError(reason) from error
    if not count:
        raise AdvisoriesError(f"{file} has no advisory in it.")
    if now - newest > OLDEST:
        raise AdvisoriesError(
            f"The advisories of {file} are of {newest:%Y-%m-%d}: {(now - newest).days} days old, "
            f"and at most {OLDEST.days} are taken."
        )
    return Looked(sorted(found.values()), count, newest)


def _documents(file: Path) -> Iterator[tuple[str, Json]]:
    """The documents of the archive, in the order of their names."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in sorted(archive.infolist(), key=lambda member: member.filename):
                if member.filename.endswith(".json"):
                    if member.file_size > _LARGEST:
                        raise AdvisoriesError(f"{file}: {member.filename} is too large.")
                    yield member.filename, json.loads(archive.read(member))
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError, EOFError) as error:
        raise AdvisoriesError(f"{file} cannot be read: {error}") from error


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _names(document: Json) -> Iterator[str]:
    yield str(document["id"])
    yield from map(str, document.get("aliases") or ())


def _of(document: Json, packages: Mapping[str, str]) -> Iterator[Advisory]:
    """What a document says about the packages."""
    for affected in document.get("affected") or ():
        package = affected.get("package") or {}
        name = normal(package.get("name") or "")
        if package.get("ecosystem") != "PyPI" or name not in packages:
            continue
        version = Version(packages[name])
        ranges = [each for each in affected.get("ranges") or () if each["type"] != "GIT"]
        versions = affected.get("versions") or []
        # An advisory without versions must be assumed to cover all of them.
        is_affected = (
            not (ranges or versions)
            or _is_listed(version, versions)
            or any(_is_within(version, each["events"]) for each in ranges)
        )
        if is_affected:
            events = [event for each in ranges for event in each["events"]]
            fixed = {Version(event["fixed"]) for event in events if "fixed" in event}
            later = tuple(str(each) for each in sorted(fixed) if each > version)
            yield Advisory(name, packages[name], str(document["id"]), later)


def _is_listed(version: Version, versions: Iterable[str]) -> bool:
    for each in versions:
        try:
            if Version(each) == version:
                return True
        except InvalidVersion:
            if not isinstance(each, str):
                raise
            # A version from before PEP 440: ours are newer.
    return False


def _is_within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """Whether a range affects a version: OSV evaluates the events of a range in order."""
    at = sorted(
        (
            (_FIRST if of == "0" else Version(of), kind)
            for event in events
            for kind, of in event.items()
        ),
        key=lambda event: (event[0], event[1] == "introduced"),
    )
    is_affected = False
    for where, kind in at:
        if kind == "introduced" and version >= where:
            is_affected = True
        elif (kind == "fixed" and version >= where) or (
            kind == "last_affected" and version > where
        ):
            is_affected = False
    return is_affected
