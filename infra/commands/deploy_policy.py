"""Prints the rights that deploying a stage needs, as IAM policy documents.

python -m infra deploy-policy --stage prod (make deploy-policy STAGE=prod)
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from infra import arguments
from infra.deployment import packaging
from infra.deployment.deploy_policy import EXAMPLE, names_of, policies, text_of
from infra.deployment.parameters import parameters_of
from infra.session import AwsError, open_session, region_of


def _account(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text):
        raise argparse.ArgumentTypeError("must be the twelve digits of an AWS account")
    return text


def _folder(text: str) -> Path:
    folder = Path(text)
    if folder.exists() and not folder.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder, and {text} is a file")
    return folder


def main(words: list[str] | None = None) -> int:
    """Prints the policies of a stage, or writes them into a folder; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra deploy-policy",
        description="Prints the rights to deploy a stage, as policy documents for IAM.",
    )
    deployable = [stage for stage in packaging.stages() if stage != "local"]
    parser.add_argument("--stage", required=True, choices=deployable, help="the stage to deploy")
    arguments.add_region(parser)
    parser.add_argument(
        "--account", type=_account, help="the AWS account; default: that of your credentials"
    )
    parser.add_argument("--out", type=_folder, help="a folder to write a file for each policy into")
    parser.add_argument(
        "--example", action="store_true", help="print the example of docs/deploying.md"
    )
    given = parser.parse_args(words)
    try:
        parameters = EXAMPLE if given.example else parameters_of(given.stage)
        if given.account and given.region:
            account = given.account
            region = region_of(given.region, {}, ("default", "")).name
        else:
            aws = open_session(given.region)
            print(f"Stage {given.stage} in {aws}", file=sys.stderr)
            account, region = given.account or aws.account, aws.region.name
        with tempfile.TemporaryDirectory() as output:
            package = packaging.package(given.stage, Path(output), region=region)
        names = names_of(given.stage, account, region, parameters)
        made = policies(package.template_for(f"s3://{names.artifacts}/code.zip"), names)
    except (AwsError, packaging.PackagingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.out is None:
        print(text_of(made))
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    for name, document in made.items():
        file = given.out / f"{name}.json"
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
