"""The reports bucket: what is put there is listed whole and read as it was written."""

import pytest

from chalicelib.settings import Settings
from chalicelib.store.reports import s3_client
from tests.aws.world import World, client


def test_reports_are_listed_whole_however_many_pages_s3_makes_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = world.services.reports
    keys = [f"zones/{number}.json" for number in range(5)]
    for key in [*keys, "other/0.json"]:
        reports.put(key, key)
    s3 = client("s3", "services")
    listed = s3.list_objects_v2
    monkeypatch.setattr(s3, "list_objects_v2", lambda **it: listed(**(it | {"MaxKeys": 2})))
    assert reports.keys("zones/") == keys
    assert [reports.get(key) for key in keys] == keys


@pytest.mark.parametrize(("stage", "style"), [("prod", "virtual"), ("local", "path")])
def test_buckets_are_addressed_by_their_own_host_and_on_the_emulator_by_a_path(
    stage: str, style: str
) -> None:
    found = s3_client(Settings.read({"STAGE": stage, "AWS_REGION": "eu-central-1"}))
    assert found.meta.config.s3["addressing_style"] == style
    assert (found.meta.region_name, found.meta.config.read_timeout) == ("eu-central-1", 10)


def test_a_report_says_what_it_is_of_and_arrives_with_every_character(world: World) -> None:
    reports = world.services.reports
    reports.put("one.json", '{"name":"é"}')
    reports.put("two.txt", "祝 🎁\n", "text/plain; charset=utf-8")
    kinds = {
        key: client("s3").head_object(Bucket=reports.bucket, Key=key)["ContentType"]
        for key in reports.keys("")
    }
    assert kinds == {"one.json": "application/json", "two.txt": "text/plain; charset=utf-8"}
    assert [reports.get(key) for key in kinds] == ['{"name":"é"}', "祝 🎁\n"]
