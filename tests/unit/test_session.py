"""AWS as commands reach it: which account and region, and what is said when that fails."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import botocore.session
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    LoginRefreshRequired,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from chalicelib.domain.edits import BY_IMPORT
from chalicelib.store.wire.errors import NoAnswer, ServiceError
from infra import reach, session
from infra.__main__ import COMMANDS, main
from infra.commands import completeness
from infra.commands import deploy as command
from infra.deployment import packaging
from infra.deployment.deployed import Deployment
from infra.deployment.errors import DeployError
from infra.deployment.stage_services import THREADS
from infra.doctor import before
from infra.local import stacks
from infra.local.stacks import LocalStack
from infra.session import (
    AwsError,
    CredentialsError,
    Region,
    Session,
    UnreachableError,
    explained,
    open_session,
    region_of,
)
from infra.ticks import Ticks

URL = "https://sts.eu-west-1.amazonaws.com/"
VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "so it says"}}, "DescribeStacks")


CALLER = {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/ada"}
"""Who AWS says is calling."""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine without credentials, and what writes its ~/.aws/config."""
    for name in (*VARIABLES, *CREDENTIALS):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.touch()
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def write(text: str) -> None:
        config.write_text(text)

    return write


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The clients that were made, each with its region, in an account that lets everybody in."""
    clients: list[tuple[str, str]] = []

    def create(_: Any, service: str, region_name: str, **__: Any) -> Any:
        clients.append((service, region_name))
        return SimpleNamespace(get_caller_identity=lambda: CALLER)

    monkeypatch.setattr(botocore.session.Session, "create_client", create)
    return clients


# --- The region -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "first", "second", "profile", "shown"),
    [
        ("eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1", "eu-west-1 (from REGION)"),
        (None, "eu-west-2", "eu-west-2", "eu-north-1", "eu-west-2 (from AWS_REGION)"),
        (None, "eu-west-2", "", "eu-north-1", "eu-west-2 (from AWS_REGION)"),
        ("", "", "eu-west-3", "eu-north-1", "eu-west-3 (from AWS_DEFAULT_REGION)"),
        (None, " ", "", "eu-north-1", "eu-north-1 (from profile prod)"),
        ("us-gov-west-1\n", "", "", "", "us-gov-west-1 (from REGION)"),
    ],
)
def test_the_region_is_the_one_given_then_aws_region_then_the_default_then_the_profiles(
    given: str | None, first: str, second: str, profile: str, shown: str
) -> None:
    environment = {"AWS_REGION": first, "AWS_DEFAULT_REGION": second}
    assert str(region_of(given, environment, ("prod", profile))) == shown


def test_two_variables_that_disagree_are_both_shown() -> None:
    environment = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}
    assert str(region_of(None, environment, ("default", ""))) == (
        "eu-west-1 (from AWS_REGION; AWS_DEFAULT_REGION=us-east-1 is passed over)"
    )


def test_without_a_region_the_error_says_how_to_name_one() -> None:
    with pytest.raises(AwsError, match=r"Add REGION=eu-west-1, or: export AWS_REGION=eu-west-1"):
        region_of(None, {}, ("default", ""))


@pytest.mark.parametrize("name", ["Ireland", "eu west 1", "eu-west", "eu-west-1a", "x/../y-1", "1"])
def test_what_cannot_be_a_region_is_named_with_where_it_comes_from(name: str) -> None:
    with pytest.raises(AwsError, match="AWS_REGION must be a region of AWS, such as eu-west-1; is"):
        region_of(None, {"AWS_REGION": name, "AWS_DEFAULT_REGION": "eu-west-1"}, ("default", ""))


def test_the_region_of_a_profile_does_not_win_over_the_environments(
    machine: Callable[[str], None], made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("[profile prod]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_PROFILE", "prod")
    assert open_session().region == Region("us-east-1", "profile prod")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    aws = open_session()
    assert str(aws) == "AWS account 123456789012, region eu-west-1 (from AWS_REGION)"
    aws.client("dynamodb")
    assert made == [("sts", "us-east-1"), ("sts", "eu-west-1"), ("dynamodb", "eu-west-1")]
    assert (aws.account, aws.caller) == (CALLER["Account"], CALLER["Arn"])


def test_a_client_goes_to_the_address_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(_: Any, *asked: str, **where: Any) -> Any:
        return asked, where, where.pop("config").connect_timeout

    monkeypatch.setattr(botocore.session.Session, "create_client", create)
    sdk = botocore.session.Session()
    found = session.make_client(sdk, "sqs", "eu-west-1", {}, endpoint_url="http://localhost:1")
    where = {"region_name": "eu-west-1", "endpoint_url": "http://localhost:1"}
    assert found == (("sqs",), where, 10)


def test_a_mistaken_region_of_the_default_profile_is_said_to_be_that(
    machine: Callable[[str], None],
) -> None:
    machine("[default]\nregion = Ireland\n")
    with pytest.raises(AwsError, match=r"^profile default must be a region of AWS"):
        open_session()


def test_an_error_with_its_own_advice_is_said_in_its_own_words() -> None:
    assert session.words(DeployError("there is no stack")) == "there is no stack"
    assert session.words(refused("AccessDenied")).startswith("AWS refuses: ")


def test_every_region_that_the_sdk_knows_has_the_form_of_one() -> None:
    sdk = botocore.session.Session()
    for partition in sdk.get_available_partitions():
        for name in sdk.get_available_regions("cloudformation", partition):
            assert region_of(name, {}, ("default", "")).name == name


# --- What stands in the way -----------------------------------------------------------------------

SSO = "aws sso login --profile NAME; export AWS_PROFILE=NAME"

TROUBLE = {
    "no credentials": (NoCredentialsError(), CredentialsError, SSO),
    "half of them": (
        PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        CredentialsError,
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, both",
    ),
    "no such profile": (
        ProfileNotFound(profile="pord"),
        CredentialsError,
        "aws configure list-profiles",
    ),
    "not logged in": (SSOTokenLoadError(error_msg="no token"), CredentialsError, SSO),
    "an SSO login that expired": (UnauthorizedSSOTokenError(), CredentialsError, SSO),
    "an SSO session that expired": (
        TokenRetrievalError(provider="sso", error_msg="Token has expired"),
        CredentialsError,
        SSO,
    ),
    "a login of the console that expired": (
        LoginRefreshRequired(),
        CredentialsError,
        "Log in: aws login\nTo try Credits without AWS: make run",
    ),
    "a credential_process that fails": (
        CredentialRetrievalError(provider="custom-process", error_msg="no vault"),
        CredentialsError,
        "credential_process in ~/.aws/config, run that by hand",
    ),
    "an expired token": (refused("ExpiredToken"), CredentialsError, SSO),
    "an expired token, of other services": (
        refused("ExpiredTokenException"),
        CredentialsError,
        SSO,
    ),
    "unknown keys": (refused("InvalidClientTokenId"), CredentialsError, "has not enabled"),
    "unknown keys, of other services": (
        refused("UnrecognizedClientException"),
        CredentialsError,
        "has not enabled",
    ),
    "a clock that is wrong": (
        refused("SignatureDoesNotMatch"),
        CredentialsError,
        "Is the clock of this machine right?",
    ),
    "no right": (
        refused("AccessDenied"),
        AwsError,
        "Ask the administrator of the account for that right",
    ),
    "no right, of SNS": (
        refused("AuthorizationError"),
        AwsError,
        "Ask the administrator of the account",
    ),
    "no right, of a HEAD": (refused("403"), AwsError, "Ask the administrator of the account"),
    "no network": (
        EndpointConnectionError(endpoint_url=URL),
        UnreachableError,
        "Is there a network",
    ),
    "no answer": (ConnectTimeoutError(endpoint_url=URL), UnreachableError, "HTTPS_PROXY"),
    "an answer that ends": (ReadTimeoutError(endpoint_url=URL), UnreachableError, "REGION=eu-west"),
    "no proxy": (ProxyConnectionError(proxy_url=URL), UnreachableError, "HTTPS_PROXY"),
    "no proxy on this machine": (
        ProxyConnectionError(proxy_url="http://127.0.0.1:3128"),
        UnreachableError,
        "HTTPS_PROXY",
    ),
    "an expired token, of DynamoDB": (
        ServiceError("Query", 400, "ExpiredTokenException", {"message": "so it says"}),
        CredentialsError,
        SSO,
    ),
    "no right, of DynamoDB": (
        ServiceError("Query", 400, "AccessDeniedException", {"message": "so it says"}),
        AwsError,
        "Ask the administrator of the account",
    ),
    "no answer, of DynamoDB": (
        NoAnswer(f"{URL} took too long", is_timeout=True),
        UnreachableError,
        "HTTPS_PROXY",
    ),
    "a local stack that ended, of DynamoDB": (
        NoAnswer("there is no connection to http://127.0.0.1:4566: ConnectionRefusedError"),
        UnreachableError,
        "make up",
    ),
    "a local stack that ended, by its other name": (
        EndpointConnectionError(endpoint_url="http://localhost:4566/"),
        UnreachableError,
        "make up",
    ),
    "a local stack that ended": (
        EndpointConnectionError(endpoint_url="http://127.0.0.1:4566/"),
        UnreachableError,
        "make up",
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_what_stands_in_the_way_is_said_with_what_to_type(name: str) -> None:
    error, kind, fix = TROUBLE[name]
    found = explained(error)
    assert type(found) is kind
    assert fix in str(found)


def test_the_profile_to_log_in_with_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    assert "aws sso login --profile prod\n" in str(explained(UnauthorizedSSOTokenError()))
    assert "aws login --profile prod\n" in str(explained(LoginRefreshRequired()))
    program = CredentialRetrievalError(provider="custom-process", error_msg="no vault")
    assert "the credentials of profile prod cannot be had" in str(explained(program))
    # As botocore has it, which reads the older name first.
    monkeypatch.setenv("AWS_DEFAULT_PROFILE", "old")
    assert "aws login --profile old\n" in str(explained(LoginRefreshRequired()))
    assert botocore.session.Session().profile == "old"


SSO_PROFILE = """
[default]
sso_session = ours
sso_account_id = 123456789012
sso_role_name = admin
[sso-session ours]
sso_region = eu-west-1
sso_start_url = https://nobody-has-logged-in-here.awsapps.com/start
"""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "there are no credentials"),
        (SSO_PROFILE, "your SSO login is missing or has expired"),
        ("[default]\ncredential_process = false\n", "cannot be had"),
        ("[default]\ncredential_process = there-is-no-such-program\n", "cannot be had: .*No such"),
        ("[default]\ncredential_process = echo hello\n", "cannot be had"),
        ("[default]\ncredential_process = echo []\n", "cannot be had"),
        ("[default]\ncredential_process = echo {}\n", "Unsupported version"),
        ("[default]\ncredential_process = 'a\n", "cannot be had"),
        ("[default\n", "Unable to parse config file"),
    ],
)
def test_credentials_that_this_machine_cannot_give_are_no_traceback(
    config: str, said: str, machine: Callable[[str], None]
) -> None:
    """These are botocore's own ways to look for them, and none of them asks AWS."""
    machine(config)
    with pytest.raises(AwsError, match=said):
        open_session("eu-west-1")


@pytest.mark.parametrize(
    "error",
    [ReadTimeoutError(endpoint_url=URL), ProxyConnectionError(proxy_url=URL)],
    ids=lambda error: type(error).__name__,
)
def test_an_aws_that_falls_silent_is_not_taken_for_credentials_that_cannot_be_had(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Some errors of the SDK are errors of the operating system, as those of programs are."""
    machine("[default]\n")

    def silent() -> None:
        raise error

    monkeypatch.setattr(
        session, "make_client", lambda *_, **__: SimpleNamespace(get_caller_identity=silent)
    )
    with pytest.raises(UnreachableError, match="AWS cannot be reached"):
        open_session("eu-west-1")


# --- In every command -----------------------------------------------------------------------------

REACHES = {
    "deploy": "",
    "doctor": "",
    "deploy-policy": "",
    "token-check": "",
    "import": "SUBSCRIPTIONS",
    "balances": "BALANCES",
    "usages": "MOVEMENTS",
    "cutover": "",
    "grant": "--approved-by ada PROMOTION",
    "show": "42",
    "verify": "42",
    "completeness": "2026-07",
    "liability": "2026-07-01T00:00Z",
    "whatif": "--plans PLANS --from 2026-01 --to 2026-02",
    "shadow": "MOVEMENTS",
    "stripe": "",
    "stripe-secret": "",
    "events": "--user-id 42 --from 1",
    "redrive": "",
    "replay": "--from 2026-07-01T00:00Z --kind allocation",
    "allocate": "--period 2026-07 --user-id 42",
    "void": "--user-id 42 --batch 42-7 --reason r --actor a",
    "export": "--user-id 42",
    "erase": "--user-id 42",
}
"""The commands that reach a stage, with what they cannot do without."""

FILES = {
    "SUBSCRIPTIONS": "user_id,timezone,plan,billing_interval,status,started_at\n"
    "1,Europe/Paris,starter,yearly,active,2023-01-30T21:21:21Z\n",
    "PLANS": (packaging.ROOT / packaging.PLANS).read_text("utf-8"),
    "MOVEMENTS": "reference,user_id,at,kind,amount\na,1,2026-01-01T00:00:00Z,usage,-5\n",
    "PROMOTION": "user_id,amount,description,expires_in_days\n1,5,Thanks,30\n",
    "BALANCES": "reference,user_id,amount,granted_at\na,1,5,2026-01-01T00:00:00Z\n",
}

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")

Ran = tuple[object, str]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """A command as `make` runs it: its exit status, and what it said."""
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    monkeypatch.setenv("TOKEN", "a.b.c")
    monkeypatch.setenv("COLUMNS", "200")

    def ran(name: str, *words: str) -> Ran:
        given = [
            str(tmp_path / word) if word in FILES else word
            for word in REACHES.get(name, "").split()
        ]
        monkeypatch.setattr(sys, "argv", ["infra", name, *words, *given])
        try:
            status: object = main()
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        return status, said.out + said.err

    return ran


def test_every_command_that_takes_a_stage_takes_a_region(run: Callable[..., Ran]) -> None:
    helps = {name: run(name, "--help")[1] for name in COMMANDS}
    # What is packaged is for a stage in a region, which is not reached. Emails are pictured in the
    # name of a stage's product, which is the same in every region.
    taking = {*REACHES, "package"}
    assert {name for name, shown in helps.items() if "--stage" in shown} == taking | {"mails"}
    assert {name for name, shown in helps.items() if "--region" in shown} == taking


@pytest.mark.parametrize("command", REACHES)
@pytest.mark.parametrize(
    "trouble",
    [
        "no credentials",
        "no such profile",
        "an SSO login that expired",
        "a credential_process that fails",
        "an expired token",
        "no network",
    ],
)
def test_no_command_answers_trouble_with_a_traceback(
    command: str, trouble: str, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    error, _, fix = TROUBLE[trouble]

    def create(*_: object, **__: object) -> Any:
        raise error

    monkeypatch.setattr(botocore.session.Session, "create_client", create)
    status, said = run(command, "--stage=dev", "--region=eu-west-1")
    assert status == 1
    # Of the doctor it is a finding: it goes on with what it can look at without AWS.
    assert ("✗  account" if command == "doctor" else "error: ") in said
    assert fix in said


@pytest.mark.parametrize("command", [name for name in REACHES if "deploy" not in name])
def test_the_local_stack_is_in_no_region(command: str, run: Callable[..., Ran]) -> None:
    """Or a stage that was meant to be looked at in AWS would be thought to have been."""
    status, said = run(command, "--region=eu-west-1")
    assert status == 1
    assert "The local stack is in no region. For a stage in AWS: STAGE=prod REGION=..." in said


def test_account_and_region_are_shown_before_anything_is_looked_for(
    made: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def describe(stage: str, client: session.ClientFactory) -> Deployment:
        assert capsys.readouterr().err == (
            "Stage dev in AWS account 123456789012, region eu-west-1 (from REGION)\n"
        )
        raise DeployError(f"there is no {stage}, and {client}")

    monkeypatch.setattr(reach, "describe", describe)
    with pytest.raises(DeployError, match="there is no dev"):
        reach.reach("dev", "eu-west-1")
    assert made == [("sts", "eu-west-1")]


DEPLOYED = Deployment(
    stack="credits-dev",
    stage="dev",
    changed=False,
    api_id="abc",
    api_url="https://api",
    functions={"tick": "a-function"},
    tables={
        name: f"dev-{name}" for name in ("ledger", "subscriptions", "edits", "mails", "idempotency")
    },
    queues={"sweeps": "a-queue"},
    buckets={},
    outputs={},
)


def test_a_stage_is_reached_in_the_region_and_account_that_were_shown(
    made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def note(name: str) -> Callable[..., Any]:
        def noted(*given: Any) -> str:
            asked.append((name, *given))
            return name

        return noted

    monkeypatch.setattr(reach, "describe", lambda *_: DEPLOYED)
    monkeypatch.setattr(reach, "settings_of", note("settings"))
    monkeypatch.setattr(reach, "connect", note("dynamodb"))
    monkeypatch.setattr(reach, "StageServices", lambda *given: given)
    found = reach.reach("dev", "eu-west-1")
    assert asked == [
        ("settings", "dev", "eu-west-1", DEPLOYED),
        ("dynamodb", "eu-west-1", THREADS),
    ]
    assert cast("Any", found.services) == ("settings", found.client, "dynamodb")
    assert (found.stage, found.account, found.caller) == ("dev", "123456789012", CALLER["Arn"])
    assert (found.functions, found.queues) == (DEPLOYED.functions, DEPLOYED.queues)
    found.client("sqs")
    assert made == [("sts", "eu-west-1"), ("sqs", "eu-west-1")]

    def without(*_: object) -> None:
        raise NoCredentialsError

    monkeypatch.setattr(reach, "connect", without)
    with pytest.raises(CredentialsError):
        reach.services_of("dev", "eu-west-1")


def test_a_stage_that_there_is_not_is_looked_for_nowhere(made: list[tuple[str, str]]) -> None:
    with pytest.raises(DeployError, match="no stage 'prood'; the stages are local, dev, prod"):
        reach.reach("prood", "eu-west-1")
    assert made == []


def test_the_local_stack_is_reached_by_its_own_names_and_queues(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = SimpleNamespace(
        stage="local", functions={"tick": "f"}, queues={"sweeps": "q"}, client=lambda _: "client"
    )
    services = SimpleNamespace(queues="of AWS")
    monkeypatch.setattr(stacks, "running_stack", lambda: stack)
    monkeypatch.setattr(reach, "services_of_local", lambda of: services if of is stack else None)
    monkeypatch.setattr(reach, "queues_of_local", lambda of: "its own" if of is stack else None)
    found = reach.reach("local", "")
    assert (found.stage, found.functions, found.queues) == ("local", {"tick": "f"}, {"sweeps": "q"})
    assert found.services is cast("Any", services)
    assert services.queues == "its own"
    assert (found.client("sqs"), found.account, found.caller) == ("client", None, "")
    assert capsys.readouterr() == ("", "")


def test_who_is_entered_again_is_the_same_user_as_of_another_instant() -> None:
    catalogue = packaging.catalogue()
    asked: list[Any] = []

    def change(user_id: str, decide: Callable[..., Any], *how: Any) -> Any:
        asked.append((user_id, *how))
        return decide(*existing)

    services = SimpleNamespace(catalogue=catalogue, subscriptions=SimpleNamespace(change=change))
    values = {
        "user_id": "42",
        "email": "zoe@example.com",
        "timezone": "Europe/Paris",
        "plan": "starter",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2023-01-30T21:21:21Z",
    }
    first, second = (datetime(2026, 7, day, tzinfo=UTC) for day in (1, 2))
    existing: list[Any] = [None]
    made = reach.enter(cast("Any", services), values, first)
    assert (made.user_id, made.email, made.version) == ("42", "zoe@example.com", 1)
    # An amount from before the plan's cap was lowered stays, on the plan that it is on.
    existing[0] = replace(made, allocation_amount=10**9)
    more = {"timezone": "Asia/Tokyo", "allocation_amount": 10**9}
    again = reach.enter(cast("Any", services), {**values, **more}, second)
    assert (again.timezone, again.version) == ("Asia/Tokyo", 2)
    assert (again.allocation_amount, again.registered_at) == (10**9, first)
    assert asked == [("42", BY_IMPORT, first), ("42", BY_IMPORT, second)]


def test_a_deployment_shows_account_and_region_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(*_: object, **__: object) -> None:
        shown = capsys.readouterr().out
        assert shown == "Stage prod in AWS account 123456789012, region eu-west-1 (from REGION)\n"

    def deployed(*_: object, **__: object) -> Deployment:
        raise DeployError("declined")

    def nothing(*_: object, **__: object) -> None: ...

    aws = Session("123456789012", Region("eu-west-1", "REGION"), nothing)
    monkeypatch.setattr(command, "open_session", lambda _: aws)
    monkeypatch.setattr(before, "look", look)
    monkeypatch.setattr(command, "deploy", deployed)
    monkeypatch.setattr(command, "parameters_of", lambda _: {})
    monkeypatch.setattr(sys, "argv", ["deploy", "--stage", "prod"])
    assert command.main() == 1
    assert capsys.readouterr().err == "error: declined\n"


@pytest.mark.parametrize(
    "command", [name for name in REACHES if "deploy" not in name and name != "doctor"]
)
def test_a_network_that_is_lost_while_a_command_works_is_no_traceback_either(
    command: str, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is the network of the stage and the region that were asked for."""
    asked: list[tuple[object, ...]] = []

    class Lost:
        def __getattr__(self, name: str) -> Any:
            raise NoAnswer(f"there is no connection to {URL}", is_connected=False)

    def reached(*where: object) -> Any:
        asked.append(where)
        return Lost()

    monkeypatch.setattr(reach, "reach", reached)
    monkeypatch.setattr(reach, "services_of", reached)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"whsec_{'n' * 32}"))
    status, said = run(command, "--stage=prod", "--region=eu-west-3")
    assert status == 1
    assert f"error: AWS cannot be reached: there is no connection to {URL}" in said
    assert asked == [("prod", "eu-west-3")]


def test_a_count_that_is_lost_sight_of_is_said_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = {"success": True, "zones": 1, "bucket": "reports", "summary": "2026-07/1"}

    class Aws:
        def invoke(self, **_: object) -> dict[str, Any]:
            return {"Payload": io.BytesIO(json.dumps(started).encode())}

        def get_object(self, **_: object) -> None:
            raise EndpointConnectionError(endpoint_url=URL)

    functions = {"check-completeness": "check"}
    reached = SimpleNamespace(client=lambda _, **__: Aws(), functions=functions)
    monkeypatch.setattr(reach, "reach", lambda *_: reached)
    assert completeness.main(["2026-07"]) == 1
    said = capsys.readouterr().err
    assert "error: AWS cannot be reached" in said
    assert (
        "The count goes on without this command. Its report will be s3://reports/2026-07/1.txt"
        in (said)
    )


def test_a_command_that_asks_no_stage_says_it_as_clearly(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object, **__: object) -> None:
        raise ProfileNotFound(profile="pord")

    monkeypatch.setattr("runpy.run_module", mistaken)
    status, said = run("verify")
    assert status == 1
    assert said.startswith("error: AWS does not know who you are: The config profile (pord) could")


# --- What only AWS shows --------------------------------------------------------------------------


def longest_run(function: str) -> int:
    """How long a function may run in any stage, in seconds."""
    config = json.loads((packaging.ROOT / ".chalice" / "config.json").read_text("utf-8"))
    levels = [config, *config["stages"].values()]
    settings = [level.get("lambda_functions", {}).get(function, {}) for level in levels]
    found: int = max(each.get("lambda_timeout", 0) for each in settings)
    return found


class Invoked:
    """In place of a stage: how long its clients wait, what was invoked, and reports to be read."""

    functions: ClassVar[dict[str, str]] = {
        name: f"credits-{name}" for name in ("allocation-tick", "expiry-tick", "check-completeness")
    }

    def __init__(self, *reports: bytes | ClientError) -> None:
        self.waits: dict[str, float] = {}
        self.reports = list(reports)
        self.invoked: list[tuple[str, Any]] = []
        self.answer: dict[str, Any] = {
            "success": True,
            "zones": 1,
            "bucket": "reports",
            "summary": "2026-07/1",
        }

    def client(self, service: str, read_timeout: float = 60, **_: object) -> Any:
        self.waits[service] = read_timeout
        return self

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        self.invoked.append((FunctionName, json.loads(Payload)))
        return {"Payload": io.BytesIO(json.dumps(self.answer).encode())}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        assert (Bucket, Key.rpartition(".")[0]) == ("reports", "2026-07/1")
        report = self.reports.pop(0)
        if isinstance(report, ClientError):
            raise report
        return {"Body": io.BytesIO(report)}


@pytest.mark.parametrize("function", Invoked.functions)
def test_a_command_waits_for_a_function_for_longer_than_it_may_run(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would ask again, and what was begun would be begun once more."""
    stage = Invoked(b'{"complete": true}', b"all is there\n")
    if function == "check-completeness":
        monkeypatch.setattr(reach, "reach", lambda *_: stage)
        assert completeness.main(["2026-07"]) == 0
    else:
        Ticks(cast("LocalStack", stage)).invoke(function, datetime(2026, 7, 1, tzinfo=UTC), None)
    assert longest_run(function) >= 60
    assert stage.waits["lambda"] > longest_run(function)


def test_a_count_ends_with_what_it_found_once_its_report_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(completeness, "_POLL_SECONDS", 0.0)
    for is_complete in (True, False):
        summary = json.dumps({"complete": is_complete}).encode()
        stage = Invoked(refused("NoSuchKey"), refused("404"), summary, "東京: 3 missing\n".encode())
        monkeypatch.setattr(reach, "reach", lambda *_, stage=stage: stage)
        assert completeness.main(["2026-07"]) == (0 if is_complete else 1)
        shown = capsys.readouterr().out
        assert shown == "東京: 3 missing\ns3://reports/2026-07/1.json\n"
        assert stage.invoked == [("credits-check-completeness", {"period": "2026-07"})]


def test_a_count_is_of_the_zones_that_are_named_and_programs_get_it_on_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Invoked(b'{\n "complete": false,\n "due": 3\n}')
    monkeypatch.setattr(reach, "reach", lambda *_: stage)
    zones = ["Europe/Paris", "Asia/Tokyo"]
    assert completeness.main(["2026-07", "--zones", ", ".join(zones), "--json"]) == 1
    assert stage.invoked[0][1] == {"period": "2026-07", "zones": zones}
    assert capsys.readouterr().out == '{"complete": false, "due": 3}\n'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"success": False, "error": {"detail": "zones: unknown"}}, "error: zones: unknown\n"),
        ({"errorMessage": "it fell"}, "error: {'errorMessage': 'it fell'}\n"),
    ],
)
def test_a_count_that_did_not_begin_says_why(
    answer: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage = Invoked()
    stage.answer = answer
    monkeypatch.setattr(reach, "reach", lambda *_: stage)
    assert completeness.main(["2026-07"]) == 1
    assert capsys.readouterr() == ("", said)


def test_a_count_that_takes_too_long_is_left_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 9_999, 1_200))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("rich.console.Console.status", lambda *_: nullcontext())
    # At 3,600 seconds it is still waited for, and at 4,800 no longer.
    stage = Invoked(*[refused("NoSuchKey")] * 4)
    monkeypatch.setattr(reach, "reach", lambda *_: stage)
    assert completeness.main(["2026-07"]) == 1
    said = capsys.readouterr()
    assert (said.out, stage.reports) == ("", [])
    assert said.err.startswith("error: not counted within 3600 s. Are there messages in the dead")
    assert "its summary will be s3://reports/2026-07/1.json" in said.err


def test_a_report_that_may_not_be_read_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Invoked(refused("AccessDenied"))
    monkeypatch.setattr(reach, "reach", lambda *_: stage)
    assert completeness.main(["2026-07"]) == 1
    assert "Ask the administrator of the account for that right" in capsys.readouterr().err


def test_no_client_waits_a_minute_for_a_connection_unless_told(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("[default]\nregion = eu-west-1\n")
    configs: list[Any] = []

    def create(_: Any, service: str, *, config: Any, **__: Any) -> Any:
        configs.append((service, config.connect_timeout, config.read_timeout))
        return SimpleNamespace(get_caller_identity=lambda: CALLER)

    monkeypatch.setattr(botocore.session.Session, "create_client", create)
    aws = open_session()
    aws.client("sqs", connect_timeout=3, read_timeout=4)
    assert configs == [("sts", 10, 60), ("sqs", 3, 4)]


KINDS = {
    "ExpiredToken": "your login has expired",
    "ExpiredTokenException": "your login has expired",
    "InvalidSignatureException": "Is the clock of this machine right?",
    "RequestExpired": "Is the clock of this machine right?",
    "RequestTimeTooSkewed": "Is the clock of this machine right?",
    "SignatureDoesNotMatch": "Is the clock of this machine right?",
    "AuthFailure": "has not enabled",
    "InvalidAccessKeyId": "has not enabled",
    "InvalidClientTokenId": "has not enabled",
    "MissingAuthenticationToken": "has not enabled",
    "MissingAuthenticationTokenException": "has not enabled",
    "UnrecognizedClientException": "has not enabled",
    "403": "Ask the administrator of the account for that right",
    "AccessDenied": "Ask the administrator of the account for that right",
    "AccessDeniedException": "Ask the administrator of the account for that right",
    "AuthorizationError": "Ask the administrator of the account for that right",
    "ForbiddenException": "Ask the administrator of the account for that right",
    "UnauthorizedOperation": "Ask the administrator of the account for that right",
}
"""AWS's codes, of all its families of protocols, and what each is said to be."""


@pytest.mark.parametrize(("code", "said"), KINDS.items())
def test_every_family_of_protocols_is_understood(code: str, said: str) -> None:
    assert said in str(explained(refused(code)))
