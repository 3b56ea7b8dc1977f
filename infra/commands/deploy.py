"""Deploys a stage to AWS.

    python -m infra deploy --stage prod        (make deploy STAGE=prod)

The command packages and uploads the app, shows the changes that CloudFormation would make, and
asks. Then it makes the changes and prints the stack's events as they happen. When the stack fails,
it names the resource that failed first and why, and ends with exit status 1. Deploying the same
thing twice changes nothing, and says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from infra import arguments
from infra.deployment import handover, packaging
from infra.deployment.deploy import PackageMaker, deploy
from infra.deployment.errors import DeployError
from infra.deployment.parameters import parameters_of
from infra.deployment.stack_facts import stack_name
from infra.doctor import before
from infra.doctor.site import Site
from infra.session import AwsError, open_session
from infra.terminal import agree, is_agreed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra deploy",
        description="Deploys Credits to AWS with your own credentials.",
    )
    deployable = [stage for stage in packaging.stages() if stage != "local"]
    parser.add_argument("--stage", required=True, choices=deployable, help="the stage to deploy")
    arguments.add_region(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask before changing anything")
    parser.add_argument(
        "--ignore-findings",
        action="store_true",
        help="deploy although the doctor says that it fails",
    )
    parser.add_argument("--package", type=Path, help="deploy what `make package` put into a folder")
    parser.add_argument(
        "--digest", help="the digest that `make package` printed; another package is refused"
    )
    given = parser.parse_args()
    if (given.package is None) != (given.digest is None):
        parser.error("--package and --digest (make: PACKAGE, DIGEST) go together")
    return given


def _package_of(given: argparse.Namespace, region: str) -> PackageMaker:
    """Packages this tree, or uses a package that was made elsewhere."""
    if given.package is None:
        return packaging.package
    # Refuses a wrong package at once, not after an hour of waiting for another deployment.
    handover.load(given.package, given.digest, given.stage, region)

    def made(stage: str, output: Path, /, *, region: str) -> packaging.Package:
        return handover.load(given.package, given.digest, stage, region, output)

    return made


def _ask() -> bool:
    if not sys.stdin.isatty():
        raise DeployError(
            "There is nobody to ask. Add --yes (make deploy YES=1) to deploy unasked."
        )
    return is_agreed(Console(), "Make these changes?")


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Deploy a stage to AWS; the exit status."""
    given = _arguments()
    try:
        packaging.check_python()
        parameters = parameters_of(given.stage)
        aws = open_session(given.region)
        _say(f"Stage {given.stage} in {aws}")
        make_package = _package_of(given, aws.region.name)
        before.look(
            Site.of(given.stage, stack_name(given.stage), parameters, aws),
            is_heeded=not given.ignore_findings,
        )
        deployment = deploy(
            given.stage,
            aws.client,
            region=aws.region.name,
            parameters=parameters,
            say=_say,
            say_detail=_say,
            confirm=agree if given.yes else _ask,
            make_package=make_package,
        )
    except (AwsError, packaging.PackagingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "Interrupted. CloudFormation goes on with what it has begun; the same command waits "
            "for it and goes on from there.",
            file=sys.stderr,
        )
        return 130
    for key, value in sorted(deployment.outputs.items()):
        _say(f"{key:<32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
