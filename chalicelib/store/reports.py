"""The reports bucket: results of counts and audits, stored as objects."""

from typing import Any

from chalicelib import aws
from chalicelib.settings import Settings


def s3_client(settings: Settings) -> Any:
    """A client of S3."""
    return aws.client(
        "s3",
        settings.region,
        read_timeout=10,
        s3={"addressing_style": "path" if settings.is_local else "virtual"},
    )


class Reports:
    """Reports by key."""

    def __init__(self, settings: Settings, client: Any = None) -> None:
        self.bucket = settings.reports_bucket
        self._client: Any = client or s3_client(settings)

    def put(self, key: str, text: str, content_type: str = "application/json") -> None:
        """Writes a report, or overwrites it."""
        self._client.put_object(
            Bucket=self.bucket, Key=key, Body=text.encode(), ContentType=content_type
        )

    def get(self, key: str) -> str:
        """An existing report."""
        body: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body.decode()

    def find(self, key: str) -> str | None:
        """A report that may not exist."""
        return self.get(key) if key in self.keys(key) else None

    def keys(self, prefix: str) -> list[str]:
        """The keys with this prefix, including all reports put before."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return [found["Key"] for page in pages for found in page.get("Contents", ())]
