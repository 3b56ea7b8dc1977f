"""Reads the parameters of a stage from infra/parameters.toml, and checks them by the template."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from chalicelib.domain.nearest import nearest
from infra.deployment import packaging
from infra.deployment.errors import DeployError
from infra.deployment.stack_facts import REQUIRED_PARAMETERS, Json

TEMPLATE_FILE = packaging.ROOT / "infra" / "resources.yaml"
PARAMETERS_FILE = packaging.ROOT / "infra" / "parameters.toml"
_LARGEST_NUMBER = 1_000_000
_LONGEST_SHOWN = 80


def parameters_of(stage: str) -> dict[str, str]:
    """The parameters of a stage in `PARAMETERS_FILE`.

    Raises `DeployError` for a file that cannot be read, and for unknown parameters and values that
    the template does not allow; it names each. `deploy` checks for missing parameters.
    """
    try:
        parameters = tomllib.loads(PARAMETERS_FILE.read_text(encoding="utf-8")).get(stage)
    except (ValueError, RecursionError) as error:
        raise DeployError(f"{PARAMETERS_FILE} is not TOML: {error}") from error
    if not isinstance(parameters, dict):
        raise DeployError(f"There is no [{stage}] in {PARAMETERS_FILE}: add it.")
    declared = declared_parameters()
    problems = [
        f"{name} {problem}"
        for name, value in parameters.items()
        if (problem := _problem_of(name, value, declared))
    ]
    if problems:
        lines = "\n".join(f"infra/parameters.toml, [{stage}]: {problem}" for problem in problems)
        raise DeployError(lines)
    return {name: str(value) for name, value in parameters.items()}


@cache
def declared_parameters() -> dict[str, Json]:
    """The declarations of the template's parameters."""
    declared: dict[str, Json] = yaml.safe_load(TEMPLATE_FILE.read_text("utf-8"))["Parameters"]
    return declared


def _problem_of(name: str, value: object, declared: Mapping[str, Json]) -> str | None:
    """What is wrong with a parameter, by its declaration in the template."""
    known = [other for other in declared if other != "Stage"]
    if name not in known:
        meant = nearest(name, known)
        advice = f"did you mean {meant}?" if meant else f"the parameters are {', '.join(known)}"
        return f"is no parameter; {advice}"
    rule = declared[name]
    expected = _not_a_number(rule, value) if rule["Type"] == "Number" else _not_a_text(rule, value)
    return expected and f"must be {expected}; is {repr(value)[:_LONGEST_SHOWN]}"


def _not_a_number(rule: Json, value: Any) -> str | None:
    least, most = rule["MinValue"], rule.get("MaxValue", _LARGEST_NUMBER)
    # Not isinstance: to Python, true is the number 1.
    fits = type(value) in (int, float) and least <= value <= most
    return None if fits else f"a number from {least} to {most:,}, without quotes"


def _not_a_text(rule: Json, value: Any) -> str | None:
    if not isinstance(value, str):
        return "a text, in quotes"
    if "AllowedValues" in rule and value not in rule["AllowedValues"]:
        return f"one of {', '.join(rule['AllowedValues'])}"
    # An empty value of a required parameter gets its own message.
    pattern = rule.get("AllowedPattern")
    if value and pattern and not re.fullmatch(pattern, value):
        return f"of the form {pattern}"
    return None


def check_parameters(stage: str, parameters: Mapping[str, str], region: str) -> None:
    """Raises `DeployError` for missing parameters, and for those that contradict each other."""
    missing = [name for name in REQUIRED_PARAMETERS if not parameters.get(name)]
    if missing:
        raise DeployError(
            f"Stage {stage} does not say whose tokens its API takes. "
            f"Set {' and '.join(missing)} under [{stage}] in infra/parameters.toml, "
            "which has examples for Cognito, Auth0, Clerk and others."
        )
    problem = _problem_of_domain(parameters, region) or _problem_of_events(parameters)
    if problem:
        raise DeployError(f"infra/parameters.toml, [{stage}]: {problem}")


def _problem_of_events(parameters: Mapping[str, str]) -> str | None:
    """What is set for events although the stage sends none."""
    if parameters.get("Events", "off") == "on":
        return None
    if parameters.get("EventsWebhookUrl"):
        return 'EventsWebhookUrl needs Events = "on": it is where EventBridge posts the events'
    return None


def _problem_of_domain(parameters: Mapping[str, str], region: str) -> str | None:
    """What is wrong with the API's own domain name: the rules that a template cannot express."""
    domain, certificate, zone = (
        parameters.get(name, "") for name in ("ApiDomain", "ApiCertificateArn", "ApiHostedZoneId")
    )
    if domain and not certificate:
        return (
            f"ApiDomain needs ApiCertificateArn: a certificate of ACM for {domain}, in {region}. "
            f"Ask for one: aws acm request-certificate --domain-name {domain} "
            f"--validation-method DNS --region {region}"
        )
    if certificate and not domain:
        return "ApiCertificateArn needs ApiDomain: the domain name of the API it is for"
    if zone and not domain:
        return "ApiHostedZoneId needs ApiDomain: the name to enter into the hosted zone"
    found = certificate.split(":")[3] if certificate else region
    if found != region:
        # API Gateway Developer Guide, "Set up a Regional custom domain name in API Gateway".
        return (
            f"ApiCertificateArn is a certificate in {found}, and the stack is in {region}: "
            "API Gateway takes only one of its own region. Ask for one there"
        )
    return None
