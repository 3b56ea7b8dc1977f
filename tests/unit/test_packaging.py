"""What is packaged of a source tree: what the programs are asked for, and what becomes of it."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.deployment import packaging
from tests.unit import test_alarms

Json = dict[str, Any]

PRICE = '[[prices]]\nid = "price_1"\ncredits = 500\n'
LAMBDA = "manylinux2014_x86_64"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SOURCE = "raise ValueError('ü')\n"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree without prices, with leftovers of earlier deployments."""
    root = tmp_path / "tree"
    plans = (packaging.ROOT / packaging.PLANS).read_text("utf-8")
    policy = {"Version": "2012-10-17", "Statement": [{"Sid": "Log"}]}
    write(
        root,
        {
            "app.py": "",
            "requirements.txt": "one==1 --hash=sha256:1\n",
            "README.md": "not packaged",
            "infra/resources.yaml": "Resources: {}\n",
            packaging.PLANS: plans,
            packaging.PRICES: "# none\n",
            "chalicelib/__pycache__/settings.pyc": "",
            ".chalice/config.json": '{"stages": {"prod": {}, "dev": {}}}',
            ".chalice/shared-rights.json": '{"Log": {"Resource": "FUNCTION"}}',
            ".chalice/policy-worker.json": json.dumps(policy),
            ".chalice/deployments/prod.json": "{}",
            ".chalice/deployed/prod.json": "{}",
        },
    )
    return root


def chalices_template() -> Json:
    """What Chalice would write, with one part of each kind."""
    template = test_alarms.made()
    resources: Json = template["Resources"]
    path: Json = {"get": {"security": [{"authorizer": []}], "responses": {}}}
    resources["RestAPI"]["Properties"]["DefinitionBody"] = {"paths": {"/api/plans": path}}
    authorizer = test_alarms.function("authorizer")
    authorizer["Properties"]["Environment"] = {"Variables": {}}
    del authorizer["Properties"]["Events"]
    resources["Authorizer"] = authorizer
    name = {"Fn::Sub": "credits-${Stage}-plain"}
    resources["Plain"] = test_alarms.resource("AWS::DynamoDB::Table", TableName=name)
    for function in ("Reader", "Audit", "Authorizer"):
        role = {"Fn::GetAtt": [f"{function}Role", "Arn"]}
        resources[function]["Properties"] |= {"Role": role, "Tracing": "PassThrough"}
    del resources["Reader"]["Properties"]["Tracing"]
    return template


class Programs:
    """Stands for Chalice and pip: remembers how they are called, and writes what they would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, build: Path) -> None:
        self.called: list[tuple[str, list[str], Path, dict[str, str]]] = []
        self.project: dict[str, bytes] = {}
        self.vendor = Path()
        self.meanwhile: Callable[[], object] = lambda: None
        monkeypatch.setattr(packaging, "_run", self.run)
        monkeypatch.setattr(packaging, "BUILD", build)

    def run(
        self, what: str, command: list[str], *, directory: Path, environment: dict[str, str]
    ) -> None:
        self.called.append((what, command, directory, environment))
        if what == "pip install":
            folder = Path(command[command.index("--target") + 1])
            endpoints = json.dumps({"partitions": []})
            files = {"one.py": "", "one-1.dist-info/RECORD": "", "one-1.dist-info/METADATA": ""}
            files |= {"aws_lambda_powertools/event_handler/openapi/swagger_ui/ui.min.js": ""}
            files |= {"dateutil/zoneinfo/dateutil-zoneinfo.tar.gz": ""}
            files |= {"boto3/data/a": "", "boto3/examples/a": "", "boto3/session.py": ""}
            write(folder, files | {"botocore/data/endpoints.json": endpoints})
        elif what == "compileall":
            self.meanwhile()
        else:
            self.project, self.vendor = files_of(directory), (directory / "vendor").resolve()
            output = Path(command[-1])
            (output / "sam.yaml").write_text(yaml.safe_dump(chalices_template()))
            with zipfile.ZipFile(output / "deployment.zip", "w") as archive:
                archive.writestr("app.py", SOURCE)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Programs:
    return Programs(monkeypatch, tmp_path / "build")


def packaged(tree: Path, output: Path, stage: str = "dev") -> packaging.Package:
    output.mkdir()
    return packaging.package(stage, output, region="eu-central-1", root=tree)


def test_chalice_packages_a_copy_of_the_sources_alone_for_the_stage_and_its_region(
    tree: Path, tmp_path: Path, programs: Programs
) -> None:
    output = tmp_path / "output"
    packaged(tree, output)
    what, command, directory, environment = programs.called[-1]
    assert (what, directory) == ("chalice package", output / "project")
    assert command[3:] == [
        *("package", "--stage", "dev", "--merge-template"),
        *(str(output / "project" / "infra" / "resources.yaml"), str(output)),
    ]
    assert environment == {"AWS_DEFAULT_REGION": "eu-central-1", "PYTHONDONTWRITEBYTECODE": "1"}
    assert [name for name in programs.project if not name.startswith("vendor/")] == [
        ".chalice/config.json",
        ".chalice/policy-worker.json",
        ".chalice/shared-rights.json",
        "app.py",
        packaging.PLANS,
        packaging.PRICES,
        "infra/resources.yaml",
    ]
    policy = json.loads(programs.project[".chalice/policy-worker.json"])
    assert policy["Statement"] == [{"Sid": "Log", "Resource": "worker"}]
    assert programs.vendor == packaging._dependencies(tree / "requirements.txt", LAMBDA)


@pytest.mark.usefixtures("programs")
def test_a_template_gets_all_that_chalice_cannot_say(tree: Path, tmp_path: Path) -> None:
    found = packaged(tree, tmp_path / "one").template["Resources"]
    assert "GatewayResponses" in found["RestAPI"]["Properties"]
    assert {"BackendLane", "AllocationTicksAlarm", "Dashboard"} <= found.keys()
    (statement,) = found["MailsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Sid"], statement["Resource"]) == (
        "OnlyOverTls",
        [{"Fn::GetAtt": ["Mails", "Arn"]}],
    )
    assert found["TracingPolicy"] == {
        "Type": "AWS::IAM::Policy",
        "Condition": "IsTraced",
        "Properties": {
            "PolicyName": "tracing",
            "Roles": [{"Ref": f"{name}Role"} for name in ("Audit", "Authorizer", "Reader")],
            "PolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": ["xray:PutTelemetryRecords", "xray:PutTraceSegments"],
                        "Resource": "*",
                    }
                ],
            },
        },
    }
    # A function's own setting would override that of the stage.
    assert not [name for name, it in found.items() if "Tracing" in it["Properties"]]
    paths = found["RestAPI"]["Properties"]["DefinitionBody"]["paths"]
    assert "/api/webhooks/stripe" not in paths
    (tree / packaging.PRICES).write_text(PRICE)
    selling = packaged(tree, tmp_path / "two").template["Resources"]["RestAPI"]["Properties"]
    assert set(selling["DefinitionBody"]["paths"]["/api/webhooks/stripe"]) == {"post"}


def test_an_archive_depends_on_nothing_but_what_is_in_it(tmp_path: Path) -> None:
    """Not on the order, the time or the modes; each module in it is compiled, and says its path."""
    compiled = f"__pycache__/%s.{sys.implementation.cache_tag}.pyc"
    files = {"b/mod.py": SOURCE, "a.py": SOURCE, "b/plans.toml": "", compiled % "a": "given"}
    digests = set()
    for turn, order in enumerate((sorted(files), sorted(files, reverse=True))):
        source, target = tmp_path / f"{turn}.zip", tmp_path / f"{turn}-made.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name in order:
                it = zipfile.ZipInfo(name, date_time=(2026, 1 + turn, 1, 0, 0, 0))
                it.external_attr = 0o600 << 16
                archive.writestr(it, files[name])
        packaging._make_reproducible(source, target)
        digests.add(packaging.Package({}, target).digest)
    assert len(digests) == 1
    with zipfile.ZipFile(target) as archive:
        found = {it.filename: archive.read(it) for it in archive.infolist()}
        assert {
            (it.external_attr, it.compress_type, it.date_time) for it in archive.infolist()
        } == {(0o644 << 16, zipfile.ZIP_DEFLATED, (1980, 1, 1, 0, 0, 0))}
    assert list(found) == sorted([*files, f"b/{compiled % 'mod'}"])
    assert found[compiled % "a"] == b"given"
    bytecode = found[f"b/{compiled % 'mod'}"]
    # Unchecked: nobody looks at the source's time, which another machine would give it anew.
    assert bytecode[4:8] == (1).to_bytes(4, "little")
    assert b"/var/task/b/mod.py" in bytecode


def test_requirements_are_installed_for_the_platform_without_what_nothing_reads(
    tree: Path, programs: Programs
) -> None:
    requirements = tree / "requirements.txt"
    folder = packaging._dependencies(requirements, LAMBDA)
    (what, command, directory, environment), compiling = programs.called
    assert (what, directory, environment) == ("pip install", tree, {})
    target = command[command.index("--target") + 1]
    assert command == [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--only-binary", ":all:", "--python-version", PYTHON),
        *("--platform", LAMBDA, "--no-compile", "--target", target),
        *("--require-hashes", "--requirement", str(requirements)),
    ]
    assert compiling[0] == "compileall"
    assert compiling[1][-5:] == ["--invalidation-mode", "unchecked-hash", "-s", target, target]
    assert list(files_of(folder)) == [
        *("boto3/session.py", "botocore/data/endpoints.json"),
        *("one-1.dist-info/METADATA", "one.py"),
    ]
    assert not Path(target).parent.exists()
    assert packaging._dependencies(requirements, LAMBDA) == folder
    assert len(programs.called) == 2


def test_requirements_are_installed_again_when_anything_about_them_changes(
    tree: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tree / "requirements.txt"
    made = [packaging._dependencies(requirements, LAMBDA)]
    made.append(packaging._dependencies(requirements, None))
    assert "--platform" not in programs.called[2][1]
    requirements.write_text("one==2 --hash=sha256:2\n")
    made.append(packaging._dependencies(requirements, None))
    monkeypatch.setattr(packaging, "BOTOCORE_SERVICES", frozenset({"sqs"}))
    made.append(packaging._dependencies(requirements, None))
    monkeypatch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=99))
    made.append(packaging._dependencies(requirements, None))
    assert len({*made}) == len(made) == 5


def test_requirements_that_another_process_has_installed_meanwhile_are_taken(
    tree: Path, programs: Programs
) -> None:
    requirements = tree / "requirements.txt"
    folder = packaging._dependencies(requirements, None)
    shutil.rmtree(folder)
    programs.meanwhile = lambda: write(folder, {"one.py": "of the other"})
    assert packaging._dependencies(requirements, None) == folder
    assert files_of(folder) == {"one.py": b"of the other"}


def test_of_botocores_descriptions_those_of_our_services_stay_without_their_words(
    tmp_path: Path,
) -> None:
    def zipped(prefix: str) -> bytes:
        shape = {"documentation": "words", "members": {"documentation": {"shape": "Text"}}}
        model: Json = {"metadata": {"endpointPrefix": prefix}, "shapes": [shape]}
        model["documentation"] = "words"
        model["clientContextParams"] = {"Style": {"type": "boolean", "documentation": "words"}}
        return gzip.compress(json.dumps(model).encode(), mtime=1)

    regions = {"monitoring": {"a": 1}, "dynamodb": {"b": 2}, "ec2": {"c": 3}, "cloudwatch": {}}
    write(
        tmp_path,
        {
            "ec2/2016/service-2.json.gz": zipped("ec2"),
            "cloudwatch/2010/service-2.json.gz": zipped("older"),
            "cloudwatch/2020/service-2.json.gz": zipped("monitoring"),
            "cloudwatch/2020/examples-1.json": "{}",
            "cloudwatch/2020/paginators-1.json": "{}",
            "dynamodb/2012/service-2.json.gz": zipped("dynamodb"),
            "dynamodb/2012/examples-1.json.gz": b"",
            "endpoints.json": json.dumps({"partitions": [{"services": regions, "a": 0}]}),
            "_retry.json": "{}",
        },
    )
    packaging._strip_descriptions(tmp_path)
    found = files_of(tmp_path)
    assert list(found) == [
        "_retry.json",
        "cloudwatch/2020/paginators-1.json",
        "cloudwatch/2020/service-2.json.gz",
        "dynamodb/2012/service-2.json.gz",
        "endpoints.json",
    ]
    model = found["cloudwatch/2020/service-2.json.gz"]
    assert json.loads(gzip.decompress(model)) == {
        "metadata": {"endpointPrefix": "monitoring"},
        "shapes": [{"members": {"documentation": {"shape": "Text"}}}],
        "clientContextParams": {"Style": {"type": "boolean", "documentation": ""}},
    }
    assert model[4:8] == bytes(4), "the time, by which the archive would differ each time"
    kept = {"a": 0, "services": {"dynamodb": {"b": 2}, "monitoring": {"a": 1}}}
    assert found["endpoints.json"].decode() == json.dumps({"partitions": [kept]})


def test_a_program_has_its_settings_beside_those_of_the_machine_and_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Json] = []

    def run(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        given.append({"command": command, **settings})
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    packaging._run("it", ["a"], directory=tmp_path, environment={"AWS_DEFAULT_REGION": "here"})
    (settings,) = given
    assert settings.pop("env") == {**os.environ, "AWS_DEFAULT_REGION": "here"}
    assert settings == {
        "command": ["a"],
        "cwd": tmp_path,
        "stdin": subprocess.DEVNULL,
        "capture_output": True,
        "text": True,
        "check": False,
    }


def test_the_same_template_has_the_same_digest_in_any_order() -> None:
    digest = packaging.digest_of({"b": 1, "a": {"d": 2, "c": 3}})
    assert digest == hashlib.sha256(b'{"a": {"c": 3, "d": 2}, "b": 1}').hexdigest()


@pytest.mark.parametrize(
    ("machine", "packaged_for"),
    [
        (("linux", "x86_64", "glibc"), LAMBDA),
        (("darwin", "x86_64", "glibc"), None),
        (("linux", "aarch64", "glibc"), None),
        (("linux", "x86_64", ""), None),
    ],
)
def test_only_the_local_stage_on_another_machine_is_packaged_for_another_platform(
    monkeypatch: pytest.MonkeyPatch, machine: tuple[str, str, str], packaged_for: str | None
) -> None:
    system, processor, libc = machine
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: processor)
    monkeypatch.setattr("platform.libc_ver", lambda: (libc, "2"))
    assert packaging._platform_of("local") == packaged_for
    assert packaging._platform_of("dev") == packaging._platform_of("prod") == LAMBDA


def test_the_stages_are_those_of_the_tree_in_its_order(tree: Path) -> None:
    assert packaging.stages(tree) == ["prod", "dev"]
