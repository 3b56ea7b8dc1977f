"""Looks for weaknesses in the packaged template of prod, with checkov.

    python -m infra.security        (make security)

checkov brings many packages of its own, so it has an environment of its own under build/, made at
the first run. infra/checkov.yaml says what is passed over and why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from infra import packaging

CHECKOV = "checkov==3.3.30"
DIRECTORY = packaging.BUILD / CHECKOV.replace("==", "-")
SETTINGS = Path(__file__).with_name("checkov.yaml")


def _program() -> Path:
    """Checkov, installed if it is not there yet."""
    program = DIRECTORY / "bin" / "checkov"
    if not program.exists():
        print(f"Installing {CHECKOV} (once, about half a minute) ...", file=sys.stderr)
        venv.create(DIRECTORY, with_pip=True, clear=True)
        pip = [str(DIRECTORY / "bin" / "pip"), "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", CHECKOV], check=True)
    return program


def main(words: list[str] | None = None) -> int:
    """Reads the command line and looks; the exit status: 1 when something is found."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.security",
        description="Looks for weaknesses in the packaged template of prod, with checkov. "
        "infra/checkov.yaml says what is passed over and why.",
    )
    parser.parse_args(words)
    try:
        program = _program()
    except subprocess.CalledProcessError:
        print(f"error: {CHECKOV} could not be installed; see pip's words above", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as output:
        template = Path(output) / "template.json"
        try:
            package = packaging.package("prod", Path(output) / "package", region="eu-west-1")
        except packaging.PackagingError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        template.write_text(json.dumps(package.template, indent=1))
        command = [str(program), "--config-file", str(SETTINGS), "--file", str(template)]
        found = subprocess.run(command, check=False).returncode
    if not found:
        print("checkov finds nothing that infra/checkov.yaml does not explain.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
