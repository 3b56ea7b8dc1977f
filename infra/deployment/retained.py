"""Resources that outlive their stack, and how the next stack gets them back.

The tables, the buckets and the secrets have fixed names. CloudFormation creates nothing under a
name that is taken. So a new stack *imports* the resources that an earlier one left; the import does
not change them. An update then brings them to the template.

Not even the rollback of a failed creation can delete a protected table; its name would then be
taken for good. So tables are protected only after everything has been created.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.session import AwsError, Clients

Json = dict[str, Any]

_TABLE = "AWS::DynamoDB::Table"
_PROTECTED = "DeletionProtectionEnabled"


@dataclass(frozen=True)
class Leftover:
    """A resource that already exists and that the template would create.

    `identifier` names it to CloudFormation. `properties` are those of the template, without those
    that are not switched on in the existing resource.
    """

    logical_id: str
    resource_type: str
    name: str
    identifier: Mapping[str, str]
    properties: Json
    contents: str = ""

    def __str__(self) -> str:
        text = f"{self.logical_id} ({self.resource_type}) {self.name}"
        return f"{text}, {self.contents}" if self.contents else text


# --- Protection -----------------------------------------------------------------------------------


def unprotected(template: Json, stage: str, made: Collection[str]) -> tuple[Json, list[str]]:
    """The template that creates new tables, and their logical ids; those in `made` are not new.

    It is the given template without the protection of new tables. A stage that keeps nothing
    protects nothing, so its template is returned unchanged.
    """
    resources: Json = template["Resources"]
    new = [
        logical_id
        for logical_id, resource in resources.items()
        if resource["Type"] == _TABLE
        and logical_id not in made
        and _PROTECTED in resource["Properties"]
        and _of_stage(template, stage, resource.get("DeletionPolicy")) not in (None, "Delete")
    ]
    changed = {
        logical_id: resources[logical_id]
        | {"Properties": resources[logical_id]["Properties"] | {_PROTECTED: False}}
        for logical_id in new
    }
    return template | {"Resources": resources | changed}, new


def _of_stage(template: Json, stage: str, value: Any) -> Any:
    """A value of the template that may depend on the stage."""
    if isinstance(value, dict) and "Fn::FindInMap" in value:
        name, _, key = value["Fn::FindInMap"]
        return template["Mappings"][name][stage][key]
    return value


# --- Import ---------------------------------------------------------------------------------------


def leftovers(
    template: Json, stage: str, client: Clients, *, account: str, region: str
) -> list[Leftover]:
    """The resources of the template that outlive a stack and exist already.

    Raises `AwsError` for a resource that is in the way and cannot be imported.
    """
    variables = {"Stage": stage, "AWS::AccountId": account, "AWS::Region": region}
    return [*_leftovers(template, client, variables)]


def _leftovers(template: Json, client: Clients, variables: Mapping[str, str]) -> Iterator[Leftover]:
    for logical_id, resource in template["Resources"].items():
        look = _LOOK.get(resource["Type"])
        if "DeletionPolicy" not in resource or look is None:
            continue
        name_property, look_for = look
        properties = resource["Properties"]
        name = _named(properties[name_property], variables)
        if found := look_for(client, name, properties, variables["AWS::AccountId"]):
            yield Leftover(logical_id, resource["Type"], name, *found)


def import_template(found: Collection[Leftover]) -> Json:
    """The template of a stack of existing resources only; its one parameter is Stage.

    It has no outputs and the stack has no tags, because an import cannot add any. An import rolls
    back without deleting anything. The next update adds the policies of the template.
    """
    return {
        "Parameters": {"Stage": {"Type": "String"}},
        "Resources": {
            each.logical_id: {
                "Type": each.resource_type,
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": each.properties,
            }
            for each in found
        },
    }


def resources_to_import(found: Collection[Leftover]) -> list[Json]:
    """The same resources in the form of CreateChangeSet."""
    return [
        {
            "ResourceType": each.resource_type,
            "LogicalResourceId": each.logical_id,
            "ResourceIdentifier": dict(each.identifier),
        }
        for each in found
    ]


def _named(name: Any, variables: Mapping[str, str]) -> str:
    """A name with its variables replaced, as `Fn::Sub` does."""
    text: str = name["Fn::Sub"] if isinstance(name, dict) else name
    return re.sub(r"\$\{([\w:]+)\}", lambda found: variables[found[1]], text)


Found = tuple[Json, Json, str]
"""An identifier, the properties of the existing resource, and words about its content."""


def _table(client: Clients, name: str, properties: Json, _account: str) -> Found | None:
    """A table, and what is switched on in it.

    CloudFormation trusts the template of an import. If the template says that something is on,
    CloudFormation never switches it on.
    """
    dynamodb = client("dynamodb")
    try:
        table = dynamodb.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if _code(error) == "ResourceNotFoundException":
            return None
        raise
    if table["TableStatus"] == "DELETING":
        raise AwsError(f"Table {name} is being deleted. Wait a minute, then deploy again.")
    keys = [_plain(each) for each in (table["KeySchema"], properties["KeySchema"])]
    if keys[0] != keys[1]:
        raise AwsError(
            f"There is a table {name} already, with other keys than Credits gives it. Export what "
            "you need of it and delete it, then deploy again."
        )
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {})
    expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    indexes = {index["IndexName"] for index in table.get("GlobalSecondaryIndexes") or []}
    encryption = table.get("SSEDescription") or {}
    switched = {
        "SSESpecification": {"SSEEnabled": encryption.get("Status") == "ENABLED"},
        "PointInTimeRecoverySpecification": {
            "PointInTimeRecoveryEnabled": recovery.get("PointInTimeRecoveryStatus") == "ENABLED"
        },
        _PROTECTED: table.get(_PROTECTED, False),
    }
    missing = [
        *([] if table.get("StreamSpecification") else ["StreamSpecification"]),
        *([] if expiry["TimeToLiveStatus"] == "ENABLED" else ["TimeToLiveSpecification"]),
    ]
    as_it_is = {key: value for key, value in properties.items() if key not in missing} | switched
    if "GlobalSecondaryIndexes" in as_it_is:
        there = [i for i in as_it_is["GlobalSecondaryIndexes"] if i["IndexName"] in indexes]
        as_it_is["GlobalSecondaryIndexes"] = there
    # DynamoDB counts items every six hours.
    return {"TableName": name}, as_it_is, f"about {table['ItemCount']:,} items"


def _plain(keys: Collection[Mapping[str, str]]) -> set[tuple[str, str]]:
    return {(key["AttributeName"], key["KeyType"]) for key in keys}


def _bucket(client: Clients, name: str, properties: Json, account: str) -> Found | None:
    """A bucket. The update sets all properties of the template, also those that are set already.

    Object Lock cannot be switched off again, so a bucket that should have it still has it (Amazon
    S3 User Guide, "Object Lock considerations",
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html).
    """
    try:
        client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=account)
    except ClientError as error:
        if _code(error) == "404":
            return None
        if _code(error) == "403":
            raise AwsError(
                f"Bucket {name} belongs to another account, or you may not use it. "
                "Ask for s3:ListBucket on it."
            ) from error
        raise
    as_made = ("BucketName", "ObjectLockEnabled")
    return {"BucketName": name}, {key: properties[key] for key in as_made if key in properties}, ""


def _secret(client: Clients, name: str, properties: Json, _account: str) -> Found | None:
    """A secret, with the template's rule to generate it: without the rule, an update renews it."""
    try:
        secret = client("secretsmanager").describe_secret(SecretId=name)
    except ClientError as error:
        if _code(error) == "ResourceNotFoundException":
            return None
        raise
    if secret.get("DeletedDate"):
        raise AwsError(
            f"Secret {name} is scheduled for deletion, and its name is taken until then. Keep it: "
            f"aws secretsmanager restore-secret --secret-id {name}\n"
            "Or be rid of it, and of what it was for (such as the unsubscribe links in emails that "
            "were sent): "
            f"aws secretsmanager delete-secret --force-delete-without-recovery --secret-id {name}"
        )
    return {"Id": secret["ARN"]}, properties, ""


_LOOK: Mapping[str, tuple[str, Callable[[Clients, str, Json, str], Found | None]]] = {
    _TABLE: ("TableName", _table),
    "AWS::S3::Bucket": ("BucketName", _bucket),
    "AWS::SecretsManager::Secret": ("Name", _secret),
}
"""For each type: the property with its name, and the function that looks for it."""


def _code(error: ClientError) -> str:
    code: str = error.response["Error"]["Code"]
    return code
