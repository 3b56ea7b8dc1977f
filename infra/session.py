"""Opens the session with AWS for the commands on this machine: one account and one region.

Every command that reaches a stage in AWS opens its session here. So all of them use the same
region, show the same account, and give the same advice for the same error: what to type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from chalicelib.store.wire.errors import NoAnswer, ServiceError
from infra.faults import FAULTS

EXAMPLE = "eu-west-1"

CONNECT_TIMEOUT_SECONDS = 10
"""If packets are lost silently, botocore would wait a minute, five times."""

# Matches every region that botocore knows, including us-gov-west-1, cn-north-1 and eu-isoe-west-1.
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d{1,2}")

# AWS's own codes, from all services: each family of protocols spells them differently.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_CLOCK = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_UNKNOWN = frozenset(
    {
        "AuthFailure",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "ForbiddenException",
        "UnauthorizedOperation",
    }
)


class AwsError(Exception):
    """AWS is out of reach, or refuses; the message says why and what to do."""


class CredentialsError(AwsError):
    """AWS does not know who is calling."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(
            f"AWS does not know who you are: {reason}\n{fix}\nTo try Credits without AWS: make run"
        )


class UnreachableError(AwsError):
    """No answer came: the network is down, or nothing is at that address."""


Clients = Callable[[str], Any]
"""Returns a botocore client for a service."""


class ClientFactory(Protocol):
    """Makes botocore clients; ``settings`` are those of `botocore.config.Config`."""

    def __call__(self, service: str, **settings: Any) -> Any:
        """A client for ``service``."""


@dataclass(frozen=True)
class Region:
    """The region of the commands, and where it was set.

    ``unlike``: the other variable of the environment, if it names a different region; it is shown.
    """

    name: str
    source: str
    unlike: str = ""

    def __str__(self) -> str:
        but = f"; {self.unlike} is passed over" if self.unlike else ""
        return f"{self.name} (from {self.source}{but})"


@dataclass(frozen=True)
class Session:
    """An account and a region of AWS, within reach."""

    account: str
    region: Region
    client: ClientFactory
    caller: str = ""
    """The ARN of the credentials' owner, according to AWS."""

    def __str__(self) -> str:
        return f"AWS account {self.account}, region {self.region}"


def region_of(
    given: str | None, environment: Mapping[str, str], profile: tuple[str, str]
) -> Region:
    """The region to use: REGION, AWS_REGION, AWS_DEFAULT_REGION, or that of the profile.

    ``profile``: its name and its region. The order is that of the AWS CLI; botocore itself does not
    read AWS_REGION. Raises `AwsError` if no region is named, or a text that cannot be one.
    """
    variables = ("AWS_REGION", "AWS_DEFAULT_REGION")
    said = {"REGION": given or ""}
    said |= {name: environment.get(name, "") for name in variables}
    said[f"profile {profile[0]}"] = profile[1]
    named = {source: name.strip() for source, name in said.items() if name.strip()}
    if not named:
        raise AwsError(f"Which region? Add REGION={EXAMPLE}, or: export AWS_REGION={EXAMPLE}")
    source, name = next(iter(named.items()))
    if not _REGION.fullmatch(name):
        raise AwsError(f"{source} must be a region of AWS, such as {EXAMPLE}; is {name!r}")
    other = named.get("AWS_DEFAULT_REGION", name)
    differs = source == "AWS_REGION" and other != name
    return Region(name, source, f"AWS_DEFAULT_REGION={other}" if differs else "")


def open_session(region: str | None = None) -> Session:
    """The account whose credentials this machine has, and the region to use.

    Asks AWS who is calling, so that the person knows the account before the command reads or
    changes anything. Raises `AwsError`.
    """
    made = botocore.session.get_session()
    with told():
        profile = made.get_scoped_config()
        found = region_of(region, os.environ, (_profile() or "default", profile.get("region", "")))

        def client(service: str, **settings: Any) -> Any:
            return make_client(made, service, found.name, settings)

        try:
            identity = client("sts").get_caller_identity()
        except FAULTS:
            raise
        except (OSError, ValueError, AttributeError, TypeError) as error:
            # Errors of a missing credential_process, or one that does not print JSON: botocore
            # passes them on unchanged.
            raise _of_program(error) from error
    return Session(identity["Account"], found, client, identity["Arn"])


def make_client(
    of: botocore.session.Session,
    service: str,
    region: str,
    settings: Mapping[str, Any],
    **where: Any,
) -> Any:
    """A client that does not wait long for a connection; ``settings`` are those of its `Config`.

    ``where``: the address and the keys of an AWS other than the session's.
    """
    config = Config(**{"connect_timeout": CONNECT_TIMEOUT_SECONDS, **settings})
    return of.create_client(service, region_name=region, config=config, **where)


@contextmanager
def told() -> Iterator[None]:
    """Turns errors of AWS or the SDK into `AwsError`, which says what to do."""
    try:
        yield
    except FAULTS as error:
        raise explained(error) from error


def words(error: Exception) -> str:
    """The message for an error of AWS, or for one of ours with its own advice."""
    return str(explained(error) if isinstance(error, FAULTS) else error)


def explained(error: Exception) -> AwsError:
    """An error of AWS or its SDK, with advice."""
    match error:
        case ClientError():
            return _of_answer(error, error.response["Error"]["Code"])
        case ServiceError():
            return _of_answer(error, error.code)
        case NoConnectionError() | HTTPClientError() | NoAnswer():
            return _of_network(error)
    return _of_credentials(error)


def _of_answer(error: Exception, code: str) -> AwsError:
    if code in _EXPIRED:
        return CredentialsError(f"your login has expired ({error})", _log_in())
    if code in _CLOCK:
        fix = f"Is the clock of this machine right? If it is: {_log_in()}"
        return CredentialsError(str(error), fix)
    if code in _UNKNOWN:
        fix = f"{_log_in()}\nA region that the account has not enabled answers so, too."
        return CredentialsError(str(error), fix)
    if code in _DENIED:
        return AwsError(
            f"AWS refuses: {error}\nAsk the administrator of the account for that right, or use "
            "another profile: export AWS_PROFILE=NAME"
        )
    return AwsError(str(error))


def _of_network(error: Exception) -> UnreachableError:
    is_local = re.search(r"//(127\.0\.0\.1|localhost)\b", str(error))
    # A proxy may be on this machine, too.
    if is_local and not isinstance(error, ProxyConnectionError):
        return UnreachableError(
            f"The local stack does not answer: {error}\nStart one in another terminal: make up"
        )
    return UnreachableError(
        f"AWS cannot be reached: {error}\nIs there a network, and does it want a VPN or a proxy "
        f"(HTTPS_PROXY)? If the region in that address is wrong, name another: REGION={EXAMPLE}"
    )


def _of_credentials(error: BaseException) -> AwsError:
    match error:
        case NoCredentialsError():
            reason, fix = "there are no credentials.", _log_in()
        case PartialCredentialsError():
            reason, fix = str(error), "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, both."
        case ProfileNotFound():
            reason = str(error)
            fix = (
                "List those there are: aws configure list-profiles; then: export AWS_PROFILE=NAME "
                "(for the local stack: unset AWS_PROFILE)"
            )
        case SSOError() | TokenRetrievalError():
            reason, fix = f"your SSO login is missing or has expired ({error})", _log_in()
        case LoginError():
            reason, fix = str(error), f"Log in: aws login{_of_profile()}"
        case CredentialRetrievalError():
            return _of_program(error)
        case _:
            return AwsError(str(error))
    return CredentialsError(reason, fix)


def _of_program(error: BaseException) -> CredentialsError:
    return CredentialsError(
        f"the credentials of profile {_profile() or 'default'} cannot be had: {error}",
        "If it has a credential_process in ~/.aws/config, run that by hand: it has to end with "
        "status 0 and print JSON with Version, AccessKeyId and SecretAccessKey.",
    )


def _profile() -> str:
    """The profile that botocore uses; empty for the default one."""
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or ""


def _of_profile() -> str:
    return f" --profile {_profile()}" if _profile() else ""


def _log_in() -> str:
    if _profile():
        return f"Log in: aws sso login --profile {_profile()}"
    return "Log in: aws sso login --profile NAME; export AWS_PROFILE=NAME"
