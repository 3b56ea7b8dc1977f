"""Installs programs with many packages, each into its own environment under build/."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from infra.deployment import packaging

LISTS = packaging.ROOT / "infra" / "programs"
"""The packages of each program, with their hashes; `make lock` writes them."""


class ProgramError(Exception):
    """A program is missing and could not be installed; the message says what to do."""


def program(name: str) -> Path:
    """The path of a program; installs it from its list if needed. Raises `ProgramError`."""
    requirements = LISTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    directory = packaging.BUILD / f"{name}-{digest}"
    installed = directory / "bin" / name
    if not installed.exists():
        print(f"Installing {name} (once, about half a minute) ...", file=sys.stderr)
        venv.create(directory, with_pip=True, clear=True)
        pip = [str(directory / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
        try:
            # Building a package would install its build tools, which have no hash in our list.
            only = ["--only-binary", ":all:", "--require-hashes"]
            subprocess.run([*pip, *only, "-r", str(requirements)], check=True)
        except subprocess.CalledProcessError as error:
            raise ProgramError(
                f"{name} could not be installed; pip says above why. Without a network: "
                "run this where there is one"
            ) from error
    return installed
