"""Packages the source tree for CloudFormation: one template and one Lambda archive.

Chalice does the work. This module adds three things. The archive is *small*: nine tenths of the
installed requirements are botocore's descriptions of services that Credits never calls. It is
*reproducible*: the same source gives the same bytes, so a deployment that changes nothing is
recognised. The requirements are installed once, not again for every change of the code.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.price_list import PriceList
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.prices_file import PriceListError, parse_price_list
from chalicelib.settings import LOCAL_STAGE
from infra.deployment import (
    alarm_resources,
    caller_limits,
    dashboard,
    gateway,
    tls,
    tracing,
    webhooks,
)

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"

# The services that a Lambda of Credits may call. A client for another service fails with
# UnknownServiceError, also on the emulator, which runs the functions from the same archive.
BOTOCORE_SERVICES = frozenset(
    {"cloudwatch", "dynamodb", "events", "s3", "secretsmanager", "sesv2", "sqs", "sts"}
)

PLANS = "chalicelib/plans.toml"
"""The catalogue, in the source tree and in the archive."""

PRICES = "chalicelib/stripe.toml"
"""The meaning of Stripe's prices, in the source tree and in the archive."""

# Lambda's platform; only wheels for it, or for any platform, are packed.
_LAMBDA = "manylinux2014_x86_64"

LAMBDA_PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
"""The Pythons from 3.11 on that Lambda runs: `Runtime` in its API, as botocore describes it."""

TESTED_PYTHONS = ("3.11",)
"""The Pythons on which .github/workflows runs the whole test suite. Add another one there first."""

# Files without code that nothing reads: Swagger's page, which Powertools would serve for routes of
# its own; a second database of timezones; pip's records, with digests of all files.
_UNUSED = (
    "aws_lambda_powertools/event_handler/openapi/swagger_ui/*.min.*",
    "dateutil/zoneinfo/dateutil-zoneinfo.tar.gz",
    "*.dist-info/RECORD",
)

# Raise it when the steps after installing the requirements change.
_LAYOUT = 8

# The parts of the source tree that Chalice must see.
_SOURCES = ("app.py", "chalicelib", ".chalice", "infra/resources.yaml")

# The oldest time that a zip file can hold; every member gets it.
_EPOCH = (1980, 1, 1, 0, 0, 0)

# The address of a function's code in the template that Chalice writes.
_FUNCTION = "AWS::Serverless::Function"


class PackagingError(Exception):
    """The source tree could not be packaged; the message says why and what to do."""


@dataclass(frozen=True)
class Package:
    """The result of `package`: a template that does not name its code yet, and the code."""

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


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Raises `PackagingError` unless the functions may run on this Python in AWS.

    Chalice and pip package for the Python that runs them. The emulator runs the functions on the
    same Python, so any will do for the local stage.
    """
    python = ".".join(map(str, version))
    if python in TESTED_PYTHONS:
        return
    why = "was never tested with it" if python in LAMBDA_PYTHONS else "cannot run it on Lambda"
    tested = " or ".join(TESTED_PYTHONS)
    raise PackagingError(
        f"This is Python {python}, and the functions would run on the same. Credits {why}: deploy "
        f"with {tested}.\n"
        f"make clean, then: make PYTHON=python{TESTED_PYTHONS[-1]} deploy STAGE=...\n"
        "docs/deploying.md says how to have another one tested."
    )


def stages(root: Path = ROOT) -> list[str]:
    """The stages that can be deployed: those of `.chalice/config.json`."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    return list(config["stages"])


def catalogue(root: Path = ROOT) -> PlanCatalogue:
    """The plans of the source tree. Raises `PackagingError` with each mistake and its line."""
    try:
        return parse_catalogue((root / PLANS).read_text(encoding="utf-8"), PLANS)
    except CatalogueError as error:
        raise PackagingError(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PackagingError(f"{PLANS} cannot be read: {error}") from error


def price_list(root: Path = ROOT) -> PriceList:
    """The prices of the source tree. Raises `PackagingError` with each mistake and its line."""
    plans = catalogue(root)
    try:
        return parse_price_list((root / PRICES).read_text(encoding="utf-8"), plans, PRICES)
    except PriceListError as error:
        raise PackagingError(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PackagingError(f"{PRICES} cannot be read: {error}") from error


def package(stage: str, output: Path, *, region: str, root: Path = ROOT) -> Package:
    """Package the source tree at `root` for `stage` into the empty directory `output`.

    Raises `PackagingError` when the plans or the prices have a mistake, or with the output of pip
    or Chalice when one of them fails.
    """
    prices = price_list(root).prices
    project = output / "project"
    for source in _SOURCES:
        _copy(root / source, project / source)
    _complete_policies(project / ".chalice")
    # Chalice copies vendor/ into the archive unchanged. It installs nothing, because this copy has
    # no requirements.txt.
    dependencies = _dependencies(root / "requirements.txt", _platform_of(stage))
    (project / "vendor").symlink_to(dependencies)
    _run(
        "chalice package",
        [
            *(sys.executable, "-c", "import sys; from chalice.cli import main; sys.exit(main())"),
            *("package", "--stage", stage),
            *("--merge-template", str(project / "infra" / "resources.yaml")),
            str(output),
        ],
        directory=project,
        # The region is only part of service principals. Chalice imports app.py for the functions.
        environment={"AWS_DEFAULT_REGION": region, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    template = yaml.safe_load((output / "sam.yaml").read_text())
    gateway.complete(template)
    if prices:
        webhooks.complete(template)
    caller_limits.complete(template)
    alarm_resources.complete(template)
    dashboard.complete(template)
    tracing.complete(template)
    tls.complete(template)
    archive = output / "credits.zip"
    _make_reproducible(output / "deployment.zip", archive)
    return Package(template=template, archive=archive)


def _complete_policies(folder: Path) -> None:
    """Completes the policies in a folder: they refer to shared statements by ``Sid``.

    A policy's own values in such a statement take precedence over the shared ones.
    """
    shared = (folder / "shared-rights.json").read_text(encoding="utf-8")
    for file in folder.glob("policy-*.json"):
        function = file.stem.removeprefix("policy-")
        rights = json.loads(shared.replace("FUNCTION", function))
        policy = json.loads(file.read_text(encoding="utf-8"))
        policy["Statement"] = [rights.get(each["Sid"], {}) | each for each in policy["Statement"]]
        file.write_text(json.dumps(policy), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        generated = shutil.ignore_patterns("__pycache__", "deployments", "deployed")
        shutil.copytree(source, target, ignore=generated)
    else:
        shutil.copy(source, target)


def _platform_of(stage: str) -> str | None:
    """The platform of a stage's functions, by pip's name; None is this machine.

    The emulator runs the functions on this machine. It may be a Mac, where code compiled for Lambda
    does not run.
    """
    is_like_lambda = (
        sys.platform == "linux"
        and platform.machine() == "x86_64"
        and platform.libc_ver()[0] == "glibc"
    )
    return _LAMBDA if stage != LOCAL_STAGE or is_like_lambda else None


def _dependencies(requirements: Path, target_platform: str | None) -> Path:
    """The folder of the requirements for a platform; installs them unless they are there."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = (
        f"{_LAYOUT} {python} {target_platform} {sorted(BOTOCORE_SERVICES)} "
        f"{requirements.read_text()}"
    )
    directory = BUILD / "dependencies" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    if directory.exists():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        installed = Path(temporary) / "installed"
        _run(
            "pip install",
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--only-binary", ":all:", "--python-version", python),
                *(("--platform", target_platform) if target_platform else ()),
                *("--no-compile", "--target", str(installed)),
                *("--require-hashes", "--requirement", str(requirements)),
            ],
            directory=requirements.parent,
            environment={},
        )
        shutil.rmtree(installed / "bin", ignore_errors=True)
        _strip_descriptions(installed / "botocore" / "data")
        # Keep only the part of boto3 that its import needs: nothing calls AWS through it.
        for part in ("data", "examples"):
            shutil.rmtree(installed / "boto3" / part, ignore_errors=True)
        for unused in _UNUSED:
            for file in installed.glob(unused):
                file.unlink()
        # Compiling is most of a cold start: compiled here, 0.8 s of imports become 0.3 s. The file
        # system of a function is read-only, so modules not compiled here are compiled every time.
        _run(
            "compileall",
            [
                *(
                    sys.executable,
                    "-m",
                    "compileall",
                    "-q",
                    "--invalidation-mode",
                    "unchecked-hash",
                ),
                *("-s", str(installed), str(installed)),
            ],
            directory=installed,
            environment={},
        )
        # If another process installed them meanwhile, it installed the same files.
        with suppress(OSError):
            installed.rename(directory)
    return directory


def _strip_descriptions(data: Path) -> None:
    """Removes from botocore's descriptions of services what Credits does not use.

    A cold start reads them. Removing the other services' endpoints, the documentation of every
    shape and the examples saves a fifth of its CPU (`make bench`).
    """
    prefixes = set()
    for service in data.iterdir():
        if not service.is_dir():
            continue  # files concern all services
        if service.name not in BOTOCORE_SERVICES:
            shutil.rmtree(service)
            continue
        # A client takes the newest version of a service's API; EventBridge has an older one, too.
        for older in sorted(version for version in service.iterdir() if version.is_dir())[:-1]:
            shutil.rmtree(older)
        for examples in service.glob("*/examples-1.json*"):
            examples.unlink()
        for file in service.glob("*/service-2.json.gz"):
            model = _undocumented(json.loads(gzip.decompress(file.read_bytes())))
            for parameter in model.get("clientContextParams", {}).values():
                parameter["documentation"] = ""  # the one text that botocore insists on
            prefixes.add(model["metadata"]["endpointPrefix"])
            # The file contains no time, so the same requirements give the same bytes.
            file.write_bytes(gzip.compress(json.dumps(model).encode(), mtime=0))
    endpoints = json.loads((data / "endpoints.json").read_text())
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services.keys() & prefixes}
    (data / "endpoints.json").write_text(json.dumps(endpoints, sort_keys=True))


def _undocumented(model: Any) -> Any:
    """A service's description without its documentation. Members called "documentation" stay."""
    if isinstance(model, dict):
        return {
            name: _undocumented(value)
            for name, value in model.items()
            if not (name == "documentation" and isinstance(value, str))
        }
    return [_undocumented(value) for value in model] if isinstance(model, list) else model


def _run(what: str, command: list[str], *, directory: Path, environment: dict[str, str]) -> None:
    run = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise PackagingError(f"{what} failed:\n{run.stdout}{run.stderr}".rstrip())


def _make_reproducible(source: Path, target: Path) -> None:
    """Copy the archive `source` to `target` without anything that depends on the time."""
    with (
        zipfile.ZipFile(source) as packed,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        contents = {name: packed.read(name) for name in packed.namelist()}
        contents |= _compiled(contents)
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, date_time=_EPOCH)
            member.external_attr = 0o644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, contents[name])


def _compiled(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Compiles the modules that are not compiled yet: ours, and the runtime that Chalice adds.

    A function's file system is read-only, so it would compile them again at every cold start.
    """
    compiled: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary) / "source.py", Path(temporary) / "source.pyc"
        for name, text in contents.items():
            path = Path(name)
            cache = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
            if path.suffix != ".py" or str(cache) in contents:
                continue
            source.write_bytes(text)
            # Tracebacks name the module by its path in Lambda.
            py_compile.compile(
                str(source),
                cfile=str(target),
                dfile=f"/var/task/{name}",
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            compiled[str(cache)] = target.read_bytes()
    return compiled
