"""The commands: one name for all, help for each, and pages that are what they would write."""

import errno
import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError

from chalicelib.domain.plans import PlanCatalogue
from chalicelib.store.wire.errors import NoAnswer
from infra.__main__ import COMMANDS, main, overview
from infra.deployment import packaging
from infra.local import stacks
from infra.pages import reference
from infra.session import AwsError

ROOT = Path(__file__).parents[2]
PLANS = packaging.PLANS
PICTURE = "infra/pages/lighthouse.png"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_page_of_the_api_is_that_of_its_contract() -> None:
    contract = json.loads(reference.CONTRACT.read_text(encoding="utf-8"))
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(contract)
    for path, operations in contract["paths"].items():
        for method in set(operations) - {"parameters"}:
            assert f"## {method.upper()} {path}\n" in reference.page(contract)


def test_the_page_names_each_problem_with_its_route_or_among_the_common_ones() -> None:
    contract = json.loads(reference.CONTRACT.read_text(encoding="utf-8"))
    sections = dict(
        section.split("\n", 1) for section in reference.page(contract).split("\n## ")[1:]
    )
    for path, operations in contract["paths"].items():
        for method in set(operations) - {"parameters"}:
            operation = operations[method]
            common = [title for title, has in reference.GROUPS.items() if has(operation)]
            for status, answer in operation["responses"].items():
                if status.startswith("2"):
                    continue
                name = answer.get("$ref", "").rpartition("/")[2]
                told = contract["components"]["responses"].get(name, answer)["description"]
                own = f"{status} ({told.rstrip('.')})" in sections[f"{method.upper()} {path}"]
                shared = any(
                    f"| {title} | {status} | {told} |" in sections["Common problems"]
                    for title in common
                )
                assert own != shared, (method, path, status)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", name, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    package = COMMANDS[name][0].partition(".")[0]
    by_name = f"python -m infra {name} " if package == "infra" else "python -m bench"
    assert said.out.startswith(f"usage: {by_name}")


def test_a_command_that_is_not_there_is_answered_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", "nonsense"])
    assert main() == 2
    said = capsys.readouterr().err
    assert "there is no command 'nonsense'" in said
    assert overview() in said


def test_what_make_runs_of_ours_is_a_command() -> None:
    """So that nobody has to look in two places for what there is."""
    run = re.findall(r"\$\(RUN\) -m (infra|bench)\b(?: ([\w-]+))?", MAKEFILE)
    assert {package for package, _ in run} == {"infra"}
    assert {name for _, name in run} == set(COMMANDS)
    for module, _ in COMMANDS.values():
        assert importlib.util.find_spec(module) is not None


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Make, told that .venv is up to date: only what it says before it runs anything matters."""
    return subprocess.run(
        ["make", "--no-print-directory", "--old-file=.venv/.ready", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("target", "missing", "example"),
    [
        (["import"], "CSV", "make import CSV=subscribers.csv"),
        (["deploy"], "STAGE", "make deploy STAGE=dev"),
        (["replay", "FROM=2026-07-01T00:00Z"], "KIND", "make replay FROM="),
        (["void", "USER_ID=42", "BATCH=42-7", "ACTOR=ada"], "REASON", "make void USER_ID=42"),
    ],
)
def test_a_target_without_its_variables_names_the_first_and_an_example(
    target: list[str], missing: str, example: str
) -> None:
    ended = make(*target)
    assert ended.returncode == 2
    assert f"make {target[0]} needs {missing}. For example: {example}" in ended.stderr


def test_help_shows_every_target_under_a_heading_and_fits_a_wide_terminal() -> None:
    shown = make("help").stdout
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"^  make ([a-z-]+) ", shown, re.MULTILINE)) == targets
    assert {*COMMANDS} <= targets
    assert max(map(len, shown.splitlines())) <= 110
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)).split()
    assert set(phony) == targets | {"writable"}


def test_a_reader_that_has_seen_enough_is_no_failure_to_talk_about() -> None:
    command = f"{shlex.quote(sys.executable)} -m infra cost | true"
    ended = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "")


def test_what_is_left_to_write_for_a_reader_that_has_gone_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: sys.stdout.write("a line\n"))
    monkeypatch.setattr(sys, "argv", ["infra", "units"])
    with os.fdopen(writer, "w") as pipe:  # writes what is left when it is closed
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main() == 1


@pytest.mark.parametrize("words", [[], [""], ["-h"], ["--help"], ["help"]])
def test_without_a_command_all_of_them_are_listed_and_nothing_has_failed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", *words])
    assert main() == 0
    assert capsys.readouterr() == (f"{overview()}\n", "")
    assert "\n  deploy-policy  print the rights to deploy a stage, for IAM\n" in overview()
    assert "\n  up             start an empty stack on this machine\n" in overview()


def test_a_command_gets_its_own_words_under_its_own_name_and_its_end_is_that_of_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[object] = []

    def run(module: str, **how: object) -> None:
        ran.append((module, [*sys.argv], how))

    monkeypatch.setattr(runpy, "run_module", run)
    monkeypatch.setattr(sys, "argv", ["infra", "verify", "42", "--stage", "dev"])
    assert main() == 0
    argv = ["python -m infra verify", "42", "--stage", "dev"]
    how = {"run_name": "__main__", "alter_sys": True}
    assert ran == [("infra.commands.verify", argv, how)]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [["verify", "--help"], ["verify", "42", "-h"]])
def test_help_is_there_even_with_a_mistake_in_the_plans(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(packaging, "catalogue", lambda: pytest.fail("it was read"))
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: ran.append(module))
    monkeypatch.setattr(sys, "argv", ["infra", *words])
    assert main() == 0
    assert ran == ["infra.commands.verify"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "build/x"),
        OSError(errno.ENOENT, "No such file or directory", "build/x"),
        OSError(errno.EACCES, "Permission denied"),
        ValueError("a bug"),
    ],
)
def test_an_error_that_nobody_foresaw_is_not_hidden(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runpy, "run_module", fail)
    monkeypatch.setattr(sys, "argv", ["infra", "units"])
    with pytest.raises(type(error)) as raised:
        main()
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AwsError("Which region?"), "Which region?"),
        (NoCredentialsError(), "AWS does not know who you are: there are no credentials."),
        (NoAnswer("nobody answers"), "AWS cannot be reached: nobody answers"),
    ],
)
def test_what_aws_refuses_is_said_on_standard_error_and_is_a_failure(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        sys.stdout.write("half of the answer\n")
        raise error

    monkeypatch.setattr(runpy, "run_module", fail)
    monkeypatch.setattr(sys, "argv", ["infra", "units"])
    assert main() == 1
    shown = capsys.readouterr()
    assert shown.out == "half of the answer\n"
    assert shown.err.startswith(f"error: {said}")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_cannot_be_written_is_named_with_what_to_do(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "Permission denied", str(tmp_path / "build"))

    monkeypatch.setattr(runpy, "run_module", refuse)
    monkeypatch.setattr(sys, "argv", ["infra", "units"])
    assert main() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'build'}: Permission denied.")
    assert "clone it where you can write" in said


# --- What is given is checked first -------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistake_in_the_plans_is_told_by_every_command_before_it_does_anything(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mistaken() -> PlanCatalogue:
        raise packaging.PackagingError("chalicelib/plans.toml, line 29: ...")

    def nobody(*_: object, **__: object) -> None:
        pytest.fail("it was run")

    monkeypatch.setattr(packaging, "catalogue", mistaken)
    monkeypatch.setattr(runpy, "run_module", nobody)
    monkeypatch.setattr(sys, "argv", ["infra", name])
    assert main() == 1
    assert capsys.readouterr().err == "error: chalicelib/plans.toml, line 29: ...\n"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cost --users 0", "argument --users: must be a whole number from 1 to 1,000,000,000"),
        ("cost --users 1e3", "argument --users: must be a whole number"),
        ("cost --users " + "9" * 5_000, "argument --users: must be a whole number"),
        ("cost --usages x", "argument --usages: must be a number from 0 to 1,000,000,000"),
        ("cost --reads NaN", "argument --reads: must be a number from 0"),
        ("cost --mails=-1", "argument --mails: must be a number from 0"),
        ("cost --mails Infinity", "argument --mails: must be a number from 0"),
        ("cost --rival --users 5", "argument --users: leave it out with --rival"),
        ("cost --rival --size small", "argument --size: leave it out with --rival"),
        ("cost --rival --events", "argument --events: leave it out with --rival"),
        ("scale --users 10000001", "argument --users: must be a whole number from 1 to 10,000,000"),
        ("hot --seconds 0", "argument --seconds: must be a whole number from 1 to 3,600"),
        ("cost --expiring 1.1", "argument --expiring: must be a number from 0 to 1"),
        ("cost --months-kept 1201", "argument --months-kept: must be a whole number from 1 to"),
        ("units --users 0", "argument --users: must be a whole number"),
        ("scale --users ٣", "argument --users: must be a whole number"),
        ("bench --rounds 1001", "argument --rounds: must be a whole number from 1 to 1,000"),
        ("redrive --limit 0", "argument --limit: must be a whole number"),
        ("import --stage prood x.csv", "There is no stage 'prood'; the stages are local, dev, pr"),
        ("verify --stage prood 42", "There is no stage 'prood'"),
        ("completeness --stage prood 2026-07", "There is no stage 'prood'"),
        ("export --stage prood --user-id 42", "There is no stage 'prood'"),
        ("deploy --stage prood", "invalid choice: 'prood' (choose from 'dev', 'prod')"),
        ("allocate --period 2026-13 --user-id 42", "--period: must be a month written like 2026-"),
        ("void --user-id 42 --batch x --reason a --actor b", "--batch"),
        ("void --user-id 42 --batch 7 --reason a --actor b --key=", "--key: "),
        ("replay --from x --kind allocation", "--from: must be a date and time written like"),
        ("replay --from 2026-07-01T00:00Z --kind expiry --to=", "--to: must be a date and time"),
        ("replay --from 2026-07-01T00:00Z --kind expiry --zones=", "--zones[0]: unknown timezone"),
        ("erase --user-id=a/b", "--user-id: "),
        ("verify --zone Mars/Base", "ZONE: unknown timezone"),
        ("verify --sample 0", "SAMPLE: must be a whole number"),
        ("verify a/b", "USER_ID: "),
        ("verify --anchors= 42", "ANCHORS: must be a date and time written like"),
        ("verify", "needs one of USER_ID=42"),
        ("show", "needs one of USER_ID=42, EMAIL=ada@example.com"),
        ("show --email ada@example.com 42", "needs one of USER_ID=42, EMAIL=ada@example.com"),
        ("show --email ada", "EMAIL: must be an email address"),
        ("show a/b", "USER_ID: "),
        ("show --stage prood 42", "There is no stage 'prood'"),
        ("completeness 2026-13", "PERIOD: must be a month written like 2026-07"),
        ("completeness 2026-07 --zones Mars/Base", "ZONES"),
        ("completeness 2026-07 --zones=", "ZONES"),
        ("liability yesterday", "AT: must be a date and time written like"),
        ("liability --stage prood 2026-10-31T24:00Z", "There is no stage 'prood'"),
        ("liability --json --as-csv 2026-10-31T24:00Z", "not allowed with argument --json"),
        ("liability --subscriptions=x 2026-10-31T24:00Z", "needs an export of the ledger: EXPORT="),
        ("whatif --plans x --from 2026-13 --to 2026-12", "PLANS: cannot be read"),
        (f"whatif --plans {PICTURE} --from 2026-01 --to 2026-02", "PLANS: cannot be read"),
        (f"whatif --plans {PLANS} --from 2026-13 --to 2026-12", "FROM: must be a month written"),
        (f"whatif --plans {PLANS} --from 2026-05 --to 2026-04", "TO: must not be before FROM"),
        (f"whatif --plans {PLANS} --from 2026-05 --to 2026-05 --stage prood", "no stage 'prood'"),
        (
            f"whatif --plans {PLANS} --from 2026-05 --to 2026-05 --export x",
            "exports come together: EXPORT= of the ledger, SUBSCRIPTIONS= and EDITS=",
        ),
        ("whatif --plans Makefile --from 2026-01 --to 2026-12", "is not valid TOML"),
        (
            "shadow x.csv --export x --edits x",
            "exports come together: EXPORT= of the ledger, SUBSCRIPTIONS=",
        ),
        ("shadow --stage prood x.csv", "There is no stage 'prood'"),
        ("shadow x.csv", "x.csv: cannot be read"),
        ("shadow Makefile", "the columns must be reference,user_id,at,kind,amount,description"),
        ("shadow x.csv --tolerance 1441", "argument --tolerance: must be a whole number from 0"),
        (f"shadow {PLANS} --from yesterday", "FROM: must be a date and time written like"),
        (f"shadow {PLANS} --until yesterday", "UNTIL: must be a date and time written like"),
        ("clock --to tomorrow", "to: must be 'next midnight'"),
        ("clock --zone Mars/Base", "zone: unknown timezone"),
        ("token --user-id 42 --seconds 99999999999", "must be a whole number from 1 to 31,622,400"),
        ("mails --to /dev/null/mails", "--to: /dev/null"),
        ("mails --stage prod", "Set ProductName, ProductUrl, ProductLogoUrl, ProductAddress"),
        ("mails --stage prood", "There is no [prood]"),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_looked_for(
    words: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (1, 2)
    said = capsys.readouterr()
    assert message in said.err + said.out


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"endpoint_url": "http://127.0.0.1:1"}'])
def test_what_an_ended_or_older_stack_left_behind_is_no_running_stack(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "local.json"
    file.write_text(text)
    monkeypatch.setattr(stacks, "STATE_FILE", file)
    with pytest.raises(stacks.NotRunningError, match="make up"):
        stacks.running_stack()
