"""What docs/backends.md says of each issuer: parameters, commands, what a check of a token says."""

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import credits_client
import httpx
import pytest
from botocore import xform_name
from botocore.session import Session

from infra.commands import token_check
from tests.unit.test_authorizer import EXAMPLES, KEY_SET, RSA_KEY, checker_by, token

PAGE = (Path(__file__).parents[2] / "docs" / "backends.md").read_text("utf-8")
COGNITO = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
CLIENT = "2k68lg6dqr28n1fnm23EXAMPLE"
MACHINE = "mch_2EXAMPLEbackend"

Json = dict[str, Any]

TOKENS: dict[str, Json] = {
    # https://docs.aws.amazon.com/cognito/latest/developerguide/
    # amazon-cognito-user-pools-using-the-access-token.html
    "Cognito": {
        "iss": COGNITO,
        "aud": None,
        "sub": CLIENT,
        "client_id": CLIENT,
        "token_use": "access",
        "scope": "credits/backend",
        "version": 2,
    },
    # https://auth0.com/docs/get-started/apis/enable-role-based-access-control-for-apis
    "Auth0": {
        "iss": "https://example.eu.auth0.com/",
        "aud": "https://credits.example.com",
        "sub": "AbCdEf123@clients",
        "azp": "AbCdEf123",
        "gty": "client-credentials",
        "scope": "credits:backend",
        "permissions": ["credits:backend"],
    },
    # https://clerk.com/docs/guides/development/machine-auth/m2m-tokens: iss, sub, exp, nbf, iat and
    # jti are Clerk's; all else is what the machine asks for.
    "Clerk": {
        "iss": "https://clerk.example.com",
        "aud": "https://credits.example.com",
        "sub": MACHINE,
        "scope": None,
        "nbf": int(time.time()) - 10,
        "jti": "mt_2EXAMPLE",
    },
}
"""The claims of a backend's token, by issuer."""


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(language: str, text: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for named, block in found if named == language]


@pytest.mark.parametrize("issuer", TOKENS)
def test_a_backends_token_is_taken_as_the_page_shows_it(issuer: str) -> None:
    claims = TOKENS[issuer]
    settings = checker_by(EXAMPLES[claims["iss"]]).settings
    given = token(RSA_KEY, "rsa", **claims)
    report = token_check.examine(given, settings, lambda _: KEY_SET)
    assert report.accepted
    said = token_check.show(report, "prod", settings).splitlines()
    (shown,) = blocks("", section(issuer))
    assert [line for line in said if line in shown.splitlines()] == shown.splitlines()
    assert {"credits:backend", "credits:admin"}.intersection(report.context["scopes"].split()) == {
        "credits:backend"
    }


def test_a_machine_of_clerk_is_what_its_id_is_whatever_claims_it_chooses() -> None:
    one = checker_by(EXAMPLES["https://clerk.example.com"])
    wanted = ["credits:admin", "user_2EXAMPLEada"]
    chosen = {"permissions": wanted, "scopes": " ".join(wanted), "scp": wanted}
    other = token(RSA_KEY, "rsa", **(TOKENS["Clerk"] | chosen | {"sub": "mch_other"}))
    assert one.check(other)["scopes"] == "credits:read credits:use"
    admin = token(RSA_KEY, "rsa", **(TOKENS["Clerk"] | {"sub": "user_2EXAMPLEada"}))
    assert one.check(admin)["scopes"] == "credits:read credits:use credits:admin"


def test_an_opaque_token_is_refused_with_what_to_do() -> None:
    settings = checker_by(EXAMPLES["https://clerk.example.com"]).settings
    report = token_check.examine("mt_2EXAMPLEopaque", settings, lambda _: KEY_SET)
    assert not report.accepted
    (form,) = (finding for finding in report.findings if finding.check == "form")
    assert "An opaque token" in form.fix


def test_the_commands_for_cognito_are_those_of_the_aws_cli() -> None:
    service = Session().get_service_model("cognito-idp")
    operations = {xform_name(name, "-"): name for name in service.operation_names}
    commands = re.findall(r"aws cognito-idp ([a-z-]+)((?:[^`\\\n]|\\\n)*)", PAGE)
    assert [name for name, _ in commands] == [
        "create-user-pool-domain",
        "create-resource-server",
        "create-user-pool-client",
    ]
    for name, rest in commands[1:]:
        shape = service.operation_model(operations[name]).input_shape
        assert shape is not None
        options = {*re.findall(r"--([a-z-]+)", rest)}
        assert options <= {xform_name(member, "-") for member in shape.members}
        assert options >= {xform_name(member, "-") for member in shape.required_members}


def test_the_function_for_clerk_keeps_a_token_and_renews_one_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Json] = []

    def post(url: str, headers: Json, json: Json) -> httpx.Response:
        assert url == "https://api.clerk.com/v1/m2m_tokens"
        assert headers == {"Authorization": "Bearer ak_1"}
        asked.append(json)
        made = {"object": "machine_to_machine_token", "token": f"eyJ{len(asked)}"}
        return httpx.Response(200, json=made, request=httpx.Request("POST", url))

    monkeypatch.setattr(httpx, "post", post)
    monkeypatch.setenv("API", "https://api.example.com")
    monkeypatch.setenv("CLERK_MACHINE_SECRET_KEY", "ak_1")
    balance = SimpleNamespace(available_balance=7)
    monkeypatch.setattr(credits_client.Credits, "balance", lambda *_: balance)
    (example,) = blocks("python", section("Clerk"))
    program: Json = {}
    exec(compile(example, "docs/backends.md", "exec"), program)  # noqa: S102 - it is our own page
    get = program["clerk_token"]
    assert [get(None), get(None), get("eyJ1"), get("eyJ1")] == ["eyJ1", "eyJ1", "eyJ2", "eyJ2"]
    program["kept"]["until"] = time.monotonic() - 1
    assert get(None) == "eyJ3"
    assert asked[0] == {
        "token_format": "jwt",
        "seconds_until_expiration": 3600,
        "claims": {"aud": TOKENS["Clerk"]["aud"]},
    }
