"""What a deployment changes about the plans: told, or refused with the line to write."""

import io
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from chalicelib.domain.lifetimes import Days, Months
from chalicelib.domain.plans import (
    AllocateOn,
    BillingInterval,
    OnPlanChange,
    OnSignup,
    Plan,
    PlanCatalogue,
)
from infra.deployment import plan_changes
from infra.deployment.packaging import PLANS
from infra.deployment.plan_changes import (
    Terms,
    UnreadableDeploymentError,
    changes,
    refusals,
    terms_of,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NEXT = "grants_since = 2026-12-01"
WHERE = 'the table with id = "pro" in chalicelib/plans.toml'


def plan(monthly_credits: int, since: str | None = None, days: int | None = None) -> Plan:
    day = date.fromisoformat(since) if since else None
    return Plan(
        "pro", "Pro", monthly_credits, Days(days) if days else None, lowest=True, grants_since=day
    )


def terms(monthly_credits: int, since: str | None = None) -> dict[str, Terms]:
    return {"pro": Terms(monthly_credits, None, date.fromisoformat(since) if since else None)}


def refused(before: dict[str, Terms], after: Plan, now: datetime = NOW) -> str | None:
    lines = refusals(before, PlanCatalogue((after,)), now)
    assert len(lines) <= 1
    return lines[0] if lines else None


# --- Beginning to grant -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [terms(0), terms(0, "2026-12-01"), {}, {"other": Terms(5, None, None)}],
    ids=["granted 0", "granted 0 since a day", "no plans", "was removed, or is new"],
)
def test_a_plan_that_begins_to_grant_says_since_which_day_ahead(before: dict[str, Terms]) -> None:
    begins = "Plan 'pro' begins to grant 10 credits a month"
    unsaid = f"{begins} and does not say since when. Add to {WHERE}: {NEXT}"
    assert refused(before, plan(10)) == unsaid
    past = f"{begins}, and 2026-11-28 is no day ahead. Write in {WHERE}: {NEXT}"
    assert refused(before, plan(10, "2026-11-28")) == past
    for since in ("2026-11-30", "2026-12-01", "2027-06-01"):
        assert refused(before, plan(10, since)) is None


def test_the_day_is_ahead_wherever_somebody_lives() -> None:
    """In Kiritimati a day begins at 10:00 UTC of the day before."""
    at = datetime(2026, 12, 31, 9, 59, 59, tzinfo=UTC)
    assert refused(terms(0), plan(10, "2027-01-01"), at) is None
    begun = refused(terms(0), plan(10, "2027-01-01"), at.replace(hour=10, minute=0, second=0))
    assert begun is not None
    assert begun.endswith("grants_since = 2027-02-01")
    last = refused(terms(0), plan(10), datetime(2026, 12, 31, 9, tzinfo=UTC))
    assert last is not None
    assert last.endswith("grants_since = 2027-01-01"), "from the 31st it is a day to the next month"


def test_the_same_date_does_not_count_twice() -> None:
    """A plan that stopped and begins again was without allocations meanwhile."""
    assert refused(terms(10, "2026-01-01"), plan(0, "2026-01-01")) is None
    again = refused(terms(0, "2026-01-01"), plan(10, "2026-01-01"))
    assert again is not None
    assert again.endswith(NEXT)


def test_a_plan_that_grants_nothing_needs_no_date() -> None:
    for before in (terms(0), terms(10), terms(10, "2026-01-01"), {}):
        assert refused(before, plan(0)) is None


# --- Granting already ---------------------------------------------------------------------------


@pytest.mark.parametrize("since", [None, "2026-01-01", "2027-01-01"])
def test_a_plan_that_grants_already_may_change_its_amount(since: str | None) -> None:
    assert refused(terms(500, since), plan(10, since)) is None
    assert refused(terms(500, since), plan(1_000, since)) is None


@pytest.mark.parametrize("since", [None, "2025-12-31", "2026-01-31"])
def test_a_date_is_not_moved_back_nor_taken_out(since: str | None) -> None:
    given = f"since {since}" if since else "always"
    assert refused(terms(10, "2026-02-01"), plan(10, since)) == (
        f"Plan 'pro' has granted since 2026-02-01 and would have granted {given}. "
        f"Put back in {WHERE}: grants_since = 2026-02-01"
    )


def test_a_date_of_a_plan_that_grants_moves_only_to_a_day_ahead() -> None:
    assert refused(terms(10), plan(10, "2026-12-01")) is None
    assert refused(terms(10, "2026-02-01"), plan(10, "2026-12-01")) is None
    assert refused(terms(10), plan(10, "2026-11-30")) is None
    assert refused(terms(10), plan(10, "2026-11-29")) is not None, "where it is tomorrow already"
    left = "Plan 'pro' grants already, and 2026-11-28 is no day ahead. "
    assert refused(terms(10, "2026-02-01"), plan(10, "2026-11-28")) == (
        f"{left}Write in {WHERE}: grants_since = 2026-02-01"
    )
    assert refused(terms(10), plan(10, "2026-11-28")) == (f"{left}Take the line out of {WHERE}")


def test_each_plan_is_refused_by_itself() -> None:
    gold = Plan("gold", "Gold", 5, None, lowest=False)
    lines = refusals(terms(0), PlanCatalogue((plan(10), gold)), NOW)
    assert [line.split()[1] for line in lines] == ["'pro'", "'gold'"]


# --- Billing intervals --------------------------------------------------------------------------

YEARLY, MONTHLY = BillingInterval.YEARLY, BillingInterval.MONTHLY


def paying(*intervals: BillingInterval, monthly_credits: int = 10, **since: str) -> Plan:
    days: dict[str, Any] = {name: date.fromisoformat(day) for name, day in since.items()}
    return replace(plan(monthly_credits), billing_intervals=frozenset(intervals), **days)


def paid(*intervals: BillingInterval, **since: str) -> dict[str, Terms]:
    days = {BillingInterval(name): date.fromisoformat(day) for name, day in since.items()}
    return {"pro": Terms(10, None, None, None, billing_intervals=frozenset(intervals), since=days)}


def test_a_plan_that_begins_to_grant_to_monthly_subscriptions_says_since_which_day_ahead() -> None:
    begins = "Plan 'pro' begins to grant to monthly subscriptions"
    next_one = "monthly_since = 2026-12-01"
    assert refused(paid(YEARLY), paying(YEARLY, MONTHLY)) == (
        f"{begins} and does not say since when. Add to {WHERE}: {next_one}"
    )
    assert refused(paid(YEARLY), paying(YEARLY, MONTHLY, monthly_since="2026-11-28")) == (
        f"{begins}, and 2026-11-28 is no day ahead. Write in {WHERE}: {next_one}"
    )
    assert refused(paid(YEARLY), paying(YEARLY, MONTHLY, monthly_since="2026-11-30")) is None
    # One that granted nothing also had users with amounts of their own.
    free = {"pro": Terms(0, None, None)}
    assert refused(free, paying(MONTHLY, monthly_credits=0)) is not None


def test_a_plan_for_monthly_subscriptions_that_begins_to_grant_to_yearly_ones_says_so_too() -> None:
    found = refused(paid(MONTHLY), paying(YEARLY, MONTHLY))
    assert found is not None
    assert found.endswith("yearly_since = 2026-12-01")


def test_a_new_plan_for_monthly_subscriptions_says_both_days() -> None:
    lines = refusals({}, PlanCatalogue((paying(MONTHLY),)), NOW)
    assert [line.split(": ")[-1].split(" = ")[0] for line in lines] == [
        "grants_since",
        "monthly_since",
    ]


def test_the_day_of_an_interval_is_not_moved_back_nor_taken_out_nor_counted_twice() -> None:
    before = paid(YEARLY, MONTHLY, monthly="2026-02-01")
    earlier = paying(YEARLY, MONTHLY, monthly_since="2026-01-31")
    for after in (paying(YEARLY, MONTHLY), earlier):
        found = refused(before, after)
        assert found is not None
        assert found.startswith(
            "Plan 'pro' has granted to monthly subscriptions since 2026-02-01 and would have"
        )
        assert found.endswith("monthly_since = 2026-02-01")
    assert refused(before, paying(YEARLY, MONTHLY, monthly_since="2026-02-01")) is None
    assert refused(before, paying(YEARLY)) is None
    found = refused(before, paying(YEARLY, MONTHLY, monthly_since="2026-11-27"))
    assert found is not None
    assert found.startswith("Plan 'pro' grants to monthly subscriptions already, and 2026-11-27 is")
    # It stopped, and begins again.
    assert refused(paid(YEARLY), paying(YEARLY, MONTHLY, monthly_since="2026-02-01")) is not None


def test_plans_that_say_nothing_of_billing_need_no_day() -> None:
    assert refused(terms(10), plan(20)) is None
    assert refused(paid(YEARLY, MONTHLY), paying(YEARLY, MONTHLY)) is None


def test_what_changes_of_billing_and_of_days_is_told() -> None:
    def told(before: dict[str, Terms], after: Plan) -> list[str]:
        return list(changes(before, PlanCatalogue((after,))))

    assert told(paid(YEARLY), paying(YEARLY, MONTHLY, monthly_since="2027-01-01")) == [
        "Plan 'pro' begins to grant to monthly subscriptions since 2027-01-01"
    ]
    assert told(paid(YEARLY, MONTHLY), paying(YEARLY)) == [
        "Plan 'pro' grants nothing to monthly subscriptions from now on"
    ]
    after = paying(YEARLY, MONTHLY, monthly_since="2027-01-01")
    assert told(paid(YEARLY, MONTHLY), after) == [
        "Plan 'pro' grants to monthly subscriptions from 2027-01-01 on; until now that was: always"
    ]
    (moved,) = told(paid(YEARLY, MONTHLY, monthly="2026-02-01"), after)
    assert moved.endswith("from 2027-01-01 on; until now that was: 2026-02-01")
    (moved,) = told(paid(YEARLY), replace(paying(YEARLY), allocate_on=AllocateOn.ANNIVERSARY))
    assert moved == (
        "Plan 'pro': months begin on the day on which the subscription started from now on, not on "
        "the 1st; none is granted twice, and one whose new day is over comes with the next, or by "
        "a run of it"
    )
    (lives,) = told(paid(YEARLY), replace(paying(YEARLY), credit_lifetime=Months(1)))
    assert lives == (
        "Plan 'pro': credits granted from now on live 1 months; those before never expire"
    )


def test_the_deployed_terms_say_when_credits_come_to_whom_and_how_long_they_live() -> None:
    text = (
        '[[plans]]\nid = "pro"\nmonthly_credits = 5\nallocate_on = "anniversary"\n'
        'billing_intervals = ["monthly"]\nmonthly_since = 2027-01-01\ncredit_lifetime_months = 2\n'
        "most_credits_at_once = 70\nbalance_cap = 90\n"
    )
    assert terms_of(text) == {
        "pro": Terms(
            5,
            Months(2),
            None,
            most_credits_at_once=70,
            balance_cap=90,
            allocate_on=AllocateOn.ANNIVERSARY,
            billing_intervals=frozenset({MONTHLY}),
            since={MONTHLY: date(2027, 1, 1)},
        )
    }


# --- What is told -------------------------------------------------------------------------------


def test_what_changes_is_told_plan_by_plan() -> None:
    before = {
        "gone": Terms(7, None, None),
        "idle": Terms(0, None, None),
        "free": Terms(0, None, None),
        "pro": Terms(500, None, None),
        "short": Terms(5, Days(30), None),
        "late": Terms(5, None, None),
        "same": Terms(5, Days(30), date(2026, 1, 1)),
    }
    since = date(2027, 1, 1)
    after = PlanCatalogue(
        (
            Plan("free", "Free", 10, None, lowest=True, grants_since=since),
            Plan("pro", "Pro", 0, None, lowest=False),
            Plan("short", "Short", 5, None, lowest=False),
            Plan("late", "Late", 5, Days(60), lowest=False, grants_since=since),
            Plan("same", "Another name", 5, Days(30), lowest=False, grants_since=date(2026, 1, 1)),
            Plan("new", "New", 1_000, None, lowest=False, grants_since=since),
        )
    )
    assert list(changes(before, after)) == [
        (
            "Plan 'gone' is removed: its users get no credits until they are moved to "
            "another plan (it granted 7 a month)"
        ),
        (
            "Plan 'idle' is removed: its users get no credits until they are moved to "
            "another plan (it granted 0 a month)"
        ),
        "Plan 'free' grants 10 credits a month since 2027-01-01, not 0, from now on",
        "Plan 'pro' grants 0 credits a month, not 500, from now on",
        "Plan 'short': credits granted from now on never expire; those before live 30 days",
        "Plan 'late': credits granted from now on live 60 days; those before never expire",
        "Plan 'late' grants from 2027-01-01 on; until now that was: always",
        "Plan 'new' is new: 1,000 credits a month since 2027-01-01",
    ]


def test_a_cap_that_changes_is_told_and_of_a_lower_one_what_becomes_of_higher_amounts() -> None:
    def told(before: int | None, after: int | None, monthly: int = 500) -> list[str]:
        plan = Plan("pro", "Pro", monthly, None, lowest=True, most_credits_at_once=after)
        return list(changes({"pro": Terms(500, None, None, before)}, PlanCatalogue((plan,))))

    most = "Plan 'pro': own amounts and grants by hand are at most"
    assert told(None, None) == told(None, 10_000) == []
    assert told(None, 10_001) == [f"{most} 10,001, not 10,000"]
    assert told(20_000, None) == [
        f"{most} 10,000, not 20,000; of an own amount above it, 10,000 are allocated from now on"
    ]
    assert told(None, None, monthly=2_000)[1:] == [f"{most} 20,000, not 10,000"]


def test_a_cap_of_balances_that_changes_is_told() -> None:
    def told(before: int | None, after: int | None) -> list[str]:
        plan = Plan("pro", "Pro", 500, None, lowest=True, balance_cap=after)
        deployed = Terms(500, None, None, balance_cap=before)
        return list(changes({"pro": deployed}, PlanCatalogue((plan,))))

    assert told(None, None) == told(800, 800) == []
    now = "Plan 'pro': allocations from now on fill up to"
    assert told(None, 1_000) == [f"{now} 1,000 credits; those before, to any balance"]
    assert told(1_000, None) == [f"{now} any balance; those before, to 1,000 credits"]


def test_other_first_credits_are_told() -> None:
    def told(before: str, after: OnSignup) -> list[str]:
        plan = Plan("pro", "Pro", 500, None, lowest=True, on_signup=after)
        (deployed,) = terms_of(
            f'[[plans]]\nid = "pro"\nmonthly_credits = 500\non_signup = "{before}"\n'
        ).values()
        return list(changes({"pro": deployed}, PlanCatalogue((plan,))))

    now = "Plan 'pro': new subscribers from now on are granted of the running month"
    assert told("none", OnSignup.NONE) == told("full", OnSignup.FULL) == []
    assert told("none", OnSignup.FULL) == [f"{now} all at once"]
    assert told("full", OnSignup.PRORATED) == [f"{now} the part that is left at once"]
    assert told("full", OnSignup.NONE) == [f"{now} nothing at once"]


def test_another_way_with_steps_up_is_told() -> None:
    def told(before: str, after: OnPlanChange) -> list[str]:
        plan = Plan("pro", "Pro", 500, None, lowest=True, on_plan_change=after)
        (deployed,) = terms_of(
            f'[[plans]]\nid = "pro"\nmonthly_credits = 500\non_plan_change = "{before}"\n'
        ).values()
        return list(changes({"pro": deployed}, PlanCatalogue((plan,))))

    now = "Plan 'pro': a user who moves up to it within a month from now on is granted"
    assert told("difference", OnPlanChange.DIFFERENCE) == []
    assert told("difference", OnPlanChange.NEXT_PERIOD) == [f"{now} nothing at once"]
    assert told("next_period", OnPlanChange.DIFFERENCE) == [
        f"{now} the part of the difference that is left, at once"
    ]


def test_a_cap_that_is_no_number_is_no_catalogue() -> None:
    with pytest.raises(ValueError, match="an amount or a lifetime that is no number"):
        terms_of('[[plans]]\nid = "pro"\nmonthly_credits = 5\nbalance_cap = "1"\n')
    with pytest.raises(ValueError, match="an amount or a lifetime that is no number"):
        terms_of('[[plans]]\nid = "pro"\nmonthly_credits = 5\nmost_credits_at_once = "1"\n')
    with pytest.raises(ValueError, match="an amount or a lifetime that is no number"):
        terms_of('[[plans]]\nid = "pro"\nmonthly_credits = true\n')


# --- What is deployed ---------------------------------------------------------------------------


def test_a_catalogue_of_another_version_is_read_for_what_it_says() -> None:
    text = '[[plans]]\nid = "pro"\nmonthly_credits = 5\ngrants_since = 2027-01-01\ncolour = 1\n'
    assert terms_of(text) == terms(5, "2027-01-01")
    assert terms_of('[[plans]]\nid = "pro"\nmonthly_credits = 5\n') == terms(5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[plans]",
        "plans = 1",
        "plans = [1]",
        "[plans]\nid = 1",
        "[[plans]]\nid = 'a'",
        "[[plans]]\nmonthly_credits = 1",
        "[[plans]]\nid = []\nmonthly_credits = 1",
        "[[plans]]\nid = 'a'\nmonthly_credits = '1'",
        "[[plans]]\nid = 'a'\nmonthly_credits = 1\ncredit_lifetime_days = 'x'",
        "[[plans]]\nid = 'a'\nmonthly_credits = 1\ngrants_since = 2027-01-01T00:00:00",
        "[[plans]]\nid = 'a'\nmonthly_credits = 1\nmonthly_since = 2027-01-01T00:00:00",
        "plans = " + "[" * 20_000,
    ],
)
def test_a_text_that_is_no_catalogue_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        terms_of(text)


class Functions:
    """A Lambda service with one function, whose code is at an address."""

    def get_function(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        if FunctionName != "there":
            error = {"Error": {"Code": "ResourceNotFoundException", "Message": "none"}}
            raise ClientError(error, "GetFunction")  # type: ignore[arg-type]
        return {"Code": {"Location": "https://code.example.com"}}


def archive(**files: str | bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def test_the_deployed_catalogue_is_that_of_the_code_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = archive(**{"app.py": "", "chalicelib/plans.toml": "plans = []"})
    monkeypatch.setattr(plan_changes, "_download", lambda _: code)
    assert plan_changes.deployed(Functions(), "there") == "plans = []"
    assert plan_changes.deployed(Functions(), "absent") is None


def test_a_refusal_to_show_the_code_is_not_taken_for_a_stage_without_plans() -> None:
    def refuse(**_: str) -> None:
        error = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
        raise ClientError(error, "GetFunction")  # type: ignore[arg-type]

    with pytest.raises(ClientError, match="AccessDenied"):
        plan_changes.deployed(SimpleNamespace(get_function=refuse), "there")


@pytest.mark.parametrize("code", [archive(**{"app.py": ""}), b"no archive"])
def test_code_without_plans_is_no_reason_to_go_on(
    code: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_changes, "_download", lambda _: code)
    with pytest.raises(UnreadableDeploymentError, match="code of function there cannot be read"):
        plan_changes.deployed(Functions(), "there")


def test_the_code_is_downloaded_from_where_lambda_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(session: Any, request: Any) -> Any:
        assert session._verify, "anybody could answer with other plans"
        assert (request.method, request.url) == ("GET", "https://code.example.com")
        return SimpleNamespace(status_code=200, content=archive(**{PLANS: "x = 1"}))

    monkeypatch.setattr(URLLib3Session, "send", send)
    assert plan_changes.deployed(Functions(), "there") == "x = 1"


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_page_of_an_error_is_not_taken_for_code(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(status_code=status, content=archive(**{PLANS: "x = 1"}))
    monkeypatch.setattr(URLLib3Session, "send", lambda *_: answer)
    with pytest.raises(UnreadableDeploymentError, match=f"HTTP status {status}"):
        plan_changes.deployed(Functions(), "there")


def test_names_of_plans_in_any_language_are_read_as_they_were_deployed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = '[[plans]]\nid = "größe-東京"\nmonthly_credits = 5\n'
    monkeypatch.setattr(plan_changes, "_download", lambda _: archive(**{PLANS: plans}))
    deployed = plan_changes.deployed(Functions(), "there")
    assert deployed == plans
    assert list(terms_of(deployed)) == ["größe-東京"]
    code = archive(**{PLANS: plans.encode().replace("ö".encode(), b"\xff")})
    monkeypatch.setattr(plan_changes, "_download", lambda _: code)
    broken = plan_changes.deployed(Functions(), "there")
    assert broken == plans.replace("ö", "\N{REPLACEMENT CHARACTER}")
