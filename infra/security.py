"""Looks for known weaknesses, in the packaged template and in what the functions are made of.

    python -m infra.security        (make security)

checkov reads the template of prod; infra/checkov.yaml says what is passed over and why. pip-audit
asks PyPI for advisories about every package of requirements.txt. The first run installs both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra import packaging
from infra.programs import ProgramError, program

SETTINGS = Path(__file__).with_name("checkov.yaml")
REQUIREMENTS = packaging.ROOT / "requirements.txt"


class SecurityError(Exception):
    """Something could not be looked at, which is not the same as finding nothing."""


def is_template_clean() -> bool:
    """Whether checkov finds nothing in the template that its settings do not explain."""
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


def are_packages_clean() -> bool:
    """Whether there is no advisory about any package that is deployed."""
    command = [str(program("pip-audit")), "--requirement", str(REQUIREMENTS)]
    # Every package is pinned in the file, so nothing has to be resolved or installed.
    command += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError) as error:
        reason = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SecurityError(f"pip-audit could not ask for advisories: {reason}") from error
    found = list(advisories(packages))
    for line in found:
        print(line)
    if not found:
        print(f"pip-audit knows of no advisory about the {len(packages)} packages deployed.")
    return not found


def advisories(packages: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each advisory in a report of pip-audit.

    Raises `SecurityError` when nothing is known about a package: pip-audit itself passes it over.
    """
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        raise SecurityError(
            f"PyPI tells nothing about {len(unknown)} of {len(packages)} packages "
            f"({', '.join(unknown[:3])} ...): is this machine offline, or behind a mirror without "
            "advisories? Run this elsewhere, or leave it out with --offline (make: OFFLINE=1)"
        )
    for package in packages:
        for advisory in package["vulns"]:
            fixes = ", ".join(advisory["fix_versions"])
            advice = f"mended in {fixes}" if fixes else "no version mends it yet"
            yield f"{package['name']} {package['version']}: {advisory['id']}, {advice}"


def main(words: list[str] | None = None) -> int:
    """Reads the command line and looks; the exit status: 1 when something is found."""
    parser = argparse.ArgumentParser(
        prog="python -m infra security",
        description="Looks for weaknesses in the packaged template of prod (checkov; "
        "infra/checkov.yaml says what is passed over and why) and for advisories about the "
        "packages that are deployed (pip-audit). The first run installs both under build/.",
    )
    parser.add_argument(
        "--offline", action="store_true", help="leave out the advisories, which come from PyPI"
    )
    arguments = parser.parse_args(words)
    is_clean = True
    checks = [is_template_clean] if arguments.offline else [is_template_clean, are_packages_clean]
    for check in checks:
        try:
            is_clean &= check()
        except (SecurityError, ProgramError, packaging.PackagingError) as error:
            print(f"error: {error}", file=sys.stderr)
            is_clean = False
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
