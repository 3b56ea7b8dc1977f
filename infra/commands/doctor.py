"""The doctor's command.

    make doctor                              (the running local stack)
    make doctor STAGE=prod REGION=eu-west-1  (JSON=1 prints the findings for programs)

It changes nothing. The exit status is 1 when something must be done. Warnings, and checks that
could not be made, leave it at 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from rich.console import Console

from infra import reach, session
from infra.arguments import add_stage
from infra.deployment.parameters import parameters_of
from infra.deployment.stack_facts import stack_name
from infra.doctor import report
from infra.doctor.examination import ACCOUNT, HERE, RUNNING, Check, Looking, examine
from infra.doctor.finding import Finding, bad, fine, unknown, warning
from infra.doctor.site import Site
from infra.doctor.trouble import said
from infra.local import emulator, stacks
from infra.session import AwsError


def main(words: list[str] | None = None) -> int:
    """Examines a stage; the exit status: 1 when something must be done."""
    parser = argparse.ArgumentParser(
        prog="python -m infra doctor",
        description="Looks for what stands in the way of a deployment, and of a running stack. It "
        "changes nothing.",
        epilog="docs/deploying.md and docs/operating.md say what it checks.",
    )
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON instead")
    arguments = parser.parse_args(words)
    try:
        reach.check_name(arguments.stage)
        with Console(stderr=True).status("Looking at the account ...") as status:
            site, findings = look(
                arguments.stage,
                arguments.region,
                lambda check: status.update(f"Looking at {check} ..."),
            )
    except (stacks.NotRunningError, AwsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(report.as_json(site.stage, site.place, findings))
    else:
        console = Console()
        report.show(findings, console)
        console.print(report.summary(findings), highlight=False)
    return 0 if report.is_fine(findings) else 1


def look(stage: str, region: str | None, looking: Looking) -> tuple[Site, list[Finding]]:
    """The stage, and all findings about it.

    Raises `NotRunningError` without a local stack, and `AwsError` if a region is given for it.
    """
    if stage == stacks.STAGE:
        site = _local_site(region)
        return site, [fine("account", site.place), *_all(site, HERE, looking)]
    findings: list[Finding] = []
    here = dict(HERE)
    parameters: dict[str, str] = {}
    try:
        parameters = parameters_of(stage)
    except AwsError as error:
        del here["parameters"]
        findings.append(bad("parameters", *said(error), stops=True))
    try:
        aws = session.open_session(region)
    except AwsError as error:
        site = Site.without_account(stage, stack_name(stage), parameters)
        findings += [bad("account", *said(error)), *examine(here, site, looking)]
        findings.append(unknown("AWS", "nothing was looked at there", "Mend the account first"))
        return site, findings
    site = Site.of(stage, stack_name(stage), parameters, aws)
    findings += [judge_region(aws.region, site.place), *_all(site, here, looking)]
    return site, findings


def judge_region(region: session.Region, place: str) -> Finding:
    """Whether it is clear which region the commands use."""
    if region.unlike:
        return warning(
            "account",
            place,
            f"Say which region is meant: REGION={region.name}, or unset AWS_DEFAULT_REGION",
        )
    return fine("account", place)


def _all(site: Site, here: Mapping[str, Check], looking: Looking) -> Iterator[Finding]:
    """The checks before a deployment and, if there is a stack, those of the running stack."""
    yield from examine({**here, **ACCOUNT}, site, looking)
    try:
        with session.told():
            outputs = site.outputs
    except AwsError:
        yield unknown("running stack", "not looked at: CloudFormation does not say what it has")
        return
    if outputs:
        yield from examine(RUNNING, site, looking)


def _local_site(region: str | None) -> Site:
    stack = reach.running_stack(region)
    return Site(
        stage=stack.stage,
        stack=stack.stack,
        account=stack.client("sts").get_caller_identity()["Account"],
        region=emulator.REGION,
        place=f"the local stack at {stack.endpoint_url}",
        parameters=stacks.parameters(stack.issuer),
        client=stack.client,
        now=datetime.now(UTC),
    )


if __name__ == "__main__":
    sys.exit(main())
