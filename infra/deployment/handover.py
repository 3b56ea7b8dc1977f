"""A package made in one place, and deployed from another place with the rights to deploy.

`make package` prints the package's digest. `make deploy PACKAGE=build/package DIGEST=...` deploys
exactly those bytes or nothing. Packaging runs Chalice, the app and its imports, and needs no
credentials. Deploying has credentials and runs none of these. Send the digest separately from the
files.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from infra.deployment import packaging
from infra.deployment.packaging import Package, PackagingError

TEMPLATE, ARCHIVE = "template.json", "credits.zip"

_DIGEST = re.compile("[0-9a-f]{64}")


def digest(package: Package, stage: str, region: str) -> str:
    """The digest of a package: it covers its stage, region, template and archive."""
    parts = (stage, region, packaging.digest_of(package.template), package.digest)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def save(package: Package, folder: Path) -> None:
    """Puts a package into a folder, and replaces an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TEMPLATE).write_text(json.dumps(package.template, indent=1), encoding="utf-8")
    shutil.copyfile(package.archive, folder / ARCHIVE)


def load(
    folder: Path, expected: str, stage: str, region: str, output: Path | None = None
) -> Package:
    """The package in a folder. Raises `PackagingError` unless it is exactly the one expected.

    ``output``: a private folder; the archive is copied there before the check, so later changes of
    the other folder do not matter.
    """
    again = f"Make it again: make package STAGE={stage} REGION={region} OUT={folder}"
    if not _DIGEST.fullmatch(expected):
        raise PackagingError(f"DIGEST must be the 64 digits that make package printed. {again}")
    try:
        template = json.loads((folder / TEMPLATE).read_text(encoding="utf-8"))
        archive = folder / ARCHIVE
        if output is not None:
            archive = shutil.copyfile(archive, output / ARCHIVE)
        package = Package(template, archive)
        found = digest(package, stage, region)
    except (OSError, ValueError) as error:
        raise PackagingError(f"The package in {folder} cannot be read: {error}\n{again}") from error
    if found != expected:
        raise PackagingError(
            f"The package in {folder} is not the one that was made for stage {stage} in {region}: "
            f"its digest is {found}, and DIGEST is {expected}. Nothing was deployed. {again}"
        )
    return package
