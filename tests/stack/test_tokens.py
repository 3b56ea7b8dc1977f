"""Tokens of the local stack: `make token` and the issuer behind it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import jwt
import pytest
from credits_client import ClientCredentials, Credits, Forbidden
from rich.console import Console

from infra.commands import run
from infra.deployment import packaging
from infra.local import client_credentials, tokens
from infra.local.stacks import LocalStack
from tests.stack.api import Api

Run = subprocess.CompletedProcess[str]
MakeToken = Callable[..., Run]


@pytest.fixture
def make_token(stack: LocalStack, tmp_path: Path) -> MakeToken:
    """What `make token` runs, with this test's stack as the one that `make up` started."""
    state_file = tmp_path / "local.json"
    state_file.write_text(stack.to_json())

    def run(*words: str, state: Path = state_file, command: str = "token") -> Run:
        return subprocess.run(
            [sys.executable, "-m", "infra", command, *words],
            cwd=packaging.ROOT,
            env=os.environ | {"CREDITS_STATE_FILE": str(state)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_token_is_printed_and_the_api_takes_it(stack: LocalStack, make_token: MakeToken) -> None:
    run = make_token("--user-id", "42")
    assert (run.returncode, run.stderr) == (0, "")
    token = run.stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["scope"]) == ("42", "credits:read credits:use")
    assert claims["iss"] == stack.issuer
    api = Api(stack)
    assert api.send("GET", "/api/plans", token).status == 200
    assert api.send("GET", "/api/subscriptions/42", token).status == 403


def test_its_scope_and_lifetime_can_be_chosen(stack: LocalStack, make_token: MakeToken) -> None:
    run = make_token("--user-id", "ops", "--scope", "credits:admin", "--seconds", "60")
    token = run.stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60
    assert Api(stack).send("GET", "/api/subscriptions/nobody", token).status == 404


def test_a_shell_is_given_the_api_and_the_token_of_a_backend(
    stack: LocalStack, make_token: MakeToken
) -> None:
    run = make_token(command="env")
    shell = subprocess.run(
        ["/bin/sh", "-c", f"{run.stdout}\nenv"], env={}, capture_output=True, text=True, check=True
    )
    exported = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    assert exported["API"] == stack.api_url
    assert exported["TOKEN_URL"] == f"{stack.issuer}/oauth/token"
    claims = jwt.decode(exported["TOKEN"], options={"verify_signature": False})
    assert (claims["sub"], claims["scope"]) == ("backend", "credits:backend credits:billing")
    assert Api(stack).send("GET", "/api/subscriptions/nobody", exported["TOKEN"]).status == 404


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ((), "make token USER_ID=42"),
        (("--user-id", "42", "--scope", "admin"), "credits:admin"),
        (("--user-id", "4 2"), "user_id: must be"),
        (("--user-id", "42", "--seconds", "0"), "from 1 to 31,622,400"),
    ],
)
def test_a_wrong_call_is_told_what_to_do(
    make_token: MakeToken, words: tuple[str, ...], advice: str
) -> None:
    run = make_token(*words)
    assert run.returncode == 2
    assert run.stdout == ""
    assert advice in run.stderr


def test_without_a_stack_one_is_told_how_to_start_it(
    stack: LocalStack, make_token: MakeToken, tmp_path: Path
) -> None:
    run = make_token("--user-id", "42", state=tmp_path / "none.json")
    assert (run.returncode, run.stdout) == (1, "")
    assert "make up" in run.stderr
    stale = tmp_path / "stale.json"
    stale.write_text(json.dumps({**json.loads(stack.to_json()), "issuer": "http://127.0.0.1:9"}))
    run = make_token("--user-id", "42", state=stale)
    assert (run.returncode, run.stdout) == (1, "")
    assert "make up" in run.stderr
    assert "Traceback" not in run.stderr


# --- make token-check -----------------------------------------------------------------------------


@pytest.fixture
def make_token_check(stack: LocalStack, tmp_path: Path) -> Callable[..., Run]:
    """`make token-check` itself, with this test's stack as the one that `make up` started."""
    state_file = tmp_path / "local.json"
    state_file.write_text(stack.to_json())

    def run(*words: str, token: str = "", stdin: str = "") -> Run:
        return subprocess.run(
            ["make", "--no-print-directory", "token-check", *words],
            cwd=packaging.ROOT,
            env=os.environ | {"CREDITS_STATE_FILE": str(state_file), "TOKEN": token},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_token_that_the_stack_takes_passes_every_check(
    stack: LocalStack, make_token_check: Callable[..., Run]
) -> None:
    token = stack.token("42")
    for ran in (make_token_check("JSON=1", token=token), make_token_check("JSON=1", stdin=token)):
        assert (ran.returncode, ran.stderr) == (0, "")
        report = json.loads(ran.stdout)
        assert (report["stage"], report["issuer"]) == ("local", stack.issuer)
        assert report["context"]["user_id"] == "42"
        assert token not in ran.stdout


def test_a_token_that_the_stack_refuses_is_told_why_and_what_to_do(
    stack: LocalStack, make_token_check: Callable[..., Run]
) -> None:
    run = make_token_check(f"TOKEN={stack.token('42', exp=1_700_000_000)}")
    assert "FAILED  expiry     the token has expired: exp is 2023-11-14T22:13:20Z" in run.stdout
    assert "Get a new token" in run.stdout
    assert "Refused, for its expiry." in run.stdout
    assert run.returncode == 2  # make's own status for a command that failed


def test_without_a_token_one_is_told_how_to_give_one(make_token_check: Callable[..., Run]) -> None:
    run = make_token_check()
    assert run.returncode == 2
    assert "error: there is no token. make token-check STAGE=prod TOKEN=" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_issuer_ends_with_its_block_and_never_shows_its_key() -> None:
    with tokens.issuer() as url:
        with urllib.request.urlopen(f"{url}/jwks.json", timeout=5) as answer:
            (key,) = json.load(answer)["keys"]
        assert set(key) <= {"kty", "n", "e", "kid", "alg", "use", "key_ops"}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/key", timeout=5)
        # A page in a browser could send this.
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"{url}/token", data=b"{}", timeout=5)
        assert (
            jwt.decode(
                tokens.issue(url, "42"),
                jwt.PyJWK(key),
                algorithms=["RS256"],
                audience=client_credentials.AUDIENCE,
                issuer=url,
            )["exp"]
            > time.time()
        )
    with pytest.raises(tokens.TokenError, match="make up"):
        tokens.issue(url, "42")


def test_what_make_run_prints_to_try_is_answered(stack: LocalStack, make_token: MakeToken) -> None:
    Api(stack).subscribe("somebody")
    printed = StringIO()
    run.show_how_to_call(stack, "http://127.0.0.1:1", Console(file=printed))
    assert printed.getvalue().split()[:2] == ["Console", "http://127.0.0.1:1"]
    ((user_id, url),) = re.findall(r'make -s token USER_ID=(\S+)\)" (\S+)', printed.getvalue())
    token = make_token("--user-id", user_id).stdout.strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["current_balance"] >= 0


# --- A backend's own token ------------------------------------------------------------------------


def test_the_way_of_the_page_from_a_secret_to_an_answered_call_works(
    stack: LocalStack, make_token: MakeToken, tmp_path: Path
) -> None:
    page = (packaging.ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    local = page.split("\n## On your machine\n")[1].split("\n## ")[0]
    first, call = re.findall(r"^```sh\n(.*?)^```$", local, re.MULTILINE | re.DOTALL)
    (program,) = re.findall(r"^```python\n(.*?)^```$", local, re.MULTILINE | re.DOTALL)
    user = "backends-page"
    printed = make_token(command="env").stdout
    exported = dict(
        line.removeprefix("export ").split("=", 1) for line in printed.replace("'", "").splitlines()
    )
    script = (first + call).replace("$(make -s env)", "$PRINTED").replace("curl -", "curl -sS -")
    environment = os.environ | exported | {"PRINTED": printed}
    environment |= {"CREDITS_STATE_FILE": str(tmp_path / "local.json")}
    environment |= {"PYTHONPATH": str(packaging.ROOT / "clients" / "python" / "src")}
    ran = subprocess.run(
        ["sh", "-eu", "-c", re.sub(r"\bada\b", user, script)],
        cwd=packaging.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Accepted.\n" in ran.stdout
    assert re.search(r"ok +scopes +credits:backend$", ran.stdout, re.MULTILINE)
    # The first call registers the user, the second reads the balance.
    assert f'"user_id":"{user}"' in ran.stdout.replace(" ", "")
    balance = Api(stack).balance(user)
    assert f'"available_balance":{balance}' in ran.stdout.replace(" ", "")

    ran = subprocess.run(
        [sys.executable, "-c", re.sub(r"\bada\b", user, program)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{balance}\n", "")


@pytest.mark.parametrize("secret_in_body", [False, True])
def test_a_backends_own_token_may_do_what_it_asked_for_alone(
    stack: LocalStack, *, secret_in_body: bool
) -> None:
    credentials = ClientCredentials(
        f"{stack.issuer}{client_credentials.PATH}",
        client_credentials.CLIENT_ID,
        client_credentials.CLIENT_SECRET,
        "credits:backend",
        audience=client_credentials.AUDIENCE,
        secret_in_body=secret_in_body,
    )
    Api(stack).subscribe("own-token")
    with Credits(stack.api_url, credentials) as client:
        assert client.balance("own-token").held_balance == 0
        with pytest.raises(Forbidden):
            client.purchase("own-token", 5, payment_id="pi_own_token")
