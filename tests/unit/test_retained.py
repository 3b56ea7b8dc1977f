"""What an earlier stack left, in an account that answers as the test says."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from infra.deployment import retained
from infra.deployment.deploy_policy import published
from infra.deployment.parameters import TEMPLATE_FILE
from infra.session import AwsError

TEMPLATE: dict[str, Any] = yaml.safe_load(TEMPLATE_FILE.read_text("utf-8"))
TEMPLATE["Resources"] = {
    name: resource for name, resource in TEMPLATE["Resources"].items() if "Type" in resource
}
TABLES = {
    "ledger": "LedgerTable",
    "subscriptions": "SubscriptionsTable",
    "edits": "EditsTable",
    "mails": "MailsTable",
    "stripe": "StripeTable",
}
SECRETS = {"unsubscribe-links": "UnsubscribeSecret", "stripe-webhook": "StripeSecret"}
KEPT = {*TABLES.values(), "ReportsBucket", "AnchorsBucket", *SECRETS.values()}

LINKS = "credits-prod-unsubscribe-links"


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "so it says"}}, "Describe")


@dataclass
class Aws:
    """An account with the tables of production, as DynamoDB describes them, and nothing else."""

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    recovers: bool = True
    forgets: str = "ENABLED"
    buckets: tuple[str, ...] = ()
    bucket_code: str = "404"
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def describe_table(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        if TableName not in self.tables:
            raise refused("ResourceNotFoundException")
        return {"Table": self.tables[TableName]}

    def describe_continuous_backups(self, **_: str) -> dict[str, Any]:
        status = {"PointInTimeRecoveryStatus": "ENABLED" if self.recovers else "DISABLED"}
        return {"ContinuousBackupsDescription": {"PointInTimeRecoveryDescription": status}}

    def describe_time_to_live(self, **_: str) -> dict[str, Any]:
        return {"TimeToLiveDescription": {"TimeToLiveStatus": self.forgets}}

    def head_bucket(self, Bucket: str, ExpectedBucketOwner: str) -> None:  # noqa: N803
        assert ExpectedBucketOwner == "111122223333"
        if Bucket not in self.buckets:
            raise refused(self.bucket_code)

    def describe_secret(self, SecretId: str) -> dict[str, Any]:  # noqa: N803
        if SecretId not in self.secrets:
            raise refused("ResourceNotFoundException")
        return self.secrets[SecretId]

    def leftovers(self) -> dict[str, retained.Leftover]:
        found = retained.leftovers(
            TEMPLATE, "prod", lambda _: self, account="111122223333", region="eu-central-1"
        )
        return {each.logical_id: each for each in found}


def table(logical_id: str, **changed: Any) -> dict[str, Any]:
    """A table as DynamoDB describes it when the template has made it."""
    properties = TEMPLATE["Resources"][logical_id]["Properties"]
    return {
        "TableStatus": "ACTIVE",
        "KeySchema": properties["KeySchema"],
        "GlobalSecondaryIndexes": properties.get("GlobalSecondaryIndexes"),
        "StreamSpecification": properties.get("StreamSpecification"),
        "SSEDescription": {"Status": "ENABLED", "SSEType": "KMS"},
        "DeletionProtectionEnabled": True,
        "ItemCount": 1_234,
    } | changed


def ledger(**changed: Any) -> Aws:
    return Aws(tables={"credits-prod-ledger": table("LedgerTable", **changed)})


def test_an_account_without_anything_has_nothing_to_take_over() -> None:
    assert Aws().leftovers() == {}


def test_what_goes_with_its_stack_is_not_taken_over() -> None:
    assert Aws(secrets={"credits-prod-webhook": {"ARN": "arn"}}).leftovers() == {}


def test_everything_that_is_kept_is_looked_for() -> None:
    """A new resource that outlives its stack needs a way to be found again."""
    declared = {name for name, each in TEMPLATE["Resources"].items() if "DeletionPolicy" in each}
    arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:"
    aws = Aws(
        tables={f"credits-prod-{name}": table(logical_id) for name, logical_id in TABLES.items()},
        buckets=tuple(
            f"credits-prod-{name}-111122223333-eu-central-1" for name in ("reports", "anchors")
        ),
        secrets={f"credits-prod-{name}": {"ARN": arn + name} for name in SECRETS},
    )
    found = aws.leftovers()
    assert set(found) == declared == KEPT
    assert str(found["LedgerTable"]) == (
        "LedgerTable (AWS::DynamoDB::Table) credits-prod-ledger, about 1,234 items"
    )
    to_import = retained.resources_to_import([*found.values()])
    identifiers = {each["LogicalResourceId"]: each for each in to_import}
    for name, logical_id in SECRETS.items():
        assert identifiers[logical_id]["ResourceIdentifier"] == {"Id": arn + name}
    assert identifiers["MailsTable"] == {
        "ResourceType": "AWS::DynamoDB::Table",
        "LogicalResourceId": "MailsTable",
        "ResourceIdentifier": {"TableName": "credits-prod-mails"},
    }


def test_what_is_imported_can_be_read_and_is_named_by_its_primary_identifier() -> None:
    found = ledger()
    found.buckets = ("credits-prod-reports-111122223333-eu-central-1",)
    found.secrets = {LINKS: {"ARN": "arn"}}
    leftovers = found.leftovers().values()
    assert len({each.resource_type for each in leftovers}) == 3
    for each in leftovers:
        schema = published(each.resource_type)
        assert "read" in schema["handlers"]
        assert [f"/properties/{key}" for key in each.identifier] == schema["primaryIdentifier"]


def test_an_import_adds_nothing_but_what_is_imported_and_deletes_nothing_when_it_fails() -> None:
    template = retained.import_template([*ledger().leftovers().values()])
    assert set(template) == {"Parameters", "Resources"}
    assert template["Parameters"] == {"Stage": {"Type": "String"}}
    (resource,) = template["Resources"].values()
    assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"


def test_a_table_as_the_template_made_it_is_described_by_the_template() -> None:
    properties = ledger().leftovers()["LedgerTable"].properties
    on = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
    made = TEMPLATE["Resources"]["LedgerTable"]["Properties"]
    assert properties == made | on | {"DeletionProtectionEnabled": True}


def test_what_is_switched_off_in_a_table_is_not_said_to_be_on_or_it_would_stay_off() -> None:
    aws = ledger(
        DeletionProtectionEnabled=False,
        SSEDescription=None,
        StreamSpecification=None,
        GlobalSecondaryIndexes=None,
    )
    aws.recovers = False
    properties = aws.leftovers()["LedgerTable"].properties
    assert properties["DeletionProtectionEnabled"] is False
    assert properties["SSESpecification"] == {"SSEEnabled": False}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": False}
    assert properties["GlobalSecondaryIndexes"] == []
    assert "StreamSpecification" not in properties


def test_of_the_indexes_of_a_table_those_are_named_that_are_there() -> None:
    made = TEMPLATE["Resources"]["SubscriptionsTable"]["Properties"]["GlobalSecondaryIndexes"]
    there = table("SubscriptionsTable", GlobalSecondaryIndexes=made[1:2])
    there["SSEDescription"] = {"Status": "DISABLED"}
    del there["DeletionProtectionEnabled"]
    properties = (
        Aws(tables={"credits-prod-subscriptions": there})
        .leftovers()["SubscriptionsTable"]
        .properties
    )
    assert properties["GlobalSecondaryIndexes"] == made[1:2]
    assert properties["SSESpecification"] == {"SSEEnabled": False}
    assert properties["DeletionProtectionEnabled"] is False


def test_a_table_whose_backups_say_nothing_of_recovery_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing: dict[str, Any] = {"ContinuousBackupsDescription": {}}
    monkeypatch.setattr(Aws, "describe_continuous_backups", lambda *_, **__: nothing)
    properties = ledger().leftovers()["LedgerTable"].properties
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": False}


@pytest.mark.parametrize("forgets", ["ENABLED", "DISABLED", "DISABLING"])
def test_a_table_is_said_to_forget_only_when_it_does(forgets: str) -> None:
    aws = Aws(tables={"credits-prod-mails": table("MailsTable")}, forgets=forgets)
    properties = aws.leftovers()["MailsTable"].properties
    assert ("TimeToLiveSpecification" in properties) is (forgets == "ENABLED")


def test_a_bucket_is_said_to_be_nothing_so_that_the_update_sets_everything() -> None:
    name = "credits-prod-reports-111122223333-eu-central-1"
    bucket = Aws(buckets=(name,)).leftovers()["ReportsBucket"]
    assert bucket.name == name
    assert str(bucket) == f"ReportsBucket (AWS::S3::Bucket) {name}"
    assert set(bucket.properties) == {"BucketName"}


def test_a_bucket_that_locks_is_said_to_for_that_cannot_be_switched_off() -> None:
    bucket = Aws(buckets=("credits-prod-anchors-111122223333-eu-central-1",)).leftovers()[
        "AnchorsBucket"
    ]
    assert bucket.properties.keys() == {"BucketName", "ObjectLockEnabled"}
    assert bucket.properties["ObjectLockEnabled"] is True


@pytest.mark.parametrize(("name", "logical_id"), SECRETS.items())
def test_a_secret_is_said_to_be_generated_as_before_so_that_it_stays_what_it_is(
    name: str, logical_id: str
) -> None:
    secret = Aws(secrets={f"credits-prod-{name}": {"ARN": "arn"}}).leftovers()[logical_id]
    assert secret.properties == TEMPLATE["Resources"][logical_id]["Properties"]
    assert secret.properties["GenerateSecretString"]


def test_a_secret_that_is_to_be_deleted_is_named_with_both_ways_out() -> None:
    aws = Aws(secrets={LINKS: {"ARN": "arn", "DeletedDate": "2026-12-01"}})
    with pytest.raises(AwsError) as refused_:
        aws.leftovers()
    for words in ("restore-secret", "delete-secret --force-delete-without-recovery"):
        assert f"aws secretsmanager {words} --secret-id {LINKS}" in str(refused_.value)


def test_a_deployment_waits_for_a_table_that_is_being_deleted() -> None:
    with pytest.raises(AwsError, match="credits-prod-ledger is being deleted"):
        ledger(TableStatus="DELETING").leftovers()


def test_a_table_of_that_name_with_other_keys_is_not_taken_over() -> None:
    other = [{"AttributeName": "pk", "KeyType": "HASH"}]
    made = table("LedgerTable")["KeySchema"]
    swapped = [each | {"KeyType": kind} for each, kind in zip(made, ("RANGE", "HASH"), strict=True)]
    for keys in (other, made[:1], swapped):
        with pytest.raises(AwsError, match="a table credits-prod-ledger already, with other keys"):
            ledger(KeySchema=keys).leftovers()
    assert ledger(KeySchema=made[::-1]).leftovers(), "their order is no matter"


@pytest.mark.parametrize(
    ("code", "says"), [("403", "Ask for s3:ListBucket on it"), ("503", r"\(503\)")]
)
def test_a_bucket_that_is_not_ours_is_in_the_way(code: str, says: str) -> None:
    with pytest.raises((AwsError, ClientError), match=says):
        Aws(bucket_code=code).leftovers()


@pytest.mark.parametrize("call", ["describe_table", "describe_secret"])
def test_what_aws_refuses_to_tell_is_not_taken_for_absence(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def deny(_: Aws, **_named: str) -> None:
        raise refused("AccessDeniedException")

    monkeypatch.setattr(Aws, call, deny)
    with pytest.raises(ClientError, match="AccessDenied"):
        Aws().leftovers()


# --- Protection -----------------------------------------------------------------------------------


def protection(template: dict[str, Any]) -> dict[str, Any]:
    return {
        name: resource["Properties"]["DeletionProtectionEnabled"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::DynamoDB::Table"
    }


def test_new_tables_are_made_without_protection_and_those_there_are_keep_it() -> None:
    first, new = retained.unprotected(TEMPLATE, "prod", {"LedgerTable", "SweepsQueue"})
    as_it_will_be = protection(TEMPLATE)["LedgerTable"]
    assert new == ["SubscriptionsTable", "EditsTable", "MailsTable", "StripeTable"]
    assert protection(first) == {
        "LedgerTable": as_it_will_be,
        "SubscriptionsTable": False,
        "EditsTable": False,
        "MailsTable": False,
        "StripeTable": False,
    }
    assert set(map(str, protection(TEMPLATE).values())) == {str(as_it_will_be)}
    for name in new:
        first["Resources"][name]["Properties"]["DeletionProtectionEnabled"] = as_it_will_be
    assert first == TEMPLATE, "something else was changed"


def test_when_no_table_is_new_the_template_is_what_it_is() -> None:
    assert retained.unprotected(TEMPLATE, "prod", KEPT) == (TEMPLATE, [])


@pytest.mark.parametrize("stage", ["local", "dev"])
def test_a_stage_that_keeps_nothing_is_made_in_one_step(stage: str) -> None:
    assert retained.unprotected(TEMPLATE, stage, ()) == (TEMPLATE, [])


@pytest.mark.parametrize(
    "table",
    [
        {"DeletionPolicy": "Retain", "Properties": {}},
        {"Properties": {"DeletionProtectionEnabled": True}},
    ],
)
def test_a_table_that_is_not_protected_or_goes_with_its_stack_takes_no_second_step(
    table: dict[str, Any],
) -> None:
    template = {"Resources": {"It": {"Type": "AWS::DynamoDB::Table", **table}}}
    assert retained.unprotected(template, "prod", ()) == (template, [])
