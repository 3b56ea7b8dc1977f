"""Packages a stage into a folder, to deploy it from elsewhere, and prints the package's digest.

python -m infra package --stage prod --region eu-west-1 --out build/package
(make package STAGE=prod OUT=build/package)
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from infra import arguments
from infra.deployment import packaging
from infra.deployment.handover import digest, save
from infra.deployment.packaging import PackagingError
from infra.session import AwsError, region_of


def main(words: list[str] | None = None) -> int:
    """Packages a stage into a folder and prints the digest; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra package",
        description="Packages a stage for AWS, without credentials, and prints the digest by which "
        "`make deploy PACKAGE=folder DIGEST=...` knows it again.",
    )
    deployable = [stage for stage in packaging.stages() if stage != "local"]
    parser.add_argument("--stage", required=True, choices=deployable, help="the stage to package")
    arguments.add_region(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder to put it into")
    given = parser.parse_args(words)
    try:
        packaging.check_python()
        region = region_of(given.region, os.environ, ("default", "")).name
        with tempfile.TemporaryDirectory() as output:
            package = packaging.package(given.stage, Path(output), region=region)
            save(package, given.out)
            print(digest(package, given.stage, region))
    except (AwsError, PackagingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
