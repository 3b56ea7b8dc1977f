"""Spends in a shadow what users spent in the old system (docs/migrating.md).

python -m infra usages file.csv [--stage prod] [--skip-invalid] (make usages CSV=file.csv)
"""

from __future__ import annotations

import sys

from rich.console import Console

from chalicelib.domain.errors import NotAllowed
from chalicelib.services import Services
from infra import reach
from infra.commands.import_file import command
from infra.deployment import shadows
from infra.imports.usages import USAGES


def services_of_shadow(stage: str, region: str | None) -> Services:
    """The services of a shadow. Raises `NotAllowed` elsewhere: only the product spends there."""
    here = reach.reach(stage, region)
    if shadows.shadow_of(here.client("cloudformation"), stage) != shadows.ON:
        raise NotAllowed(
            f"Stage {stage} is no shadow: what another system let users spend would be spent there "
            "twice. docs/migrating.md says what a shadow is."
        )
    return here.services


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the import; the exit status."""
    console = Console(stderr=True)
    return command(USAGES, words, "python -m infra usages", console, services_of_shadow)


if __name__ == "__main__":
    sys.exit(main())
