"""Commands with all that is beneath them replaced: words in; out come a status and two streams."""

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from chalicelib.domain.errors import InvalidInput
from chalicelib.store.wire.errors import NoAnswer
from infra import reach, session, terminal
from infra.commands import (
    clock,
    completeness,
    dashboard,
    deploy,
    deploy_policy,
    doctor,
    events,
    grant,
    import_balances,
    import_subscriptions,
    liability,
    lock,
    mails,
    reference,
    run,
    security,
    shadow,
    show,
    stripe,
    stripe_secret,
    up,
    usages,
    verify,
    whatif,
)
from infra.deployment import packaging
from infra.deployment.deploy_policy import EXAMPLE, text_of
from infra.deployment.deployed import Deployment
from infra.deployment.errors import DeployError
from infra.doctor.examination import ACCOUNT, HERE, RUNNING
from infra.doctor.finding import Finding, bad, fine, unknown, warning
from infra.doctor.report import summary
from infra.doctor.site import Site
from infra.imports import importing
from infra.imports.csv_file import UnreadableFileError
from infra.local import events as local_events
from infra.local import outbox, stacks, turn
from infra.local.console import server
from infra.packages.programs import ProgramError
from infra.pages import statement
from infra.pages.mail_pictures import LIGHTHOUSE
from infra.pages.reference import PAGE
from infra.session import AwsError, Region, Session
from infra.ticks import TickFailedError
from tests.unit.test_clock import NOW

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The status of a command, and what it said on each of the two streams."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(main: Callable[[list[str]], int], *words: str) -> Ran:
        status = main([*words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def raising(error: BaseException) -> Callable[..., Any]:
    def raises(*_: object, **__: object) -> Any:
        raise error

    return raises


AWS = Session("123456789012", Region("eu-west-3", "REGION"), lambda *_, **__: None)


# --- The clock of the local stack -----------------------------------------------------------------


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of the stack's clock: it steps from day to day."""
    stand = SimpleNamespace(at=NOW, error=None)

    def move(to: Any, watch: Callable[[Any, object], None]) -> None:
        if stand.error:
            raise stand.error
        while stand.at < to:
            stand.at = min(to, stand.at + timedelta(days=1))
            watch(SimpleNamespace(at=stand.at), None)

    here = SimpleNamespace(now=lambda: stand.at, move=move)
    monkeypatch.setattr(stacks, "running_stack", lambda: "the stack")
    monkeypatch.setattr(clock, "LocalClock", lambda stack: here if stack == "the stack" else None)
    return stand


@pytest.mark.usefixtures("moving")
def test_the_clock_is_moved_to_the_midnight_of_a_zone_and_says_where_it_stands(ran: Run) -> None:
    assert ran(clock.main) == (0, "2026-05-18T14:30:00Z\n", "")
    status, printed, said = ran(clock.main, "--to", "next midnight")
    assert (status, printed) == (0, "2026-05-19T00:00:00Z\n")
    assert "Moving the clock" in said
    assert "3/3" in ran(clock.main, "--to", "+2 days")[2], "the bar is not of the days to go"
    words = ("--to", "next 1st", "--zone", "America/New_York")
    assert ran(clock.main, *words)[:2] == (0, "2026-06-01T04:00:00Z\n")


def test_a_clock_that_cannot_be_moved_is_an_error(
    ran: Run, moving: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.error = InvalidInput.of("tick", "failed")
    status, printed, said = ran(clock.main, "--to", "+1 day")
    assert (status, printed) == (1, "")
    assert said.endswith("error: tick: failed\n")
    moving.error = NoAnswer("nobody")
    assert "error: AWS cannot be reached: nobody\n" in ran(clock.main, "--to", "+1 day")[2]
    monkeypatch.setattr(stacks, "running_stack", raising(stacks.NotRunningError("make up")))
    assert ran(clock.main) == (1, "", "error: make up\n")
    assert "error: to: must be 'next" in ran(clock.main, "--to", "soon")[2], "found without a stack"


# --- The doctor -----------------------------------------------------------------------------------

SITE = SimpleNamespace(stage="prod", place="account 1", stack="credits-prod")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([fine("python", "3.11")], 0),
        ([fine("python", "3.11"), warning("mail", "slow", "wait"), unknown("AWS", "no")], 0),
        ([bad("stack", "gone", "make deploy"), fine("python", "3.11")], 1),
    ],
)
def test_a_doctor_fails_where_something_must_be_done(
    found: list[Finding], status: int, ran: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def look(stage: str, region: str | None, looking: Callable[[str], None]) -> object:
        asked.append((stage, region))
        looking("the weather")
        return SITE, found

    monkeypatch.setattr(doctor, "look", look)
    words = ("--stage", "prod", "--region", "eu-west-3")
    ended, printed, said = ran(doctor.main, *words, "--json")
    assert (ended, said) == (status, "")
    report = json.loads(printed)
    assert (report["stage"], len(report["findings"])) == ("prod", len(found))
    ended, printed, _ = ran(doctor.main, *words)
    assert ended == status
    assert all(each.says in printed for each in found)
    assert printed.endswith(f"{summary(found)}\n")
    assert asked == [("prod", "eu-west-3")] * 2
    monkeypatch.setattr(doctor, "look", raising(KeyboardInterrupt()))
    assert ran(doctor.main, *words)[0] == 130
    monkeypatch.setattr(doctor, "look", raising(AwsError("no account")))
    assert ran(doctor.main, *words) == (1, "", "error: no account\n")
    assert "There is no stage 'prood'" in ran(doctor.main, "--stage", "prood")[2]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """What the doctor finds where every check is fine."""
    monkeypatch.setattr(
        doctor, "examine", lambda checks, site, _: [fine(each, site.stage) for each in checks]
    )
    monkeypatch.setattr(doctor, "parameters_of", lambda _: {"Shadow": "on"})
    monkeypatch.setattr(session, "open_session", {"eu-west-3": AWS}.__getitem__)

    def look(stage: str = "prod", region: str | None = "eu-west-3") -> list[tuple[str, str]]:
        site, findings = doctor.look(stage, region, lambda _: None)
        assert site.stage == stage
        here = (site.account, site.region)
        assert here in {("", ""), ("123456789012", "eu-west-3"), ("000000000000", "us-east-1")}
        assert stage != "local" or site.parameters == stacks.parameters("http://i")
        return [(each.check, f"{each.state.value}{' and stops' * each.stops}") for each in findings]

    return look


def outputs(monkeypatch: pytest.MonkeyPatch, outputs: object) -> None:
    def given(_: object) -> object:
        if isinstance(outputs, Exception):
            raise outputs
        return outputs

    monkeypatch.setattr(Site, "outputs", property(given))


def test_a_stage_is_examined_as_far_as_there_is_one(
    looked: Callable[..., list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ["account", *HERE, *ACCOUNT]
    outputs(monkeypatch, {})
    assert [check for check, _ in looked()] == before
    outputs(monkeypatch, {"Api": "https://"})
    assert [check for check, _ in looked()] == [*before, *RUNNING]
    outputs(monkeypatch, AwsError("denied"))
    assert looked()[len(before) :] == [("running stack", "unknown")]


def test_what_stands_in_the_way_is_a_finding_and_the_rest_is_looked_at(
    looked: Callable[..., list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs(monkeypatch, {})
    monkeypatch.setattr(doctor, "parameters_of", raising(DeployError("line 3 is wrong")))
    others = [each for each in HERE if each != "parameters"]
    found = looked()
    assert found[:2] == [("parameters", "bad and stops"), ("account", "fine")]
    assert [check for check, _ in found[2:]] == [*others, *ACCOUNT]
    monkeypatch.setattr(session, "open_session", raising(AwsError("who are you?")))
    found = looked()
    assert found[:2] == [("parameters", "bad and stops"), ("account", "bad")]
    assert [check for check, _ in found[2:-1]] == others
    assert found[-1] == ("AWS", "unknown")


def test_the_local_stack_is_examined_with_its_own_parameters(
    looked: Callable[..., list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sts = SimpleNamespace(get_caller_identity=lambda: {"Account": "000000000000"})
    stack = SimpleNamespace(
        stage="local",
        stack="credits-local",
        issuer="http://i",
        endpoint_url="http://e",
        client=lambda _: sts,
    )
    asked: list[object] = []

    def running(region: str | None) -> object:
        asked.append(region)
        return stack

    monkeypatch.setattr(reach, "running_stack", running)
    outputs(monkeypatch, {"Api": "http://"})
    found = [check for check, _ in looked("local", "eu-west-3")]
    assert found == ["account", *HERE, *ACCOUNT, *RUNNING]
    assert asked == ["eu-west-3"]


# --- Deploying ------------------------------------------------------------------------------------


def test_what_a_deployment_needs_is_printed_or_written_a_file_for_each(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    names = SimpleNamespace(artifacts="bucket")

    def named(*of: object) -> object:
        asked.append(of)
        return names

    def package(stage: str, output: Path, *, region: str) -> object:
        assert output.is_dir()
        asked.append((stage, region))
        return SimpleNamespace(template_for=lambda code: code)

    made = {name: {"Version": "1", "Statement": []} for name in ("credits-1", "credits-2")}

    def policies_of(code: str, of: object) -> object:
        assert (code, of) == ("s3://bucket/code.zip", names)
        return made

    monkeypatch.setattr(deploy_policy, "parameters_of", lambda stage: {"of": stage})
    monkeypatch.setattr(deploy_policy, "names_of", named)
    monkeypatch.setattr(deploy_policy, "policies", policies_of)
    monkeypatch.setattr(deploy_policy, "open_session", lambda region: AWS if not region else None)
    monkeypatch.setattr(packaging, "package", package)
    status, printed, said = ran(deploy_policy.main, "--stage", "prod")
    assert (status, said.startswith("Stage prod in AWS account 123456789012")) == (0, True)
    assert printed == text_of(made) + "\n"
    folder = tmp_path / "a" / "b"
    words = ("--region", "eu-west-1", "--account", "210987654321", "--example", "--out")
    status, printed, said = ran(deploy_policy.main, "--stage", "dev", *words, str(folder))
    assert (status, said) == (0, "")
    assert printed.splitlines() == [f"{folder / name}.json" for name in made]
    assert ran(deploy_policy.main, "--stage", "dev", *words, str(folder)) == (0, printed, "")
    for name, document in made.items():
        assert json.loads((folder / f"{name}.json").read_text("utf-8")) == document
    assert asked == [
        ("prod", "eu-west-3"),
        ("prod", "123456789012", "eu-west-3", {"of": "prod"}),
        *(("dev", "eu-west-1"), ("dev", "210987654321", "eu-west-1", EXAMPLE)) * 2,
    ]
    ran(deploy_policy.main, "--stage", "dev", "--account", "210987654321")
    assert asked[-1][:3] == ("dev", "210987654321", "eu-west-3")
    monkeypatch.setattr(packaging, "package", raising(packaging.PackagingError("no pip")))
    assert ran(deploy_policy.main, "--stage", "prod")[:2] == (1, "")


@pytest.fixture
def deploying(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a deployment is made with."""
    given: dict[str, Any] = {}

    def deployed(stage: str, client: object, **named: Any) -> Deployment:
        given.update(named, stage=stage, client=client)
        return SimpleNamespace(outputs={"Url": "https://u", "Api": "https://a"})  # type: ignore[return-value]

    def looked(site: Any, *, is_heeded: bool) -> None:
        given.update(site=(site.stage, site.stack), is_heeded=is_heeded)

    def opened(region: str | None) -> Session:
        given["asked"] = region
        return AWS

    monkeypatch.setattr(deploy, "open_session", opened)
    monkeypatch.setattr(deploy, "before", SimpleNamespace(look=looked))
    monkeypatch.setattr(deploy, "deploy", deployed)
    monkeypatch.setattr(deploy, "parameters_of", lambda stage: {"of": stage})
    return given


def deployed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["deploy", *words])
    return deploy.main()


def test_a_deployment_is_of_the_stage_and_region_that_were_named_and_says_what_it_has(
    deploying: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deployed(monkeypatch, "--stage", "prod", "--region", "eu-west-3") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{'Api':<32} https://a",
        f"{'Url':<32} https://u",
    ]
    assert deploying["asked"] == deploying["region"] == "eu-west-3"
    assert (deploying["stage"], deploying["parameters"]) == ("prod", {"of": "prod"})
    assert deploying["site"] == ("prod", "credits-prod")
    assert deploying["client"] is AWS.client
    assert deploying["is_heeded"] is True


def test_a_deployment_asks_unless_told_not_to_and_never_nobody(
    deploying: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deployed(monkeypatch, "--stage", "dev", "--yes", "--ignore-findings") == 0
    assert deploying["is_heeded"] is False
    assert deploying["confirm"]() is True
    deployed(monkeypatch, "--stage", "dev")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(DeployError, match="There is nobody to ask"):
        deploying["confirm"]()
    monkeypatch.setattr(deploy, "deploy", raising(KeyboardInterrupt()))
    capsys.readouterr()
    assert deployed(monkeypatch, "--stage", "dev") == 130
    assert capsys.readouterr().err.startswith("Interrupted. CloudFormation goes on")


# --- What is written ------------------------------------------------------------------------------


def test_the_pages_are_written_where_they_belong(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [page.read_text("utf-8") for page in (PAGE, statement.PAGE)]
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "PAGE", tmp_path / "api.md")
    monkeypatch.setattr(statement, "PAGE", tmp_path / "verify.html")
    assert ran(reference.main) == (0, "api.md\nverify.html\n", "")
    assert [(tmp_path / name).read_text("utf-8") for name in ("api.md", "verify.html")] == kept


def test_the_picture_of_the_dashboard_is_that_of_prod(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def package(stage: str, output: Path, *, region: str) -> object:
        return SimpleNamespace(template=f"{stage} in {region}, {output.is_dir()}")

    picture = tmp_path / "docs" / "images" / "dashboard.svg"
    monkeypatch.setattr(packaging, "package", package)
    monkeypatch.setattr(packaging, "ROOT", tmp_path)
    monkeypatch.setattr(dashboard, "PICTURE", picture)
    monkeypatch.setattr(dashboard, "filled_in", lambda template: f"sample data of {template}")
    monkeypatch.setattr(dashboard, "draw", lambda found: f"<svg>{found}</svg>")
    assert ran(dashboard.main) == (0, "docs/images/dashboard.svg\n", "")
    assert picture.read_text("utf-8") == "<svg>sample data of prod in eu-west-1, True</svg>"


def test_lists_of_packages_are_written_until_one_fails(
    ran: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    failing: set[str] = set()

    def compiled(command: list[str], **where: Any) -> object:
        assert where == {"cwd": packaging.ROOT, "check": False}
        commands.append(command)
        return SimpleNamespace(returncode=int(bool(failing.intersection(command))))

    monkeypatch.setattr(subprocess, "run", compiled)
    monkeypatch.setattr(lock, "program", lambda name: Path("/programs") / name)
    assert ran(lock.main) == (0, "".join(f"{name}\n" for name in lock.LISTS), "")
    assert [command[0] for command in commands] == ["/programs/uv"] * len(lock.LISTS)
    assert not any("--upgrade" in command for command in commands)
    (dev,) = [command for command in commands if "--constraints" in command]
    assert dev[dev.index("--constraints") + 1] == "requirements.txt"
    assert commands[0][1:6] == ["pip", "compile", "--quiet", "--universal", "--python-version"]
    assert commands[0][6:10] == [
        "3.11",
        "--generate-hashes",
        "--custom-compile-command",
        "make lock",
    ]
    assert dev[-4:] == ["--group", "pyproject.toml:dev", "--output-file", "requirements-dev.txt"]
    failing.add("requirements-dev.txt")
    status, printed, said = ran(lock.main, "--upgrade")
    assert (status, printed) == (1, "requirements.txt\n")
    assert said == "error: requirements-dev.txt is as it was; uv says above why.\n"
    assert [command[-1] for command in commands[-2:]] == ["--upgrade"] * 2
    monkeypatch.setattr(lock, "program", raising(ProgramError("no uv")))
    assert ran(lock.main) == (1, "", "error: no uv\n")


def test_pictures_of_emails_are_of_the_product_of_the_stage(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[object, ...]] = []

    def take(*how: object) -> Iterator[str]:
        taken.append(how)
        yield from ("one.png", "two.png")

    monkeypatch.setattr(mails, "PREVIEWS", tmp_path / "previews")
    monkeypatch.setattr(mails, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(mails, "take_pictures", take)
    monkeypatch.setattr(mails, "parameters_of", lambda stage: {"of": stage})
    monkeypatch.setattr(
        mails, "missing", lambda given: ["ProductName", "ReplyTo"] if given["of"] else []
    )
    monkeypatch.setattr(mails, "product_of", lambda given: f"product of {given['of']}")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name == "chrome" else None)
    assert ran(mails.main) == (0, "one.png\ntwo.png\n", "")
    assert ran(mails.main, "--stage", "dev")[0] == 0
    assert ran(mails.main, "--stage", "dev", "--to", str(tmp_path / "a" / "b"))[0] == 0
    assert taken == [
        ("/bin/chrome", tmp_path / "pictures", LIGHTHOUSE),
        ("/bin/chrome", tmp_path / "previews", "product of dev"),
        ("/bin/chrome", tmp_path / "a" / "b", "product of dev"),
    ]
    assert (tmp_path / "a" / "b").is_dir()
    status, _, said = ran(mails.main, "--stage", "prod")
    assert (status, "Set ProductName, ReplyTo under [prod]" in said) == (1, True)
    (tmp_path / "file").touch()
    no_folder = f"error: --to: {tmp_path}/file/of/mine cannot be made: Not a directory\n"
    assert ran(mails.main, "--to", str(tmp_path / "file" / "of" / "mine")) == (1, "", no_folder)
    monkeypatch.setattr("shutil.which", lambda _: None)
    status, _, said = ran(mails.main)
    assert (status, "there is no Chromium or Chrome here" in said) == (1, True)
    assert len(taken) == 3


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (grant.main, ["--approved-by", "Ada"]),
        (import_balances.main, []),
        (import_subscriptions.main, []),
        (shadow.main, []),
        (usages.main, []),
    ],
)
def test_a_stage_that_is_none_is_named_before_the_file_is_read_and_then_the_file_is(
    main: Callable[[list[str]], int], words: list[str], ran: Run, tmp_path: Path
) -> None:
    file = str(tmp_path / "[b]none.csv")
    status, printed, said = ran(main, file, "--stage", "prood", *words)
    assert (status, printed) == (1, "")
    assert said.startswith("error: There is no stage 'prood'")
    status, printed, said = ran(main, file, *words)
    assert (status, printed) == (1, "")
    assert said == f"error: {file}: cannot be read: No such file or directory\n"


def test_a_time_that_is_none_is_named_without_a_stage(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "reach", raising(stacks.NotRunningError("make up")))
    file = tmp_path / "old.csv"
    file.write_text("reference,user_id,at,kind,amount\n")
    for words, problem in (
        (["--from", "may"], "FROM: "),
        (["--until", "may"], "UNTIL: "),
        ([], ""),
    ):
        status, _, said = ran(shadow.main, str(file), *words)
        assert (status, said.startswith(f"error: {problem or 'make up'}")) == (1, True), said
    file.write_text("reference,user_id,at,kind,amount\nm-1,1,2026-05-01T00:00:00Z,usage,5\n")
    for main in (shadow.main, usages.main):
        status, _, said = ran(main, str(file))
        assert "must be negative" in said, "the mistakes of a file are shown without a stage, too"
        assert (status, said.endswith("\nerror: make up\n")) == (1, True)


# --- The stage ------------------------------------------------------------------------------------

BALANCES = "reference,user_id,amount,granted_at\n"
GRANTS = "user_id,amount,description,expires_in_days\n"
MOVEMENTS = "reference,user_id,at,kind,amount\n"
SUBSCRIPTIONS = "user_id,timezone,plan,billing_interval,status,started_at\n"
PLANS = (packaging.ROOT / packaging.PLANS).read_text("utf-8")


@pytest.mark.parametrize(
    ("main", "words", "text"),
    [
        (completeness.main, ["2026-07"], ""),
        (grant.main, ["FILE", "--approved-by", "Ada"], GRANTS),
        (import_balances.main, ["FILE"], BALANCES),
        (import_subscriptions.main, ["FILE"], SUBSCRIPTIONS),
        (liability.main, ["2026-07-01T00:00Z"], ""),
        (shadow.main, ["FILE"], MOVEMENTS),
        (show.main, ["42"], ""),
        (stripe.main, [], ""),
        (stripe_secret.main, [], ""),
        (usages.main, ["FILE"], MOVEMENTS),
        (verify.main, ["42"], ""),
        (whatif.main, ["--plans", "FILE", "--from", "2026-01", "--to", "2026-01"], PLANS),
    ],
)
def test_the_stage_and_region_that_are_named_are_the_ones_that_are_reached(
    main: Callable[[list[str]], int],
    words: list[str],
    text: str,
    ran: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reached(*where: object) -> object:
        raise AwsError(f"{where} is far")

    monkeypatch.setattr(reach, "reach", reached)
    monkeypatch.setattr(reach, "services_of", reached)
    file = tmp_path / "given"
    file.write_text(text)
    given = [str(file) if word == "FILE" else word for word in words]
    said = "error: ('prod', 'eu-west-3') is far\n"
    assert ran(main, *given, "--stage", "prod", "--region", "eu-west-3") == (1, "", said)
    assert ran(main, *given) == (1, "", "error: ('local', None) is far\n")


# --- Known weaknesses -----------------------------------------------------------------------------


def test_checkov_reads_the_template_of_prod_by_its_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = iter((0, 1))
    read: list[object] = []

    def checked(command: list[str], **_: object) -> object:
        read.append(json.loads(Path(command[command.index("--file") + 1]).read_text("utf-8")))
        assert command[:3] == ["/checkov", "--config-file", str(security.SETTINGS)]
        return SimpleNamespace(returncode=next(codes))

    def package(stage: str, _: Path, *, region: str) -> object:
        return SimpleNamespace(template={"of": [stage, region]})

    monkeypatch.setattr(packaging, "package", package)
    monkeypatch.setattr(security, "program", lambda name: Path(f"/{name}"))
    monkeypatch.setattr(subprocess, "run", checked)
    assert security.is_template_clean()
    assert "checkov finds nothing that infra/checkov.yaml does not" in capsys.readouterr().out
    assert not security.is_template_clean()
    assert capsys.readouterr().out == ""
    assert read == [{"of": ["prod", "eu-west-1"]}] * 2


def test_pip_audit_is_asked_about_every_pinned_package(
    ran: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    vulns: list[Any] = [{"id": name, "fix_versions": []} for name in ("G-1", "G-2")]
    vulnerable = {"name": "six", "version": "1", "vulns": vulns}
    clean = {"name": "jmespath", "version": "1", "vulns": []}
    answers = iter(([clean], [clean, vulnerable]))

    def audited(command: list[str], **_: object) -> object:
        assert command[1:4] == ["--requirement", str(security.REQUIREMENTS), "--no-deps"]
        assert "--disable-pip" in command
        return SimpleNamespace(stdout=json.dumps({"dependencies": next(answers)}), stderr="")

    monkeypatch.setattr(security, "is_template_clean", lambda: True)
    monkeypatch.setattr(security, "program", lambda name: Path(f"/{name}"))
    monkeypatch.setattr(subprocess, "run", audited)
    clear = "pip-audit knows of no advisory about the 1 packages deployed.\n"
    assert ran(security.main) == (0, clear, "")
    lines = [f"six 1: {each['id']}, no version mends it yet\n" for each in vulns]
    assert ran(security.main) == (1, "".join(lines), "")
    monkeypatch.setattr(security, "program", raising(ProgramError("no program")))
    assert ran(security.main) == (1, "", "error: no program\n")


# --- The local stack ------------------------------------------------------------------------------


def test_the_events_of_the_local_stack_are_followed_until_ctrl_c(
    ran: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "detail-type": "Credits granted",
        "detail": {
            "posted_at": "2026-05-01T00:00:00Z",
            "transaction_id": "é-1",
            "amount": 5,
            "ledger_balance": 5,
            "balance": 5,
        },
    }

    def heard() -> Iterator[Any]:
        yield told
        raise KeyboardInterrupt

    monkeypatch.setattr(reach, "running_stack", lambda region: ("the stack", region))
    followed: list[object] = []

    @contextmanager
    def following(stack: object) -> Iterator[Iterator[Any]]:
        followed.append(stack)
        yield heard()

    monkeypatch.setattr(local_events, "following", following)
    start = "Following the events of the local stack; Ctrl-C ends it.\n"
    assert ran(events.main) == (0, f"{local_events.line_of(told)}\n", start)
    words = ("--json", "--region", "eu-west-3")
    assert ran(events.main, *words) == (0, f"{json.dumps(told)}\n", start)
    assert followed == [("the stack", None), ("the stack", "eu-west-3")]
    monkeypatch.setattr(reach, "running_stack", raising(stacks.NotRunningError("make up")))
    assert ran(events.main) == (1, "", "error: make up\n")


def test_what_a_reader_waits_for_is_not_kept_back(
    local: SimpleNamespace, deploying: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.BytesIO()
    arrived: list[str] = []

    def look(*_: object, **__: object) -> None:
        arrived.append(pipe.getvalue().decode())
        pipe.seek(0)
        pipe.truncate()

    def heard() -> Iterator[Any]:
        for number in range(2):
            look()
            yield {"detail": number}

    @contextmanager
    def following(_: object) -> Iterator[Iterator[Any]]:
        yield heard()

    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(pipe, "utf-8"))
    monkeypatch.setattr(deploy, "before", SimpleNamespace(look=look))
    monkeypatch.setattr(stacks, "stay", look)
    monkeypatch.setattr(reach, "running_stack", lambda _: None)
    monkeypatch.setattr(local_events, "following", following)
    deployed(monkeypatch, "--stage", "dev")
    up.main([])
    events.main(["--json"])
    stage, stack, nothing, event = arrived
    assert stage.startswith("Stage dev in ")
    assert stack.endswith('{"stage": "local"}\n')
    assert (nothing, event) == ("", '{"detail": 0}\n')
    assert (deploying["stage"], local.happened[-1]) == ("dev", "end of console")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of a stack and its console: how they were started, and what happened."""
    seen = SimpleNamespace(started={}, happened=[])
    stack = SimpleNamespace(to_json=lambda: '{"stage": "local"}', stage="local")

    @contextmanager
    def within(name: str, value: object) -> Iterator[Any]:
        seen.happened.append(name)
        yield value
        seen.happened.append(f"end of {name}")

    page = SimpleNamespace(url="http://console", origins=("o",))
    page.showing = lambda shown: within("page", shown)

    def local_stack(**named: object) -> Any:
        seen.started = named
        return within("stack", stack)

    monkeypatch.setattr(server, "console", lambda: within("console", page))
    monkeypatch.setattr(stacks, "local_stack", local_stack)
    monkeypatch.setattr(stacks, "stay", lambda _: seen.happened.append("stay"))
    monkeypatch.setattr(terminal, "end_on_sigterm", lambda: seen.happened.append("sigterm"))
    return seen


@pytest.mark.parametrize(("words", "is_shadow"), [([], False), (["--shadow"], True)])
def test_an_empty_stack_is_told_in_a_line_of_json_and_stays_until_ctrl_c(
    words: list[str],
    is_shadow: object,
    ran: Run,
    local: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, printed, said = ran(up.main, *words)
    assert (status, printed) == (0, '{"stage": "local"}\n')
    assert "Ready. Its console is http://console and Ctrl-C ends it." in said
    start = ["sigterm", "console", "stack", "page"]
    assert local.happened == [*start, "stay", "end of page", "end of stack", "end of console"]
    assert local.started["is_shadow"] is is_shadow
    assert (local.started["publish_at"], local.started["origins"]) == ("http://console", ("o",))
    monkeypatch.setattr(stacks, "stay", raising(KeyboardInterrupt()))
    assert ran(up.main)[0] == 130
    monkeypatch.setattr(stacks, "stay", raising(packaging.PackagingError("no pip")))
    status, printed, said = ran(up.main)
    assert (status, said.endswith("error: no pip\n")) == (1, True)


def test_the_story_ends_as_what_it_checked_and_stays_unless_told_to_end(
    ran: Run, local: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Path] = []
    holds = [True]

    def story(_: object, file: Path, *__: object) -> bool:
        told.append(file)
        return holds[0]

    monkeypatch.setattr(run, "story", story)
    monkeypatch.setattr(run, "show_how_to_call", lambda *_: None)
    monkeypatch.setattr(outbox, "show_sent", lambda *_: local.happened.append("emails"))
    assert ran(run.main, "--exit")[0] == 0
    assert "emails" in local.happened
    assert "stay" not in local.happened
    assert local.started["schedules"] is False, "it turns the month itself"
    assert (local.started["publish_at"], local.started["origins"]) == ("http://console", ("o",))
    nowhere = tmp_path / "[bold].csv"
    status, printed, _ = ran(run.main, "--csv", str(nowhere))
    assert (status, printed.replace("\n", "")) == (
        1,
        f"error: {nowhere}: cannot be read: No such file or directory",
    )
    holds[0] = False
    mine = tmp_path / "mine.csv"
    mine.write_bytes(run.SAMPLE.read_bytes())
    status, printed, _ = ran(run.main, "--csv", str(mine))
    assert (status, "The stack stays up until Ctrl-C." in printed) == (1, True)
    assert local.happened[-5:] == ["page", "stay", "end of page", "end of stack", "end of console"]
    assert told == [run.SAMPLE, mine]
    monkeypatch.setattr(run, "story", raising(KeyboardInterrupt()))
    assert ran(run.main)[0] == 130
    monkeypatch.setattr(run, "story", raising(TickFailedError("sweep failed")))
    status, printed, _ = ran(run.main)
    assert (status, "error: sweep failed" in printed) == (1, True)


@pytest.mark.parametrize("fails", ["import", "check", ""])
def test_a_story_is_told_to_its_end_unless_its_users_could_not_be_imported(
    fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[object] = []
    good = [SimpleNamespace(values={"user_id": " ada "}), SimpleNamespace(values={"user_id": "b"})]
    checked = SimpleNamespace(problems=[], good=good)
    imported = SimpleNamespace(failures=["a row"] if fails == "import" else [])

    class Turning:
        def __init__(self, *of: object) -> None:
            happened.append((of[2], of[4]))

        def allocate(self) -> None:
            happened.append("allocated")

        def expire(self) -> None:
            happened.append("expired")

        def check(self) -> bool:
            return fails != "check"

    monkeypatch.setattr(run, "services_of_local", lambda _: None)
    monkeypatch.setattr(importing, "check_with_progress", lambda *_: checked)
    monkeypatch.setattr(importing, "import_with_progress", lambda *_: imported)
    monkeypatch.setattr(importing, "show_problems", lambda *_: None)
    monkeypatch.setattr(turn, "Turning", Turning)
    stack = cast("stacks.LocalStack", None)
    assert run.story(stack, run.SAMPLE, Console(quiet=True), ["UTC"]) is (not fails)
    whole = [(["ada", "b"], ["UTC"]), "allocated", "expired"]
    assert happened == ([] if fails == "import" else whole)
    checked.problems, checked.bad = ["a row", "a row"], [good[0]]
    with pytest.raises(UnreadableFileError, match="1 rows are wrong"):
        run.story(stack, run.SAMPLE, Console(quiet=True))


def test_how_to_call_the_stack_is_said_for_one_of_its_users(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def said(*items: object) -> str:
        scanned = {"Items": list(items)}
        aws = SimpleNamespace(scan=lambda **asked: scanned if asked["TableName"] == "subs" else {})
        stack = SimpleNamespace(
            client=lambda _: aws,
            tables={"subscriptions": "subs"},
            api_url="http://api",
            endpoint_url="http://aws",
        )
        run.show_how_to_call(cast("stacks.LocalStack", stack), "http://page", Console(width=200))
        return capsys.readouterr().out

    found = said({"user_id": {"S": "ada"}})
    assert 'make -s token USER_ID=ada)" http://api/api/credits/allocation-schedule\n' in found
    assert f"http://page/{outbox.PAGE}\n" in found
    assert "http://aws  (the endpoint URL" in found
    assert "USER_ID=42)" in said()
