"""What a deployment may do to a shadow, and what is looked at before its ledgers count."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from infra.deployment import deploy
from infra.deployment.errors import DeployError
from infra.deployment.rollback import UNWATCHED
from infra.deployment.shadows import check_deployment, shadow_of
from infra.deployment.stack import Stack
from infra.doctor.finding import State
from infra.doctor.report import is_fine
from infra.shadow.cutover import judge_mode, judge_nights
from infra.shadow.nights import Night
from infra.terminal import agree, say_nothing
from tests.unit.test_deploy import Aws

SWITCHED = "2026-12-31T10:00:00Z"
TODAY = date(2026, 12, 31)


class Account(Aws):
    """An account whose stack has that parameter, and so many items in its ledger."""

    def __init__(self, shadow: str | None, items: int = 1, status: str = "UPDATE_COMPLETE") -> None:
        super().__init__(status=status)
        there = {"Stage": "prod"} | ({} if shadow is None else {"Shadow": shadow})
        self.parameters = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in there.items()
        ]
        self.items = items

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        found = super().describe_stacks()
        found["Stacks"][0]["Parameters"] = self.parameters
        return found

    def describe_table(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        assert TableName == "credits-prod-ledger"
        return {"Table": {"ItemCount": self.items}}


def check(account: Account, wanted: str) -> list[str]:
    """Looks at a deployment with that parameter; what was said."""
    said: list[str] = []
    check_deployment("prod", account.client, wanted, said.append)
    return said


# --- Deployments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shadow", ["off", None])
def test_a_stage_that_is_no_shadow_is_deployed_as_ever(shadow: str | None) -> None:
    assert check(Account(shadow), "off") == []


def test_a_stage_is_said_to_be_a_shadow_whenever_it_is_deployed() -> None:
    (said,) = check(Account("on"), "on")
    assert said == (
        "Stage prod is a shadow: it sends nothing, neither emails nor events, until make cutover "
        "(docs/migrating.md)"
    )


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_a_stage_can_be_a_shadow_from_its_first_deployment_on_whatever_failed_before(
    status: str,
) -> None:
    (said,) = check(Account("off", status=status), "on")
    assert said.startswith("Stage prod becomes a shadow")
    assert check(Account("on", status=status), "off") == []


def test_a_stage_whose_ledgers_are_empty_can_become_a_shadow() -> None:
    (said,) = check(Account(None, items=0), "on")
    assert said.startswith("Stage prod becomes a shadow")


def test_a_stage_whose_ledgers_count_cannot_become_a_shadow() -> None:
    with pytest.raises(DeployError, match="has ledgers that count") as refused:
        check(Account("off", items=1), "on")
    assert str(refused.value).endswith(
        'To deploy it as it is, write Shadow = "off" under [prod] in infra/parameters.toml.'
    )


@pytest.mark.parametrize("wanted", ["off", SWITCHED])
def test_a_deployment_does_not_make_ledgers_of_a_shadow(wanted: str) -> None:
    with pytest.raises(DeployError, match="make cutover STAGE=prod does") as refused:
        check(Account("on", items=0), wanted)
    assert 'write Shadow = "on" under [prod]' in str(refused.value)


@pytest.mark.parametrize("wanted", ["on", "off", "2026-12-31T10:00:01Z"])
def test_after_the_switch_a_deployment_must_say_when_it_was(wanted: str) -> None:
    assert check(Account(SWITCHED), SWITCHED) == []
    with pytest.raises(DeployError, match=f'write Shadow = "{SWITCHED}" under'):
        check(Account(SWITCHED, items=0), wanted)


def test_what_never_was_a_shadow_is_not_said_to_have_been_one() -> None:
    with pytest.raises(DeployError, match='write Shadow = "off" under'):
        check(Account("off", items=0), SWITCHED)


def test_a_deployment_looks_before_it_packages_anything() -> None:
    def packaging_is_not_reached(*_: object, **__: object) -> Any:
        raise AssertionError("it packages")

    with pytest.raises(DeployError, match="make cutover STAGE=prod does"):
        deploy.deploy(
            "prod",
            Account("on").client,
            region="eu-west-1",
            parameters={"TokenIssuer": "https://issuer", "TokenAudience": "us"},
            say=say_nothing,
            make_package=packaging_is_not_reached,
        )


# --- The switch -----------------------------------------------------------------------------------


def test_the_switch_changes_one_parameter_and_no_alarm_takes_it_back() -> None:
    account = Account("on")
    said: list[str] = []
    stack = Stack(account, "credits-prod", "eu-west-1", said.append, said.append)
    assert stack.change_parameters({"Shadow": SWITCHED}, agree)
    assert account.executed
    sent = account.sent
    assert sent["ChangeSetType"] == "UPDATE"
    assert sent["UsePreviousTemplate"] is True
    assert not {"TemplateURL", "TemplateBody", "Tags"} & sent.keys()
    assert sent["Parameters"] == [
        {"ParameterKey": "Stage", "UsePreviousValue": True},
        {"ParameterKey": "Shadow", "ParameterValue": SWITCHED},
    ]
    assert sent["RollbackConfiguration"] == UNWATCHED
    assert sent["Capabilities"] == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


def test_a_switch_that_is_declined_changes_nothing() -> None:
    account = Account("on")
    account.delete_change_set = lambda **_: None  # type: ignore[attr-defined]
    stack = Stack(account, "credits-prod", "eu-west-1", say_nothing, say_nothing)
    with pytest.raises(DeployError, match="none of them was made"):
        stack.change_parameters({"Shadow": SWITCHED}, lambda: False)
    assert (account.executed, account.deleted) == (False, False)


def test_a_stage_that_is_not_deployed_has_no_parameter() -> None:
    account = Aws(status=None)
    assert shadow_of(account, "prod") is None


# --- What is looked at ----------------------------------------------------------------------------


def clean(*ago: int) -> list[Night]:
    """Nights without an unexplained difference, so many days ago."""
    return [night(days, 0) for days in ago]


def night(ago: int, unexplained: int, users: int = 1_000) -> Night:
    at = datetime(2026, 12, 31, 4, tzinfo=UTC) - timedelta(days=ago)
    return Night(at, users, users - unexplained, 0, unexplained, "digest")


@pytest.mark.parametrize(
    ("nights", "is_met", "says"),
    [
        (clean(2, 1, 0), True, "3 in a row without an unexplained difference"),
        (clean(4, 3, 2, 1), True, "4 in a row without an unexplained difference"),
        (clean(1, 0), False, "2 in a row {} nothing was compared on 2026-12-29"),
        (clean(3, 1, 0), False, "2 in a row {} nothing was compared on 2026-12-29"),
        (clean(5, 4, 3, 2), False, "0 in a row {} nothing was compared on 2026-12-30"),
        ([], False, "0 in a row {} nothing was compared on 2026-12-30"),
        (
            [*clean(4, 3, 2), night(1, 1_000), *clean(0)],
            False,
            "1 in a row {} on 2026-12-30 there were 1,000 of 1,000 users",
        ),
        (
            [*clean(4, 3, 2, 1), night(0, 0, users=0)],
            False,
            "0 in a row {} nobody was compared on 2026-12-31",
        ),
    ],
)
def test_so_many_nights_in_a_row_must_have_been_well_and_the_last_of_them_is_recent(
    nights: Sequence[Night], says: str, *, is_met: bool
) -> None:
    found = judge_nights(nights, TODAY, 3)
    words = "without an unexplained difference, and 3 are wanted:"
    assert (found.state is State.FINE, found.says) == (is_met, says.format(words))
    assert is_met or found.state is State.BAD
    row = found.says.split()[0]
    assert found.fix == (
        ""
        if is_met
        else "Compare every night: make shadow CSV=old.csv; a team that decides so switches "
        f"earlier: NIGHTS={row}"
    )


def test_a_team_may_decide_to_switch_without_a_night() -> None:
    found = judge_nights([], TODAY, 0)
    assert found.says == "not looked at, because NIGHTS is 0"
    assert is_fine([found])


@pytest.mark.parametrize("shadow", ["off", None])
def test_only_a_shadow_is_switched(shadow: str | None) -> None:
    assert is_fine([judge_mode("prod", "on")])
    found = judge_mode("prod", shadow)
    assert not is_fine([found])
    assert found.says == "prod is no shadow: its ledgers count already"
    assert "docs/migrating.md" in found.fix
