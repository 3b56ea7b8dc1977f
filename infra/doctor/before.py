"""The checks of `make deploy` before it begins."""

from __future__ import annotations

import sys

from rich.console import Console

from infra.doctor import report
from infra.doctor.examination import ACCOUNT, HERE, examine
from infra.doctor.finding import State
from infra.doctor.site import Site
from infra.session import AwsError


class FindingsError(AwsError):
    """A deployment should not begin; the findings on the screen say why."""


def look(site: Site, console: Console | None = None, *, is_heeded: bool = True) -> None:
    """Shows all problems. Raises `FindingsError` for those that stop a deployment.

    A check that could not be made does not stop a deployment. If findings are ignored, nothing
    does.
    """
    console = console or Console(file=sys.stdout)
    with Console(stderr=True).status("Looking at what stands in the way ..."):
        findings = list(examine({**HERE, **ACCOUNT}, site))
    shown = [finding for finding in findings if finding.state is not State.FINE]
    if shown:
        report.show(shown, console)
    console.print(report.summary(findings), highlight=False)
    if is_heeded and any(finding.stops for finding in findings):
        anyway = site.make("deploy", "IGNORE_FINDINGS=1")
        raise FindingsError(
            "Not deployed, for what is marked above. Nothing was changed.\n"
            f"To deploy all the same: {anyway}"
        )
