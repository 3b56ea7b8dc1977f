"""A domain name of the API's own: what does not fit is told before anything is packaged."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import terminal
from infra.deployment import deploy
from infra.deployment.deployed import describe
from infra.deployment.errors import DeployError
from infra.deployment.parameters import parameters_of

TOKENS = {"TokenIssuer": "https://issuer.example.com", "TokenAudience": "credits"}
DOMAIN = "credits.example.com"
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/1b2c3d4e-0000-4000-8000-a1b2c3d4e5f6"


def client(service: str) -> Any:
    """An account that is asked who it is, and nothing else."""
    assert service == "sts"
    return SimpleNamespace(get_caller_identity=lambda: {"Account": "123456789012"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"ApiDomain": DOMAIN},
            rf"ApiDomain needs ApiCertificateArn.*--domain-name {DOMAIN} .*--region eu-west-1",
        ),
        (
            {"ApiDomain": DOMAIN, "ApiHostedZoneId": "Z0123456789"},
            "ApiDomain needs ApiCertificateArn",
        ),
        ({"ApiCertificateArn": CERTIFICATE}, "ApiCertificateArn needs ApiDomain"),
        ({"ApiHostedZoneId": "Z0123456789"}, "ApiHostedZoneId needs ApiDomain"),
        (
            {"ApiDomain": DOMAIN, "ApiCertificateArn": CERTIFICATE.replace("eu-west", "us-east")},
            "ApiCertificateArn is a certificate in us-east-1, and the stack is in eu-west-1",
        ),
        (
            {"EventsWebhookUrl": "https://example.com/credits"},
            'EventsWebhookUrl needs Events = "on"',
        ),
    ],
)
def test_a_domain_that_cannot_work_is_told_with_the_field_before_anything_is_made(
    given: dict[str, str], said: str
) -> None:
    with pytest.raises(DeployError, match=rf"infra/parameters.toml, \[prod\]: {said}"):
        deploy.deploy(
            "prod", client, region="eu-west-1", parameters=TOKENS | given, say=terminal.say_nothing
        )


FITS = [
    ("ApiDomain", DOMAIN),
    ("ApiCertificateArn", CERTIFICATE),
    ("ApiCertificateArn", CERTIFICATE.replace("aws:", "aws-cn:", 1)),
    ("ApiHostedZoneId", "Z0123456789ABCDEFGHIJ"),
    ("Size", "small"),
    ("Events", "on"),
    ("EventsWebhookUrl", "https://example.com/credits?from=prod"),
    ("EventsWebhookHeader", "X-Credits-Secret"),
]
DOES_NOT_FIT = [
    ("ApiDomain", "https://credits.example.com"),
    ("ApiDomain", "Credits.example.com"),
    ("ApiDomain", "*.example.com"),
    ("ApiDomain", "credits"),
    ("ApiDomain", "-credits.example.com"),
    ("ApiCertificateArn", "1b2c3d4e-0000-4000-8000-a1b2c3d4e5f6"),
    ("ApiCertificateArn", CERTIFICATE.replace(":acm:", ":iam:")),
    ("ApiHostedZoneId", "/hostedzone/Z0123456789"),
    ("ApiHostedZoneId", "example.com"),
    ("Size", "medium"),
    ("Events", "yes"),
    ("EventsWebhookUrl", "http://example.com/credits"),
    ("EventsWebhookUrl", "https://*.example.com"),
    ("EventsWebhookHeader", "X Credits"),
]


def read(name: str, value: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is read from a file with that parameter."""
    file.write_text(f'[prod]\n{name} = "{value}"\n', encoding="utf-8")
    monkeypatch.setattr("infra.deployment.parameters.PARAMETERS_FILE", file)
    return parameters_of("prod")


@pytest.mark.parametrize(("name", "value"), FITS)
def test_what_has_the_form_of_its_parameter_is_taken(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(name, value, tmp_path / "parameters.toml", monkeypatch) == {name: value}


@pytest.mark.parametrize(("name", "value"), DOES_NOT_FIT)
def test_what_has_another_form_is_told_with_the_field(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeployError, match=rf"\[prod\]: {name} must be o"):
        read(name, value, tmp_path / "parameters.toml", monkeypatch)


@pytest.mark.parametrize(
    ("outputs", "url"),
    [
        ({"ApiUrl": f"https://{DOMAIN}/v1"}, f"https://{DOMAIN}/v1"),
        ({}, "https://1.execute-api.eu-west-1.amazonaws.com/v1"),
    ],
    ids=["of this release", "of one before it"],
)
def test_a_stage_says_where_its_api_is(outputs: dict[str, str], url: str) -> None:
    found = {
        "RestAPIId": "1",
        "EndpointURL": "https://1.execute-api.eu-west-1.amazonaws.com/v1/",
        **outputs,
    }
    listed = [{"OutputKey": key, "OutputValue": value} for key, value in found.items()]
    cloudformation = SimpleNamespace(
        describe_stacks=lambda **_: {
            "Stacks": [{"StackStatus": "CREATE_COMPLETE", "Outputs": listed}]
        }
    )
    assert describe("prod", lambda _service: cloudformation).api_url == url
