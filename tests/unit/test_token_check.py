"""`make token-check`: every check of the authorizer, what it found, and what to do."""

import io
import json
import re
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.api.authorizer import LARGEST_TOKEN, InvalidToken, Refusal
from chalicelib.api.principal import Scope
from chalicelib.domain.instants import parse_instant
from chalicelib.settings import TokenSettings
from infra.commands import token_check
from infra.commands.token_check import CHECKS, Finding, Report, examine, read_token
from infra.deployment.errors import DeployError
from infra.local.stacks import NotRunningError
from tests.unit.test_authorizer import (
    EC_KEY,
    ENVIRONMENT,
    ISSUER,
    KEY_SET,
    REFUSED,
    STRANGERS_KEY,
    checker,
    public,
    settings,
    token,
)

Json = dict[str, Any]


def keys(_: TokenSettings) -> Json:
    return KEY_SET


def found(report: Report, check: str) -> Finding:
    (finding,) = (finding for finding in report.findings if finding.check == check)
    return finding


def test_a_good_token_passes_every_check_and_who_calls_is_said() -> None:
    report = examine(token(sub="42"), settings(), keys)
    assert [(finding.check, finding.ok) for finding in report.findings] == [
        (check, True) for check in CHECKS
    ]
    assert report.accepted
    assert report.context == {
        "caller": "42",
        "user_id": "42",
        "scopes": "credits:read credits:use",
    }
    assert found(report, "form").says == "alg is 'ES256', kid is 'ec'"
    assert found(report, "key").says == "'ec'"
    assert "in 10 minutes" in found(report, "expiry").says
    assert found(report, "scopes").says == "credits:read credits:use"
    assert not any(finding.fix for finding in report.findings)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_authorizer_refuses_is_refused_for_the_same_reason_and_with_a_fix(
    name: str,
) -> None:
    make, code, words = REFUSED[name]
    bad = make()
    report = examine(bad, settings(), keys)
    assert not report.accepted
    assert report.context == {}
    first = next(finding for finding in report.findings if finding.ok is False)
    assert words in first.says
    with pytest.raises(InvalidToken) as refused:
        checker().check(bad)
    assert (first.says, code) == (str(refused.value), refused.value.code)
    assert first.fix
    said = json.dumps(report.findings, default=vars)
    assert not any(len(piece) > 40 and piece in said for piece in bad.split("."))


def test_there_is_a_fix_for_every_refusal() -> None:
    assert set(token_check._FIXES) == set(Refusal)


def test_what_is_wrong_with_a_strangers_token_is_said_beyond_its_key() -> None:
    stranger = token(STRANGERS_KEY, "other", iss="https://other.example.com", aud="x", exp=1)
    report = examine(stranger, settings(), keys)
    wrong = {finding.check for finding in report.findings if finding.ok is False}
    assert wrong == {"key", "issuer", "audience", "expiry"}
    assert found(report, "signature").ok is None
    assert found(report, "expiry").fix.startswith("Get a new token.")
    said = token_check.show(report, "dev", settings())
    assert "  -       signature  cannot be checked without the ones before\n" in said
    assert not re.search(r"->\s*$", said, re.MULTILINE), "advice without words"
    (clock,) = re.findall(r"It is (\S+) on this machine", said)
    assert abs(parse_instant("clock", clock).timestamp() - time.time()) < 60
    assert said.endswith("\nRefused, for its key.")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("https://x answered 404 with 9 bytes"), "answered 404"),
    ],
)
def test_an_issuer_that_cannot_be_reached_is_said_and_the_token_is_looked_at_all_the_same(
    fault: Exception, words: str
) -> None:
    def unreachable(_: TokenSettings) -> Json:
        raise fault

    report = examine(token(exp=1), settings(), unreachable)
    assert not report.accepted
    assert words in found(report, "keys").says
    assert f"{ISSUER}.well-known/openid-configuration" in found(report, "keys").fix
    assert [found(report, check).ok for check in ("key", "signature", "expiry", "issuer")] == [
        *(None, None, False, True),
    ]


def test_keys_that_are_left_out_are_said_with_why() -> None:
    report = examine(token(), settings(), keys)
    assert "'enc' is left out: it is for 'enc' (use)" in found(report, "keys").says
    symmetric = {"keys": [{"kty": "oct", "kid": "a", "k": "AA"}]}
    report = examine(token(), settings(), lambda _: symmetric)
    assert found(report, "keys").ok is False
    assert "'a': its type 'oct'" in found(report, "keys").says


def test_a_token_of_no_user_or_without_scopes_is_accepted_and_that_is_said() -> None:
    report = examine(token(scope="openid profile"), settings(user_claim="uid"), keys)
    assert report.accepted
    assert found(report, "user").says.startswith("none: there is no uid")
    assert "scope is 'openid profile'; scp is missing" in found(report, "scopes").says
    nested = token(realm={"roles": ["x" * 300]})
    said = found(examine(nested, settings(scope_claims="realm.roles"), keys), "scopes").says
    assert re.search(r"realm\.roles is \['x{195}\.\.\.\. Have", said)


def test_a_scope_that_may_have_been_asked_for_is_said_to_be_one() -> None:
    asked = examine(token(scope="credits:read credits:admin"), settings(), keys)
    assert asked.accepted
    assert asked.context["scopes"] == "credits:read credits:admin"
    assert "; of these the client asked for credits:admin. See" in found(asked, "scopes").says
    both = found(examine(token(scope=" ".join(Scope)), settings(), keys), "scopes").says
    assert "asked for credits:backend and credits:billing and credits:admin. See" in both
    given = token(scope="credits:admin", permissions=["credits:admin"])
    granted = examine(given, settings(scope_claims="permissions"), keys)
    assert found(granted, "scopes").says == "credits:admin"
    assert found(examine(token(), settings(), keys), "scopes").says == "credits:read credits:use"


def test_in_the_local_stage_everybody_may_ask_for_anything() -> None:
    report = examine(token(scope="credits:admin"), settings(stage="local"), keys)
    assert found(report, "scopes").says == "credits:admin"


def test_the_clock_can_be_wrong_and_how_far_is_said() -> None:
    report = examine(token(), settings(), keys, now=lambda: time.time() - 300)
    assert not report.accepted
    assert "5 minutes ahead of our clock" in found(report, "beginning").says


@pytest.mark.parametrize(
    ("variable", "stdin"),
    [
        ("a.b.c", ""),
        ("", "a.b.c\n"),
        ("", "Bearer a.b.c"),
        ("Authorization: Bearer a.b.c", ""),
        ("", "  authorization: bearer\ta.b.c \r\n"),
        ("", "a.b\n.c\n"),
        ("a.b.c", "another"),
    ],
)
def test_a_token_is_read_from_the_environment_or_standard_input(variable: str, stdin: str) -> None:
    assert read_token({"TOKEN": variable}, io.StringIO(stdin)) == "a.b.c"


def test_who_sits_at_a_terminal_is_asked_for_a_token_of_any_size_within_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.StringIO("a" * 9 * LARGEST_TOKEN)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    # Longer than any that is taken, so that it is said to be too long; but not without end.
    assert len(read_token({}, typed)) == 4 * LARGEST_TOKEN
    assert capsys.readouterr() == ("", "The token, then Ctrl-D:\n")


def test_without_a_token_one_is_told_how_to_give_one() -> None:
    for nothing in ("", " \n", "Bearer "):
        with pytest.raises(ValueError, match="make token-check STAGE=prod TOKEN="):
            read_token({}, io.StringIO(nothing))


# --- The command ----------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, for a stage with the settings of these tests."""
    monkeypatch.setattr(token_check, "settings_of", lambda *_: settings())
    monkeypatch.setattr(token_check, "fetch_keys", keys)

    def ran(given: str, *words: str, variable: str = "") -> tuple[int, str, str]:
        monkeypatch.setenv("TOKEN", variable)
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        try:
            status = token_check.main([*words])
        except SystemExit as end:
            status = int(str(end.code))
        output = capsys.readouterr()
        return status, output.out, output.err

    return ran


def test_an_accepted_token_is_status_0_and_a_refused_one_1(run: Run) -> None:
    status, said, _ = run(token(), "--stage", "prod")
    assert status == 0
    assert said.endswith("Accepted.\n")
    assert run("", "--stage", "prod", variable=token())[0] == 0
    status, said, _ = run(token(aud="another"), "--stage", "prod")
    assert status == 1
    assert "FAILED  audience   wrong audience: aud is 'another', and TokenAudience is" in said
    assert "-> Ask your issuer for a token for this API." in said
    assert said.endswith("Refused, for its audience.\n")


def test_the_report_is_json_for_machines(run: Run) -> None:
    status, said, _ = run(token(exp=1), "--stage", "prod", "--json")
    report = json.loads(said)
    assert (status, report["accepted"], report["stage"]) == (1, False, "prod")
    assert report["issuer"] == ISSUER
    assert [finding["check"] for finding in report["findings"]] == list(CHECKS)
    assert json.loads(run(token(), "--json")[1])["context"]["caller"] == "42"


def test_the_token_is_never_printed_not_even_where_it_does_not_belong(run: Run) -> None:
    given = token()
    for status, *output in (
        run(given),
        run(given, "--json"),
        run("", given),
        run("", "--token", given),
        run("", f"--token={given}"),
    ):
        assert status in (0, 2)
        assert not any(given.split(".")[1] in said for said in output)


def test_a_stage_that_cannot_be_looked_at_is_an_error_that_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trouble in (DeployError("no stack"), NotRunningError("no stack"), KeyError("TOKEN_ISSUER")):

        def none(*where: object, trouble: Exception = trouble) -> TokenSettings:
            assert where == ("dev", "eu-west-3")
            raise trouble

        monkeypatch.setattr(token_check, "settings_of", none)
        words = ("--stage", "dev", "--region", "eu-west-3")
        assert run(token(), *words) == (1, "", f"error: {trouble}\n")
    status, said, error = run("")
    assert (status, said) == (1, "")
    assert error.startswith("error: there is no token. make token-check STAGE=prod")


def test_the_settings_are_those_of_the_deployed_authorizer_of_the_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def configuration(**names: str) -> Json:
        asked.append(names)
        return {"Environment": {"Variables": ENVIRONMENT | {"STAGE": "prod"}}}

    def reached(*where: object) -> object:
        asked.append(where)
        aws = SimpleNamespace(get_function_configuration=configuration)
        return SimpleNamespace(client=lambda _: aws, functions={"authorizer": "its-name"})

    monkeypatch.setattr(token_check, "reach", reached)
    assert token_check.settings_of("prod", "eu-west-3") == settings()
    assert asked == [("prod", "eu-west-3"), {"FunctionName": "its-name"}]


def test_keys_of_an_issuer_are_fetched_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(asked: TokenSettings) -> Json:
        fetched.append(asked.issuer)
        return {"keys": [public(EC_KEY, "ec")]}

    monkeypatch.setattr(token_check, "fetch_keys", fetch)
    assert run(token())[0] == 0
    assert fetched == [ISSUER]
