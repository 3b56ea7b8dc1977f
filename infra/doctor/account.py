"""Checks this machine and the account: Python, parameters, concurrency, the access log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra.deployment import packaging
from infra.deployment.stack_facts import REQUIRED_PARAMETERS
from infra.doctor import template
from infra.doctor.finding import Finding, bad, fine
from infra.doctor.site import Site

ROOM = 10
"""The fewest invocations to leave for the API and the schedules: the limit of a new account."""

QUOTA = 1000
"""The default of Lambda; new accounts have less
(https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""


def python(_site: Site) -> Iterator[Finding]:
    """Whether the functions may run on the Python that packages them."""
    try:
        packaging.check_python()
    except packaging.PackagingError as error:
        says, _, fix = str(error).partition("\n")
        yield bad("python", says, fix, stops=True)
    else:
        yield fine("python", "this one is what the functions are tested on")


def parameters(site: Site) -> Iterator[Finding]:
    """Whether the stage has all required parameters."""
    yield judge_parameters(site.stage, site.parameters)


def judge_parameters(stage: str, given: Mapping[str, str]) -> Finding:
    """Judges which required parameters are missing."""
    missing = [name for name in REQUIRED_PARAMETERS if not given.get(name)]
    if missing:
        return bad(
            "parameters",
            f"stage {stage} does not say whose tokens its API takes",
            f"Set {' and '.join(missing)} under [{stage}] in infra/parameters.toml: "
            "docs/deploying.md#1-say-who-issues-your-tokens",
            stops=True,
        )
    return fine("parameters", f"[{stage}] of infra/parameters.toml has what it takes")


def concurrency(site: Site) -> Iterator[Finding]:
    """Whether Lambda runs enough invocations at once in this account for the stack."""
    limit = site.ask("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    yield judge_concurrency(site, limit, template.concurrency(site.stage))


def judge_concurrency(site: Site, limit: int, workers: int) -> Finding:
    """``workers``: how many invocations the queues start at once, when a month begins."""
    says = f"the account runs {limit:,} invocations at once, and the queues start up to {workers}"
    if limit >= workers + ROOM:
        return fine("concurrency", says)
    return site.needed(
        "concurrency",
        f"{says}: at the turn of a month nothing is left for the API, which then answers 5XX",
        "aws service-quotas request-service-quota-increase --service-code lambda --quota-code "
        f"L-B99A9384 --desired-value {QUOTA} --region {site.region}   "
        "(or lower Concurrency of the stage in infra/resources.yaml)",
    )


def access_log(site: Site) -> Iterator[Finding]:
    """Whether API Gateway can write the access log, if the stage wants one."""
    if template.parameter(site, "AccessLogs") != "on":
        return
    # An account and region have one role for the logs of all their APIs. Without it API Gateway
    # refuses a stage with a log
    # (https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html). Another
    # team may have set the role, and a stack that sets it takes it over. So the operator must
    # create it.
    role = site.ask("apigateway").get_account().get("cloudwatchRoleArn")
    if role:
        yield fine("access log", f"API Gateway writes it as {role}")
        return
    yield bad(
        "access log",
        f"API Gateway has no role to write logs with in {site.region}, so AccessLogs cannot be on",
        "Make one, once for the account and region: docs/logs.md#access-logs. Or set AccessLogs to "
        f'"off" under [{site.stage}] in infra/parameters.toml',
        stops=True,
    )
