"""A package that is deployed from elsewhere is the one that was made, to the byte, or none."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.commands import deploy as command
from infra.commands.package import main
from infra.deployment import handover, packaging
from infra.deployment.deployed import Deployment
from infra.deployment.errors import DeployError
from infra.deployment.packaging import Package, PackagingError
from infra.session import Region, Session

REGION = "eu-west-1"


@pytest.fixture
def package(tmp_path: Path) -> Package:
    archive = tmp_path / "made.zip"
    archive.write_bytes(b"the code")
    return Package({"Resources": {"Table": {"Type": "AWS::DynamoDB::Table"}}}, archive)


def test_what_a_program_said_before_it_failed_is_told_whole(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; print('about to'); sys.exit('no disk')"]
    with pytest.raises(PackagingError, match=r"^pip install failed:\nabout to\nno disk$"):
        packaging._run("pip install", program, directory=tmp_path, environment={})


def test_a_policy_has_the_shared_statements_with_what_it_says_itself(tmp_path: Path) -> None:
    shared: dict[str, dict[str, Any]] = {
        "Log": {"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "/FUNCTION:*"},
        "Read": {"Effect": "Allow", "Action": ["dynamodb:Query"], "Resource": "*"},
    }
    own = {"Sid": "Own", "Effect": "Deny", "Action": "*", "Resource": "*"}
    statements = [{"Sid": "Log"}, {"Sid": "Read", "Resource": "the ledger alone"}, own]
    (tmp_path / "shared-rights.json").write_text(json.dumps(shared))
    policy = tmp_path / "policy-worker.json"
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
    packaging._complete_policies(tmp_path)
    assert json.loads(policy.read_text())["Statement"] == [
        {**shared["Log"], "Sid": "Log", "Resource": "/worker:*"},
        {**shared["Read"], "Sid": "Read", "Resource": "the ledger alone"},
        own,
    ]


@pytest.fixture
def folder(tmp_path: Path, package: Package) -> Path:
    found = tmp_path / "some" / "folder"
    handover.save(package, found)
    return found


def test_what_was_saved_is_loaded_as_it_was(package: Package, folder: Path) -> None:
    found = handover.load(folder, handover.digest(package, "dev", REGION), "dev", REGION)
    assert found.template == package.template
    assert found.archive.read_bytes() == b"the code"


def test_a_digest_that_begins_like_that_of_the_package_is_not_its_digest(
    package: Package, folder: Path
) -> None:
    expected = handover.digest(package, "dev", REGION)
    almost = expected[:-1] + ("0" if expected[-1] != "0" else "1")
    with pytest.raises(PackagingError, match="is not the one that was made"):
        handover.load(folder, almost, "dev", REGION)


def test_a_package_does_not_change_when_it_is_told_where_its_code_is(package: Package) -> None:
    package.template["Resources"]["Api"] = {"Type": "AWS::Serverless::Function", "Properties": {}}
    before = json.dumps(package.template)
    placed = package.template_for("s3://bucket/code.zip")["Resources"]
    assert placed["Api"]["Properties"] == {"CodeUri": "s3://bucket/code.zip"}
    assert "Properties" not in placed["Table"]
    assert json.dumps(package.template) == before


def test_a_package_takes_the_place_of_the_one_before(package: Package, folder: Path) -> None:
    other = Package({"Resources": {}}, package.archive)
    handover.save(other, folder)
    assert handover.load(folder, handover.digest(other, "dev", REGION), "dev", REGION).template == (
        other.template
    )


def other_template(folder: Path) -> None:
    (folder / handover.TEMPLATE).write_text('{"Resources": {}}')


def other_code(folder: Path) -> None:
    (folder / handover.ARCHIVE).write_bytes(b"the code.")


@pytest.mark.parametrize("change", [other_template, other_code])
def test_a_package_that_was_changed_since_is_refused(
    change: Callable[[Path], None], package: Package, folder: Path
) -> None:
    expected = handover.digest(package, "dev", REGION)
    change(folder)
    with pytest.raises(PackagingError, match="is not the one that was made") as refused:
        handover.load(folder, expected, "dev", REGION)
    said = str(refused.value)
    assert f"DIGEST is {expected}" in said
    assert f"make package STAGE=dev REGION={REGION} OUT={folder}" in said


@pytest.mark.parametrize(("stage", "region"), [("prod", REGION), ("dev", "us-east-1")])
def test_a_package_of_another_stage_or_region_is_refused(
    stage: str, region: str, package: Package, folder: Path
) -> None:
    expected = handover.digest(package, "dev", REGION)
    with pytest.raises(PackagingError, match=f"made for stage {stage} in {region}"):
        handover.load(folder, expected, stage, region)


@pytest.mark.parametrize("digest", ["", "x", "0" * 63, "0" * 65, "G" * 64, f"{'0' * 64}\n"])
def test_an_invalid_digest_says_how_to_get_one(digest: str, folder: Path) -> None:
    with pytest.raises(PackagingError, match="DIGEST must be the 64 digits that make package"):
        handover.load(folder, digest, "dev", REGION)


@pytest.mark.parametrize("lost", [handover.TEMPLATE, handover.ARCHIVE])
@pytest.mark.parametrize("text", [None, "{", "\ud800"])
def test_a_package_that_is_not_whole_is_refused(
    lost: str, text: str | None, package: Package, folder: Path
) -> None:
    (folder / lost).unlink()
    if text is not None:
        (folder / lost).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(PackagingError, match=r"cannot be read|is not the one"):
        handover.load(folder, handover.digest(package, "dev", REGION), "dev", REGION) if (
            lost == handover.TEMPLATE or text is None
        ) else handover.load(folder, "0" * 64, "dev", REGION)


@pytest.mark.parametrize(
    ("words", "region"),
    [
        (["--stage", "dev"], REGION),
        (["--stage", "prod", "--region", "eu-west-3"], "eu-west-3"),
    ],
)
def test_the_command_packages_without_credentials_and_prints_the_digest_alone(
    words: list[str],
    region: str,
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def packaged(stage: str, _output: Path, /, *, region: str) -> Package:
        asked[:] = stage, region
        return package

    monkeypatch.setattr(packaging, "package", packaged)
    monkeypatch.setenv("AWS_REGION", REGION)
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert asked == [words[1], region]
    assert capsys.readouterr() == (f"{handover.digest(package, words[1], region)}\n", "")
    assert json.loads((tmp_path / "out" / handover.TEMPLATE).read_text()) == package.template


def test_what_cannot_be_packaged_for_elsewhere_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert main(["--stage", "dev", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: Which region?")
    with pytest.raises(SystemExit):
        main(["--stage", "local", "--out", str(tmp_path)])
    assert "invalid choice: 'local'" in capsys.readouterr().err

    def refuse() -> None:
        raise packaging.PackagingError("Python 3.11 is needed")

    monkeypatch.setattr(packaging, "check_python", refuse)
    assert main(["--stage", "dev", "--region", REGION, "--out", str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", "error: Python 3.11 is needed\n")


def deploying(
    monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, Callable[[], dict[str, Any]]]:
    """`make deploy` with these words: its status, and what it would have deployed with."""
    given: dict[str, Any] = {}

    def deployed(*_: object, **named: Any) -> Deployment:
        given.update(named)
        raise DeployError("as far as this test goes")

    aws = Session("123456789012", Region(REGION, "REGION"), lambda *_, **__: None)
    monkeypatch.setattr(command, "open_session", lambda _: aws)
    monkeypatch.setattr(command, "before", SimpleNamespace(look=lambda *_, **__: None))
    monkeypatch.setattr(command, "deploy", deployed)
    monkeypatch.setattr(command, "parameters_of", lambda _: {})
    monkeypatch.setattr("sys.argv", ["deploy", "--stage", "dev", *words])
    return command.main(), lambda: given


def test_a_deployment_takes_the_package_that_it_is_given_and_packages_nothing(
    package: Package, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = handover.digest(package, "dev", REGION)
    words = (f"--package={folder}", f"--digest={expected}")
    status, given = deploying(monkeypatch, *words)
    assert status == 1
    made = given()["make_package"]("dev", output_in(tmp_path), region=REGION)
    assert (made.template, made.digest) == (package.template, package.digest)


@pytest.mark.parametrize("change", [other_template, other_code])
def test_what_happens_to_the_folder_once_it_was_looked_at_is_not_deployed(
    change: Callable[[Path], None],
    package: Package,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Waiting for another deployment, and for a person, can take an hour.
    expected = handover.digest(package, "dev", REGION)
    _, given = deploying(monkeypatch, f"--package={folder}", f"--digest={expected}")
    change(folder)
    with pytest.raises(PackagingError, match="is not the one that was made"):
        given()["make_package"]("dev", output_in(tmp_path), region=REGION)


@pytest.mark.parametrize("change", [other_template, other_code])
def test_what_happens_to_the_folder_while_it_is_deployed_is_not_deployed(
    change: Callable[[Path], None],
    package: Package,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = handover.digest(package, "dev", REGION)
    _, given = deploying(monkeypatch, f"--package={folder}", f"--digest={expected}")
    made = given()["make_package"]("dev", output_in(tmp_path), region=REGION)
    change(folder)
    assert made.archive.read_bytes() == b"the code"
    assert handover.digest(made, "dev", REGION) == expected


def output_in(directory: Path) -> Path:
    """The empty directory that a deployment packages into."""
    output = directory / "output"
    output.mkdir()
    return output


def test_a_changed_package_is_refused_before_anything_is_deployed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, given = deploying(monkeypatch, f"--package={folder}", f"--digest={'0' * 64}")
    assert (status, given()) == (1, {})
    assert "is not the one that was made for stage dev" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--package=x", f"--digest={'0' * 64}"])
def test_a_package_without_its_digest_or_a_digest_alone_is_refused(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        deploying(monkeypatch, word)
    assert "--package and --digest (make: PACKAGE, DIGEST) go together" in capsys.readouterr().err


def test_without_a_package_the_tree_is_packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    _, given = deploying(monkeypatch)
    assert given()["make_package"] is packaging.package
