"""Credits on this machine: the emulator, with the stage `local` deployed to it.

`with local_stack() as stack:` starts a `LocalStack` of your own. `running_stack()` finds the one
that `make up` or `make run` keeps running.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import botocore.session

from chalicelib.settings import LOCAL_STAGE
from infra.deployment import deploy, gateway, packaging, shadows
from infra.local import client_credentials, emulator, sign_in, tokens
from infra.session import make_client
from infra.terminal import Say, say_nothing

STAGE = LOCAL_STAGE

# The usual origins of a web page under development.
ALLOWED_ORIGINS = "http://localhost:3000,http://localhost:5173,http://localhost:8080"

# Other processes find the running stack here. A second stack at the same time needs another file.
STATE_FILE = Path(os.environ.get("CREDITS_STATE_FILE", packaging.BUILD / "local.json"))

# As many connections as our programs have threads, at most.
_CONNECTIONS = 64

# How often `stay` checks the emulator, in seconds, and how many checks in a row may fail: a busy
# machine, or a debugger, stops an emulator for some seconds.
_HEALTH_INTERVAL = 2.0
_UNANSWERED = 5

# How long to wait for the name of the process that holds the lock, in steps of 10 ms.
_LOCK_STEPS = 100


class NotRunningError(Exception):
    """No local stack is running."""


class AlreadyRunningError(Exception):
    """Another local stack is already published in the same file; the message names it."""

    def __init__(self, pid: int, address: str) -> None:
        super().__init__(
            f"A local stack is running already: process {pid}, whose console is {address}. Use "
            f"that one, or end it first: Ctrl-C where it runs, or kill {pid}. To run another "
            "beside it, name another file: CREDITS_STATE_FILE=build/second.json make up"
        )


@dataclass(frozen=True)
class LocalStack:
    """A running local stack and the names of its parts, by the same short keys everywhere."""

    endpoint_url: str
    api_url: str
    stack: str
    stage: str
    functions: dict[str, str]
    tables: dict[str, str]
    queues: dict[str, str]
    buckets: dict[str, str]
    mail_url: str
    issuer: str
    clock_file: str

    def client(self, service: str, **settings: Any) -> Any:
        """A botocore client of the emulator's root user, for `service`.

        `settings` are those of `botocore.config.Config`. The first client of a service takes a
        tenth of a second to make. Threads may share a client.
        """
        return client_of(self.endpoint_url, service, **settings)

    def token(self, user_id: str, scopes: str = tokens.DEFAULT_SCOPES, **claims: object) -> str:
        """A token for the API that stands for a user; `claims` add or replace claims."""
        return tokens.issue(self.issuer, user_id, scopes, claims=claims)

    def to_json(self) -> str:
        """The one line that `make up` prints."""
        return json.dumps(asdict(self))


# A session reads the SDK's descriptions of services, which takes ten times as long as making a
# client from them. Every client of an emulator gets its own address and keys, so one session serves
# all; it must not make two at the same time.
_SESSION = botocore.session.get_session()
_MAKING = threading.Lock()


def client_of(
    endpoint_url: str,
    service: str,
    keys: tuple[str, ...] = (emulator.ACCESS_KEY, emulator.SECRET_KEY),
    **settings: Any,
) -> Any:
    """A client of an emulator.

    ``keys``: the id of an access key, its secret and, if it has one, its session's token; the root
    user's if you name none. `settings` are those of `botocore.config.Config`.
    """
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    with _MAKING:
        return make_client(
            _SESSION,
            service,
            emulator.REGION,
            {"max_pool_connections": _CONNECTIONS, **settings},
            endpoint_url=endpoint_url,
            **dict(zip(names, keys, strict=False)),
        )


@contextmanager
def local_stack(
    *,
    say: Say = say_nothing,
    schedules: bool = True,
    publish_at: str | None = None,
    origins: Collection[str] = (),
    is_shadow: bool = False,
    make_package: deploy.PackageMaker = packaging.package,
) -> Iterator[LocalStack]:
    """Start an emulator, deploy the stage `local` to it, and end both when the block ends.

    `say` gets the progress. Without `schedules` a tick runs only when it is invoked, not by the
    clock. With `publish_at`, the address of its console, other processes find this stack by
    `running_stack()`, and no second stack can be published. `origins` are those of more web pages
    that may call the API. `is_shadow`: the stage sends nothing, until the cutover. Raises
    `AlreadyRunningError`, `EmulatorError`, `PackagingError` or `AwsError`.
    """
    # Mistakes are reported at once, not when the stack is up.
    packaging.catalogue()
    packaging.price_list()
    with ExitStack() as ending:
        if publish_at:
            ending.enter_context(alone(publish_at))
        say("Starting the emulator ...")
        issuer = ending.enter_context(tokens.issuer())
        told = parameters(issuer, origins=origins)
        if is_shadow:
            told[shadows.PARAMETER] = shadows.ON
        pages = told["AllowedOrigins"].split(",")
        emulated = ending.enter_context(emulator.emulator(pages))
        stack = _deploy(emulated, told, say, make_package)
        if not schedules:
            _disable_schedules(stack)
        if publish_at:
            STATE_FILE.write_text(stack.to_json())
            ending.callback(STATE_FILE.unlink, missing_ok=True)
        yield stack


@contextmanager
def alone(address: str) -> Iterator[None]:
    """Prevents other stacks from being published meanwhile. Raises `AlreadyRunningError`.

    The lock ends with the process that holds it, however that ends. Its text stays in the file and
    does no harm.
    """
    STATE_FILE.parent.mkdir(parents=True, exist_ok=True)
    with STATE_FILE.with_suffix(".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(*_holder(lock)) from error
        lock.truncate(0)
        lock.write(json.dumps([os.getpid(), address]))
        lock.flush()
        yield


def _holder(lock: IO[str]) -> tuple[int, str]:
    """The process that holds the lock, and the address of its console."""
    for _ in range(_LOCK_STEPS):
        lock.seek(0)
        # The text of an earlier holder is there until the new holder writes.
        with suppress(ValueError, TypeError, ProcessLookupError):
            pid, address = json.loads(lock.read())
            os.kill(pid, 0)
            return pid, address
        time.sleep(0.01)
    raise NotRunningError(f"A local stack is starting or ending. Try again ({lock.name})")


def parameters(issuer: str, stage: str = STAGE, origins: Collection[str] = ()) -> dict[str, str]:
    """The parameters for deploying a stage to the emulator.

    Each stack has its own mail domain: a domain is one identity of the account, and two stacks
    cannot share it.
    """
    return {
        "TokenIssuer": issuer,
        "TokenAudience": client_credentials.AUDIENCE,
        "AllowedOrigins": ",".join((ALLOWED_ORIGINS, *origins)),
        "ConsoleClientId": sign_in.CLIENT_ID,
        "ConsoleScope": sign_in.SCOPE,
        "MailDomain": f"{stage}.example.com",
        "ProductName": "Lighthouse",
        "ProductUrl": "https://app.example.com/credits",
        "ProductAddress": "Harbour Street 1, 20457 Hamburg, Germany",
        "ProductSupport": "help@example.com",
        "MailsASecond": "0",  # the emulator's outbox accepts any number
        "Events": "on",  # for `make events` to follow
        "LowBalance": "20",
    }


def _deploy(
    emulated: emulator.Emulator,
    parameters: dict[str, str],
    say: Say,
    make_package: deploy.PackageMaker,
) -> LocalStack:
    endpoint_url = emulated.url
    deployment = deploy.deploy(
        STAGE,
        lambda service: client_of(endpoint_url, service),
        region=emulator.REGION,
        parameters=parameters,
        say=say,
        make_package=make_package,
    )
    gateway.put_gateway_responses(
        client_of(endpoint_url, "apigateway"), deployment.api_id, "v1", says_why=True
    )
    # By path, not by host: <id>.execute-api.localhost only resolves on some machines.
    api_url = f"{endpoint_url}/_aws/execute-api/{deployment.api_id}/v1"
    tokens.lead_back_to(parameters["TokenIssuer"], [f"{api_url}/console"])
    return LocalStack(
        endpoint_url=endpoint_url,
        api_url=api_url,
        stack=deployment.stack,
        stage=deployment.stage,
        functions=deployment.functions,
        tables=deployment.tables,
        queues=deployment.queues,
        buckets=deployment.buckets,
        mail_url=f"{endpoint_url}/_ministack/ses/messages",
        issuer=parameters["TokenIssuer"],
        clock_file=str(emulated.clock_file),
    )


def _disable_schedules(stack: LocalStack) -> None:
    events = stack.client("events")
    for rule in events.list_rules(NamePrefix=stack.stack)["Rules"]:
        events.disable_rule(Name=rule["Name"])


def running_stack() -> LocalStack:
    """The stack that `make up` or `make run` keeps running.

    Raises `NotRunningError`, which says how to start one.
    """
    # A killed stack leaves its file behind. The file may be of another release, or truncated.
    if STATE_FILE.exists():
        with suppress(ValueError, TypeError):
            stack = LocalStack(**json.loads(STATE_FILE.read_text()))
            if emulator.is_healthy(stack.endpoint_url, tries=3):
                return stack
    raise NotRunningError("No local stack is running. Start one in another terminal: make up")


def stay(
    stack: LocalStack,
    is_healthy: Callable[[str], bool] = emulator.is_healthy,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the user presses Ctrl-C, or SIGTERM comes after `end_on_sigterm`.

    Raises `EmulatorError` when the emulator is gone. A few missing answers do not mean that.
    """
    unanswered = 0
    try:
        while unanswered < _UNANSWERED:
            pause(_HEALTH_INTERVAL)
            unanswered = 0 if is_healthy(stack.endpoint_url) else unanswered + 1
    except KeyboardInterrupt:
        return
    raise emulator.EmulatorError(f"The emulator is gone. Its log is {emulator.LOG_FILE}")
