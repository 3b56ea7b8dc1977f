"""Looks for known weaknesses in the packaged template and in the packages of the functions.

    python -m infra security        (make security)

checkov reads the template of prod; infra/checkov.yaml lists what to ignore and why. pip-audit asks
PyPI for advisories about every package of requirements.txt. Without a network, advisories are
looked up in a file that you provide (infra/packages/advisories.py). The first run installs both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.deployment import packaging
from infra.packages import advisories
from infra.packages.advisories import AdvisoriesError, Advisory
from infra.packages.programs import ProgramError, program

SETTINGS = packaging.ROOT / "infra" / "checkov.yaml"
REQUIREMENTS = packaging.ROOT / "requirements.txt"

NOT_LOOKED = 3
"""The exit status when nothing was found but the packages were not checked."""

_BRING = f"bring their file: curl -O {advisories.SOURCE}, and make security ADVISORIES=all.zip"


class SecurityError(Exception):
    """A check could not be made, which is not the same as finding nothing."""


def is_template_clean() -> bool:
    """Whether infra/checkov.yaml explains everything that checkov finds in the template."""
    checkov = program("checkov")
    with tempfile.TemporaryDirectory() as output:
        template = Path(output) / "template.json"
        package = packaging.package("prod", Path(output) / "package", region="eu-west-1")
        template.write_text(json.dumps(package.template, indent=1))
        command = [str(checkov), "--config-file", str(SETTINGS), "--file", str(template)]
        if subprocess.run(command, check=False).returncode:
            return False
    print("checkov finds nothing that infra/checkov.yaml does not explain.")
    return True


def are_packages_clean_by(file: Path, now: datetime) -> bool:
    """Whether a file of advisories names no deployed package."""
    packages = advisories.pinned(REQUIREMENTS.read_text(encoding="utf-8"))
    looked = advisories.look(file, packages, now)
    for advisory in looked.found:
        print(advisory)
    if not looked.found:
        print(
            f"None of {looked.advisories:,} advisories, the newest of {looked.of:%Y-%m-%d}, "
            f"is about the {len(packages)} packages deployed."
        )
    return not looked.found


def are_packages_clean() -> bool:
    """Whether PyPI has no advisory about any package that is deployed."""
    command = [str(program("pip-audit")), "--requirement", str(REQUIREMENTS)]
    # Every package is pinned in the file, so nothing has to be resolved or installed.
    command += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError) as error:
        reason = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SecurityError(
            f"pip-audit could not ask for advisories: {reason}\nWithout a network, {_BRING}"
        ) from error
    found = list(reported(packages))
    for line in found:
        print(line)
    if not found:
        print(f"pip-audit knows of no advisory about the {len(packages)} packages deployed.")
    return not found


def reported(packages: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each advisory in a report of pip-audit.

    Raises `SecurityError` when nothing is known about a package: pip-audit itself skips it.
    """
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        raise SecurityError(
            f"PyPI tells nothing about {len(unknown)} of {len(packages)} packages "
            f"({', '.join(unknown[:3])} ...): is this machine offline, or behind a mirror without "
            f"advisories? Run this elsewhere, or {_BRING}"
        )
    for package in packages:
        for advisory in package["vulns"]:
            fixed = tuple(advisory["fix_versions"])
            yield str(Advisory(package["name"], package["version"], advisory["id"], fixed))


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the checks; the exit status.

    1 when something is found or a check could not be made, `NOT_LOOKED` when one was left out.
    """
    parser = argparse.ArgumentParser(
        prog="python -m infra security",
        description="Looks for weaknesses in the packaged template of prod (checkov; "
        "infra/checkov.yaml says what is passed over and why) and for advisories about the "
        "packages that are deployed (pip-audit). The first run installs both under build/.",
    )
    by = parser.add_mutually_exclusive_group()
    by.add_argument(
        "--offline",
        action="store_true",
        help=f"leave out the advisories: the exit status is {NOT_LOOKED} at best",
    )
    by.add_argument(
        "--advisories",
        type=Path,
        help=f"a file to look them up in, for where there is no network: {advisories.SOURCE}",
    )
    arguments = parser.parse_args(words)
    checks: list[Callable[[], bool]] = [is_template_clean]
    if arguments.advisories:
        file, now = arguments.advisories, datetime.now(UTC)
        checks.append(lambda: are_packages_clean_by(file, now))
    elif not arguments.offline:
        checks.append(are_packages_clean)
    # Every check runs, whatever the others find.
    is_clean = sum(not _is_clean(check) for check in checks) == 0
    if arguments.offline:
        print(f"The packages were NOT looked at. To do so, {_BRING}", file=sys.stderr)
    return 1 if not is_clean else NOT_LOOKED if arguments.offline else 0


def _is_clean(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (SecurityError, AdvisoriesError, ProgramError, packaging.PackagingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(main())
