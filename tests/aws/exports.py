"""Full exports of a table to S3, as DynamoDB documents them: the manifests and the data files."""

import base64
import gzip
import hashlib
import json
import random
from pathlib import Path
from typing import Any

from chalicelib.store.database import Item
from tests.aws.world import REGION, client

BUCKET = "exports"
ID = "01764460800000-0a1b2c3d"
PREFIX = f"of/credits/AWSDynamoDB/{ID}"
ACCOUNT = "123456789012"

NAMES = ("4gzrqxmkey7lxhrfdkm2uzyv4u", "jb3dq5hzpu6kxoaxf3sclwmdtm", "zzk5nrfnw45jvgpqd3ymmbo3ei")

Files = dict[str, bytes]
"""The files of an export, by their names in it."""


def items_of(table: str) -> list[Item]:
    """All items of a table of the stage dev."""
    found: list[Item] = client("dynamodb").scan(TableName=f"credits-dev-{table}")["Items"]
    return found


def export_of(table: str, at: str, items: list[Item] | None = None, **changes: Any) -> Files:
    """An export of a table, in three files, one of them empty; ``changes`` to its summary.

    The items are in no order.
    """
    stored = items_of(table) if items is None else items
    shuffled = random.Random(len(stored)).sample(stored, len(stored))
    half = len(shuffled) // 2
    files: Files = {}
    listed = []
    for name, part in zip(NAMES, (shuffled[:half], [], shuffled[half:]), strict=True):
        lines = "".join(json.dumps({"Item": item}) + "\n" for item in part)
        file = f"data/{name}.json.gz"
        files[file] = gzip.compress(lines.encode())
        listed.append(line_of(file, files[file], len(part)))
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/credits-dev-{table}"
    summary = {
        "version": "2020-06-30",
        "exportArn": f"{arn}/export/{ID}",
        "startTime": at,
        "endTime": at,
        "tableArn": arn,
        "tableId": "8f1d9a5e-0c0e-4c53-9a0e-6d6f3f0e7a11",
        "exportTime": at,
        "s3Bucket": BUCKET,
        "s3Prefix": "of/credits",
        "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": None,
        "manifestFilesS3Key": f"{PREFIX}/manifest-files.json",
        "billedSizeBytes": 0,
        "itemCount": len(stored),
        "outputFormat": "DYNAMODB_JSON",
        "exportType": "FULL_EXPORT",
        **changes,
    }
    files["manifest-files.json"] = "".join(listed).encode()
    files["manifest-summary.json"] = json.dumps(summary).encode()
    return files


def line_of(name: str, content: bytes, items: int, **changes: Any) -> str:
    """What the list of files has of one."""
    digest = hashlib.md5(content, usedforsecurity=False)
    values = {
        "itemCount": items,
        "md5Checksum": base64.b64encode(digest.digest()).decode(),
        "etag": f"{digest.hexdigest()}-1",
        "dataFileS3Key": f"{PREFIX}/{name}",
        **changes,
    }
    return json.dumps(values) + "\n"


def upload(files: Files, prefix: str = PREFIX) -> str:
    """Puts an export into a bucket; answers where it is."""
    where = {"LocationConstraint": REGION}
    if BUCKET not in [each["Name"] for each in client("s3").list_buckets()["Buckets"]]:
        client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
    for name, content in files.items():
        client("s3").put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=content)
    return f"s3://{BUCKET}/{prefix}"


def write(files: Files, folder: Path) -> str:
    """Writes an export into a new folder; answers where it is."""
    (folder / "data").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)
