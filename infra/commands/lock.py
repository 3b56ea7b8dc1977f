"""Writes the lists of packages to install: everything that each group of pyproject.toml needs.

    python -m infra lock             (make lock)

A list names one version of every package, with the hash of every file that PyPI has for it: for all
platforms, and for every Python from 3.11 on. pip installs nothing else (`--require-hashes`). To
upgrade a package that a group pins, edit pyproject.toml. The others keep their version until you
add `--upgrade`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from infra.deployment.packaging import ROOT
from infra.packages.programs import ProgramError, program

LISTS = {
    "requirements.txt": "lambda",
    "requirements-dev.txt": "dev",
    "bench/celery/requirements.txt": "celery",
    "infra/programs/checkov.txt": "checkov",
    "infra/programs/pip-audit.txt": "pip-audit",
    "infra/programs/uv.txt": "uv",
}
"""Each list, and its group in pyproject.toml."""

OLDEST_PYTHON = "3.11"


def command(name: str) -> list[str]:
    """The arguments that write one list, without the program."""
    return [
        *("pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON),
        *("--generate-hashes", "--custom-compile-command", "make lock"),
        # The tests use the deployed versions.
        *(("--constraints", "requirements.txt") if LISTS[name] == "dev" else ()),
        *("--group", f"pyproject.toml:{LISTS[name]}", "--output-file", name),
    ]


def main(words: list[str] | None = None) -> int:
    """Reads the command line and writes the lists; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra lock",
        description="Writes the lists of packages that are installed, with the hash of each file, "
        "from the groups of pyproject.toml. The first run installs uv under build/.",
    )
    parser.add_argument(
        "--upgrade", action="store_true", help="also move the packages that no group names"
    )
    arguments = parser.parse_args(words)
    more = ["--upgrade"] if arguments.upgrade else []
    try:
        uv = str(program("uv"))
    except ProgramError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name in LISTS:
        if subprocess.run([uv, *command(name), *more], cwd=ROOT, check=False).returncode:
            print(f"error: {name} is as it was; uv says above why.", file=sys.stderr)
            return 1
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
