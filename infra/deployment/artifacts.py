"""The bucket that holds the archives and templates of all stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.deployment import packaging
from infra.deployment.errors import DeployError
from infra.deployment.stack_facts import APP_NAME, Json


@dataclass(frozen=True)
class Artifacts:
    """The bucket of archives and templates. Its objects are named after their content."""

    s3: Any
    bucket: str

    def upload_archive(self, package: packaging.Package) -> str:
        """Upload the archive, unless it is there already; return its `s3://` address."""
        key = f"{package.digest}.zip"
        if not _object_exists(self.s3, self.bucket, key):
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=package.archive.read_bytes())
        return f"s3://{self.bucket}/{key}"

    def upload_template(self, template: Json) -> str:
        """Upload a template; return its address."""
        key = f"{packaging.digest_of(template)}.json"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=json.dumps(template).encode())
        return f"{self.s3.meta.endpoint_url}/{self.bucket}/{key}"


def artifacts_of(s3: Any, *, account: str, region: str) -> Artifacts:
    """The bucket of an account and region; created if it does not exist."""
    bucket = artifacts_bucket(account, region)
    _ensure_bucket(s3, bucket, account=account, region=region)
    return Artifacts(s3, bucket)


def artifacts_bucket(account: str, region: str) -> str:
    """The name of the bucket with the archives and templates of all stages."""
    return f"{APP_NAME}-artifacts-{account}-{region}"


def _ensure_bucket(s3: Any, bucket: str, *, account: str, region: str) -> None:
    if _bucket_exists(s3, bucket, account=account):
        return
    # us-east-1 is the only region that must not be named here.
    location = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else location))
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )


def _bucket_exists(s3: Any, bucket: str, *, account: str) -> bool:
    """Whether the bucket exists and is ours: bucket names are shared by all of AWS."""
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    except ClientError as error:
        if _status(error) == 404:
            return False
        if _status(error) == 403:
            raise DeployError(
                f"Bucket {bucket} belongs to another account, or you may not use it. "
                "Ask for s3:ListBucket, s3:GetObject and s3:PutObject on it."
            ) from error
        raise
    return True


def _object_exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if _status(error) in (403, 404):
            return False
        raise
    return True


def _status(error: ClientError) -> int:
    status: int = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status
