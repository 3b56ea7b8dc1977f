"""Who may do what in the workflows: what builds cannot deploy, and what deploys does not build."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.deployment.packaging import ROOT

Json = dict[str, Any]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(path.name for path in FOLDER.glob("*.y*ml"))


@cache
def workflow(name: str) -> Json:
    loaded = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def jobs() -> list[tuple[str, str, Json]]:
    """Every job of every workflow: the file, its name, and itself."""
    return [(file, name, job) for file in WORKFLOWS for name, job in workflow(file)["jobs"].items()]


def rights(file: str, job: Json) -> Json:
    """A job's own permissions take the place of the workflow's."""
    return {**(job["permissions"] if "permissions" in job else workflow(file)["permissions"])}


def commands(job: Json) -> list[str]:
    return [step["run"].strip() for step in job.get("steps", []) if "run" in step]


def may_deploy(file: str, job: Json) -> bool:
    return "id-token" in rights(file, job) or "environment" in job or "secrets" in str(job)


@pytest.mark.parametrize("file", WORKFLOWS)
def test_a_workflow_may_read_the_repository_and_a_job_says_what_it_may_do_beside(file: str) -> None:
    assert workflow(file)["permissions"] == {"contents": "read"}


def test_what_may_deploy_is_a_stage_and_does_nothing_but_deploy_what_was_packaged_before() -> None:
    deploying = {name: job for file, name, job in jobs() if may_deploy(file, job)}
    assert set(deploying) == {"dev", "prod"}
    for name, job in deploying.items():
        assert job["environment"] == name
        assert job["permissions"] == {"contents": "read", "id-token": "write"}
        assert "package" in [job["needs"], *job["needs"]]
        (command,) = commands(job)
        assert command == (
            'make deploy STAGE="$GITHUB_JOB" PACKAGE="build/package/$GITHUB_JOB" DIGEST="$DIGEST" '
            "YES=1"
        )
        (step,) = (step for step in job["steps"] if "run" in step)
        assert step["env"] == {"DIGEST": "${{ needs.package.outputs[github.job] }}"}


def test_what_packages_has_no_right_beside_reading_and_waits_for_the_tests() -> None:
    job = workflow("deploy.yml")["jobs"]["package"]
    assert not may_deploy("deploy.yml", job)
    assert rights("deploy.yml", job) == {"contents": "read"}
    assert job["needs"] == "test"
    (command,) = commands(job)
    # A digest that is not assigned by itself would hide that make failed.
    assert re.search(r'^ *digest=\$\(make -s package STAGE="\$stage"', command, re.MULTILINE)
    stages = re.search(r"for stage in (.*); do", command)
    assert stages
    assert set(job["outputs"]) == set(stages[1].split()) == {"dev", "prod"}
    for stage, output in job["outputs"].items():
        assert output == f"${{{{ steps.package.outputs.{stage} }}}}"


def test_what_was_packaged_is_what_is_fetched() -> None:
    of_deploy = workflow("deploy.yml")["jobs"]
    (put,) = (s for s in of_deploy["package"]["steps"] if "upload-artifact" in s.get("uses", ""))
    for stage in ("dev", "prod"):
        (got,) = (s for s in of_deploy[stage]["steps"] if "download-artifact" in s.get("uses", ""))
        assert got["with"] == {key: put["with"][key] for key in ("name", "path")}


def test_no_job_keeps_the_token_of_the_repository_for_its_commands() -> None:
    checkouts = [
        step
        for _, _, job in jobs()
        for step in job.get("steps", [])
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert checkouts
    for step in checkouts:
        assert step["with"] == {"persist-credentials": False}


def test_nothing_that_others_can_write_is_part_of_a_command() -> None:
    """GitHub puts an expression into the text of a command before the shell reads it."""
    for file, name, job in jobs():
        for command in commands(job):
            assert "${{" not in command, f"{file}: {name}"


def test_there_is_no_workflow_that_runs_a_strangers_code_with_rights() -> None:
    for file in WORKFLOWS:
        assert "pull_request_target" not in (FOLDER / file).read_text(encoding="utf-8")
        assert "workflow_run" not in Path(FOLDER / file).read_text(encoding="utf-8")
