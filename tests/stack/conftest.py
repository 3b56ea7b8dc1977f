"""The deployed stack, on an emulator of its own that enforces IAM; shared by all stack tests."""

import copy
import fcntl
import json
import os
import shutil
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from infra.arguments import whole_number
from infra.deployment import packaging, webhooks
from infra.local import emulator
from infra.local.stacks import LocalStack, client_of, local_stack

T = TypeVar("T")


def pytest_configure() -> None:
    """Says what is wrong with EXAMPLES of `make contract` before anything is packaged."""
    try:
        whole_number(0, 100_000)(os.environ.get("CONTRACT_EXAMPLES", "0"))
    except ArgumentTypeError as error:
        raise pytest.UsageError(f"EXAMPLES {error}") from error


PRICES = """
timezone = "Europe/Paris"

[[prices]]
id = "price_pack_500"
credits = 500

[[prices]]
id = "price_pro_yearly"
plan = "pro"
billing_interval = "yearly"
"""
"""What is sold through Stripe where a test needs the route of its webhook."""


def source_tree(folder: Path, prices: str = "") -> Path:
    """A copy of what is packaged, with these prices in the place of those of the source tree."""
    for name in ("app.py", "requirements.txt", "chalicelib", ".chalice", "infra"):
        source = packaging.ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    (folder / packaging.PRICES).write_text(prices, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Packaged:
    """A `make_package` that has made its package already, and adds `resources` to its template."""

    package: packaging.Package
    resources: dict[str, Any] = field(default_factory=dict)

    def __call__(self, _stage: str, _output: Path, /, *, region: str) -> packaging.Package:
        assert region == emulator.REGION
        resources = self.package.template["Resources"] | self.resources
        return replace(self.package, template=self.package.template | {"Resources": resources})


def package_once(
    factory: pytest.TempPathFactory, stage: str, region: str, prices: str = ""
) -> packaging.Package:
    """The source tree with these prices, packaged by the first process of this run that asks."""
    folder = folder_of_run(factory) / f"package-{stage}"
    folder.mkdir(exist_ok=True)
    made = folder / "made.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            tree = source_tree(folder / "source", prices)
            package = packaging.package(stage, folder / "output", region=region, root=tree)
            made.write_text(json.dumps([package.template, str(package.archive)]))
    template, archive = json.loads(made.read_text())
    return packaging.Package(template, Path(archive))


def folder_of_run(factory: pytest.TempPathFactory) -> Path:
    """The folder of this run; with pytest-xdist, its processes have folders of their own in it."""
    folder = factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """The source tree, packaged once for all deployments to the emulator; it sells something."""
    return Packaged(package_once(tmp_path_factory, "local", emulator.REGION, PRICES))


@pytest.fixture(scope="session")
def stack(packaged: Packaged) -> Iterator[LocalStack]:
    """The stage `local`, deployed. Its ticks come only when a test sends them."""
    with local_stack(schedules=False, make_package=packaged) as deployed:
        yield deployed


@pytest.fixture(scope="module")
def elsewhere(stack: LocalStack) -> Iterator[LocalStack]:
    """An account in which nobody else has deployed: names of queues rest for a minute."""
    with emulator.emulator() as running:
        there = replace(stack, endpoint_url=running.url)
        yield there
        # Its schedules run.
        there.client("cloudformation").delete_stack(StackName="credits-dev")


@dataclass(frozen=True)
class Answer:
    """What a Lambda answered; `error` is what it died of, if it did."""

    payload: Any
    error: str | None


Invoke = Callable[[str, Any], Answer]


@pytest.fixture(scope="session")
def invoke(stack: LocalStack) -> Invoke:
    """Invoke a function of the stack by its short name, e.g. `invoke("manual-allocate", {...})`."""
    return invoker_of(stack)


def invoker_of(stack: LocalStack) -> Invoke:
    """What invokes the functions of a stack."""
    client = stack.client("lambda", read_timeout=120)

    def invoke(function: str, event: Any) -> Answer:
        answer = client.invoke(
            FunctionName=stack.functions[function], Payload=json.dumps(event).encode()
        )
        payload = json.loads(answer["Payload"].read() or b"null")
        error = payload["errorMessage"] if "FunctionError" in answer else None
        return Answer(payload, error)

    return invoke


def client_with(
    stack: LocalStack, credentials: dict[str, Any], service: str, **settings: Any
) -> Any:
    """A client for a service that may do what these credentials of STS may do."""
    keys = tuple(credentials[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    return client_of(stack.endpoint_url, service, keys, **settings)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> packaging.Package:
    """The source tree, packaged for production; it sells nothing."""
    return package_once(tmp_path_factory, "prod", "eu-west-1")


@pytest.fixture(scope="session")
def source(package: packaging.Package, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """The source tree that this package is of."""
    return folder_of_run(tmp_path_factory) / "package-prod" / "source"


@pytest.fixture(scope="session")
def template(package: packaging.Package) -> dict[str, Any]:
    """The production stack's template, as it is deployed."""
    return package.template_for("s3://bucket/code.zip")


@pytest.fixture(scope="session")
def selling(template: dict[str, Any]) -> dict[str, Any]:
    """The same template of a source tree that sells something, as it would be packaged."""
    more = copy.deepcopy(template)
    webhooks.complete(more)
    return more


@pytest.fixture(scope="session")
def template_file(template: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same template in a file."""
    file = tmp_path_factory.mktemp("template") / "template.json"
    file.write_text(json.dumps(template))
    return file


def wait_for(condition: Callable[[], T | None], what: str, deadline: float = 30.0) -> T:
    """Return the first answer of `condition` that is not falsy; fail after `deadline` seconds."""
    end = time.monotonic() + deadline
    pause = 0.05
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(pause)
        # What takes long is asked for less often: asking a browser is work, too.
        pause = min(pause * 1.3, 0.5)
    pytest.fail(f"waited {deadline:.0f} s in vain for {what}")


@contextmanager
def quick_redelivery(stack: LocalStack, queue: str) -> Iterator[None]:
    """Failed messages come back after a second, within the block."""
    sqs, url = stack.client("sqs"), stack.queues[queue]
    name = "VisibilityTimeout"
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={name: "1"})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={name: before})
