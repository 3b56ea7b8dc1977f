"""Turns the source tree into what CloudFormation takes: one template and one Lambda archive.

Chalice does the work. What is added here: the archive is made *reproducible*, so that the same
source gives the same bytes and a deployment that changes nothing can be recognised; and *small*,
because nine tenths of what Chalice packs is botocore's description of services that Credits never
calls.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
RESOURCES = ROOT / "infra" / "resources.yaml"
BUILD = ROOT / "build"

# The services a Lambda of Credits may call. A client for any other one fails with
# UnknownServiceError, on the emulator too, where the functions run from this very archive.
BOTOCORE_SERVICES = frozenset({"dynamodb", "sqs", "sesv2", "cloudwatch", "sts"})

# The oldest moment a zip file can state; every member gets it.
_EPOCH = (1980, 1, 1, 0, 0, 0)

# Where Chalice writes a function's code into its template.
_FUNCTION = "AWS::Serverless::Function"


class PackagingError(Exception):
    """The source tree could not be packaged; the message says why and what to do."""


@dataclass(frozen=True)
class Package:
    """What `package` made: a template that still names no code, and the code."""

    template: dict[str, Any]
    archive: Path

    @property
    def digest(self) -> str:
        """The archive's SHA-256, in hexadecimal: the same for the same source."""
        return hashlib.sha256(self.archive.read_bytes()).hexdigest()

    def template_for(self, code_uri: str) -> dict[str, Any]:
        """The template with every function's code at `code_uri` (an `s3://` address)."""
        template: dict[str, Any] = json.loads(json.dumps(self.template))
        for resource in template["Resources"].values():
            if resource["Type"] == _FUNCTION:
                resource["Properties"]["CodeUri"] = code_uri
        return template


def digest_of(template: dict[str, Any]) -> str:
    """A template's SHA-256, in hexadecimal."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()


def stages(root: Path = ROOT) -> list[str]:
    """The stages that can be deployed: those of `.chalice/config.json`."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    return list(config["stages"])


def package(stage: str, *, region: str, root: Path = ROOT, output: Path | None = None) -> Package:
    """Package the source tree for `stage`.

    Raises `PackagingError` when Chalice refuses, with what it said.
    """
    output = output or BUILD / "package" / stage
    output.mkdir(parents=True, exist_ok=True)
    _run_chalice(stage, region=region, root=root, output=output)
    template = yaml.safe_load((output / "sam.yaml").read_text())
    archive = output / "credits.zip"
    _slim(output / "deployment.zip", archive)
    return Package(template=template, archive=archive)


def _run_chalice(stage: str, *, region: str, root: Path, output: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from chalice.cli import main; sys.exit(main())",
        "package",
        *("--stage", stage),
        *("--merge-template", str(root / "infra" / "resources.yaml")),
        str(output),
    ]
    # Chalice imports app.py to find its functions; it must not write __pycache__ beside the
    # sources, which it would then pack and hash. The region only names service principals.
    environment = os.environ | {"AWS_DEFAULT_REGION": region, "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    # A requirement that could not be packed is only a remark to Chalice; in Lambda it is an outage.
    if run.returncode != 0 or "Could not install dependencies" in run.stdout + run.stderr:
        raise PackagingError(f"chalice package failed:\n{run.stdout}{run.stderr}".rstrip())


def _slim(source: Path, target: Path) -> None:
    """Copy the archive `source` to `target`, reproducibly and without what no function needs."""
    with (
        zipfile.ZipFile(source) as packed,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as slim,
    ):
        for name in sorted(_needed(packed.namelist())):
            member = zipfile.ZipInfo(name, date_time=_EPOCH)
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            slim.writestr(member, packed.read(name))


def _needed(names: Iterable[str]) -> set[str]:
    return {name for name in names if _is_needed(PurePosixPath(name).parts)}


def _is_needed(parts: tuple[str, ...]) -> bool:
    if "__pycache__" in parts:
        return False
    match parts:
        # botocore/data/<service>/<version>/…: files directly under botocore/data concern all
        # services.
        case ("botocore", "data", service, _, *_):
            return service in BOTOCORE_SERVICES
        case _:
            return True
