"""Makes the emulator as strict with deployments as AWS.

Each function adds one fact about AWS, with its source. infra/local/emulator.py calls `make_strict`
in the emulator's own process, before it starts.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def make_strict() -> None:
    """Changes ministack, which must not have started yet."""
    _ask_for_a_certificate_of_the_region()
    _keep_protected_tables()
    _lock_what_a_bucket_is_to_lock()
    _refuse_taken_names()
    _rest_names_of_queues()
    _keep_what_a_rollback_cannot_delete()
    _import_secrets()


def _ask_for_a_certificate_of_the_region() -> None:
    """Refuses a domain name of an API if ACM lacks its certificate in the API's region.

    API Gateway Developer Guide, "Set up a Regional custom domain name in API Gateway":
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    apigateway-regional-api-custom-domain-create.html. ministack takes any text for a certificate.
    """
    from ministack.services import acm
    from ministack.services import apigateway_v1 as api_gateway

    create = api_gateway._create_domain_name  # noqa: SLF001 - it has no other door

    def created(data: Json) -> tuple[int, Json, bytes]:
        arn = data.get("regionalCertificateArn", "")
        if arn not in acm._certificates:  # noqa: SLF001 - those of the request's account and region
            message = f"there is no certificate {arn} in this region"
            body = {"message": message, "__type": "BadRequestException"}
            return 400, {"Content-Type": "application/json"}, json.dumps(body).encode()
        made: tuple[int, Json, bytes] = create(data)
        return made

    api_gateway._create_domain_name = created  # noqa: SLF001


def _keep_protected_tables() -> None:
    """Makes CloudFormation fail to delete a protected table, as in AWS.

    DynamoDB Developer Guide, "Using deletion protection":
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/WorkingWithTables.Basics.html
    ministack's DeleteTable refuses, but its CloudFormation bypasses DeleteTable.
    """
    from ministack.services import dynamodb
    from ministack.services.cloudformation import provisioners

    table_type = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]  # noqa: SLF001
    known = table_type["delete"]

    def delete(name: str, properties: dict[str, Any]) -> None:
        if dynamodb._tables.get(name, {}).get("DeletionProtectionEnabled"):  # noqa: SLF001
            raise ValueError(
                "Resource cannot be deleted as it is currently protected against deletion. "
                "Disable deletion protection first."
            )
        known(name, properties)

    table_type["delete"] = delete


def _lock_what_a_bucket_is_to_lock() -> None:
    """Makes CloudFormation set a bucket's Object Lock and default retention, by its template.

    CloudFormation Template Reference, AWS::S3::Bucket ObjectLockConfiguration:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-objectlockconfiguration.html
    ministack locks objects itself, but its CloudFormation does not tell it to.
    """
    from ministack.services import s3
    from ministack.services.cloudformation import provisioners

    bucket_type = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]  # noqa: SLF001
    create, update = bucket_type["create"], bucket_type["update"]

    def locked(made: Any, properties: Json) -> Any:
        if properties.get("ObjectLockEnabled"):
            rule = properties.get("ObjectLockConfiguration", {}).get("Rule", {})
            retention = rule.get("DefaultRetention", {})
            if "Days" in retention:
                retention = {**retention, "Days": int(retention["Days"])}
            lock = {"enabled": True, "default_retention": retention or None}
            s3._bucket_object_lock[made[0]] = lock  # noqa: SLF001
        return made

    bucket_type["create"] = lambda logical_id, properties, stack: locked(
        create(logical_id, properties, stack), properties
    )
    bucket_type["update"] = lambda name, before, after, stack: locked(
        update(name, before, after, stack), after
    )


def _refuse_taken_names() -> None:
    """Makes CloudFormation refuse to create anything under a taken name, as AWS does.

    Names are unique among all stacks, and in the account: CloudFormation Template Reference,
    "Resource custom naming":
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html
    ministack refuses only buckets. Anything else that it creates replaces the old one, even
    tables with all their items.
    """
    from ministack.services import (
        cloudwatch,
        cloudwatch_logs,
        dynamodb,
        eventbridge,
        iam,
        lambda_svc,
        secretsmanager,
        ses_v2,
        sns,
        sqs,
    )
    from ministack.services.cloudformation import stacks

    known = stacks._provision_resource  # noqa: SLF001
    # By type: the property that is its name, and the names that are taken.
    names: dict[str, tuple[str, Callable[[], Iterable[str]]]] = {
        "AWS::CloudWatch::Alarm": ("AlarmName", lambda: cloudwatch._alarms),  # noqa: SLF001
        "AWS::CloudWatch::Dashboard": ("DashboardName", lambda: cloudwatch._dashboards),  # noqa: SLF001
        "AWS::DynamoDB::Table": ("TableName", lambda: dynamodb._tables),  # noqa: SLF001
        "AWS::Events::EventBus": ("Name", lambda: eventbridge._event_buses),  # noqa: SLF001
        "AWS::Events::Rule": (
            "Name",
            lambda: (rule["Name"] for rule in eventbridge._rules.values()),  # noqa: SLF001
        ),
        "AWS::IAM::Role": ("RoleName", lambda: iam._roles),  # noqa: SLF001
        "AWS::Lambda::Function": ("FunctionName", lambda: lambda_svc._functions),  # noqa: SLF001
        "AWS::Logs::LogGroup": ("LogGroupName", lambda: cloudwatch_logs._log_groups),  # noqa: SLF001
        "AWS::SES::ConfigurationSet": ("Name", lambda: ses_v2._config_sets),  # noqa: SLF001
        "AWS::SES::EmailIdentity": ("EmailIdentity", lambda: ses_v2._identities),  # noqa: SLF001
        "AWS::SecretsManager::Secret": ("Name", lambda: secretsmanager._secrets),  # noqa: SLF001
        "AWS::SNS::Topic": (
            "TopicName",
            lambda: (arn.rpartition(":")[2] for arn in sns._topics),  # noqa: SLF001
        ),
        "AWS::SQS::Queue": ("QueueName", lambda: sqs._queue_name_to_url),  # noqa: SLF001
    }

    def provision(
        resource_type: str, logical_id: str, properties: dict[str, Any], stack_name: str
    ) -> Any:
        name_property, taken = names.get(resource_type, ("", list))
        name = properties.get(name_property, "")
        if name in taken():
            raise ValueError(
                f"Resource of type '{resource_type}' with identifier '{name}' already exists."
            )
        return known(resource_type, logical_id, properties, stack_name)

    stacks._provision_resource = provision  # noqa: SLF001


def _rest_names_of_queues() -> None:
    """Makes a stack's new queue fail within a minute of the deletion of a queue of the same name.

    CloudFormation Template Reference, AWS::SQS::Queue:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-sqs-queue.html
    The minute is measured by the clock of the local stack, which can be moved.
    """
    from ministack.services.cloudformation import provisioners

    queue_type = provisioners._RESOURCE_HANDLERS["AWS::SQS::Queue"]  # noqa: SLF001
    known_create, known_delete = queue_type["create"], queue_type["delete"]
    deleted_at: dict[str, float] = {}

    def now() -> float:
        return time.time() + float(Path(os.environ["CLOCK_FILE"]).read_text() or 0)

    def create(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        if now() - deleted_at.get(properties.get("QueueName", ""), -math.inf) < 60:
            raise ValueError(
                "You must wait 60 seconds after deleting a queue before you can create another "
                "with the same name."
            )
        return known_create(logical_id, properties, stack_name)

    def delete(url: str, properties: dict[str, Any]) -> None:
        known_delete(url, properties)
        if "QueueName" in properties:
            deleted_at[properties["QueueName"]] = now()

    queue_type |= {"create": create, "delete": delete}


def _keep_what_a_rollback_cannot_delete() -> None:
    """Makes a stack in ROLLBACK_FAILED keep the resources that could not be deleted, as in AWS.

    CloudFormation User Guide, "Stack status codes": some resources still exist, and the stack must
    be deleted: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
    The deletion heeds the template's DeletionPolicy again: RetainExceptOnCreate then retains.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html
    ministack forgets the resource and the template.
    """
    from ministack.services.cloudformation import engine, stacks

    known = stacks._roll_back_operation  # noqa: SLF001

    async def roll_back(
        name: str, stack_id: str, stack: dict[str, Any], operation: dict[str, Any], *rest: Any
    ) -> None:
        made = dict(stack["_resources"])
        await known(name, stack_id, stack, operation, *rest)
        if stack["StackStatus"] != "ROLLBACK_FAILED":
            return
        template, parameters = operation["template"], operation["param_values"]
        stack["_template"] = template
        stack["_resolved_params"] = parameters
        stack["_conditions"] = engine._evaluate_conditions(template, parameters)  # noqa: SLF001
        for logical_id in stack["_rollback_failed"]:
            stack["_resources"][logical_id] = made[logical_id] | {"ResourceStatus": "DELETE_FAILED"}

    stacks._roll_back_operation = roll_back  # noqa: SLF001


def _import_secrets() -> None:
    """Makes stacks import existing secrets by their ARN, as AWS does.

    An import names a resource by the primary identifier of its type. For a secret that is Id, its
    ARN: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ResourceToImport.html
    Nobody has tried this on AWS with a secret yet; the type's schema has the handler that it needs.
    ministack imports tables and buckets. It takes a secret's name for its id, not the ARN.
    """
    from ministack.services import secretsmanager
    from ministack.services.cloudformation import changesets, provisioners

    def name_of(arn: str) -> str | None:
        secrets = secretsmanager._secrets.items()  # noqa: SLF001
        return next((name for name, secret in secrets if secret["ARN"] == arn), None)

    def adopt(identifier: dict[str, str]) -> tuple[str | None, dict[str, str]]:
        arn = identifier["Id"]
        return name_of(arn), {"Id": arn, "Arn": arn}

    def problem(arn: str) -> str | None:
        return None if name_of(arn) else f"{arn} was not found."

    secret_type = "AWS::SecretsManager::Secret"  # noqa: S105 - the name of a type
    provisioners._RESOURCE_HANDLERS[secret_type]["import"] = adopt  # noqa: SLF001
    changesets._IMPORT_LOOKUPS[secret_type] = (("Id",), problem)  # noqa: SLF001
