"""The prices of the source tree decide whether Stripe's webhook has a route."""

from pathlib import Path
from typing import Any

import pytest

from infra.deployment import packaging, webhooks

PACK = '[[prices]]\nid = "price_1"\ncredits = 500\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with plans, and without prices."""
    (tmp_path / "chalicelib").mkdir()
    plans = (packaging.ROOT / packaging.PLANS).read_text("utf-8")
    (tmp_path / packaging.PLANS).write_text(plans, "utf-8")
    (tmp_path / packaging.PRICES).write_text("# [[prices]]\n")
    return tmp_path


def test_the_prices_are_those_of_the_file(tree: Path) -> None:
    assert packaging.price_list(tree).prices == {}
    (tree / packaging.PRICES).write_text(PACK)
    assert set(packaging.price_list(tree).prices) == {"price_1"}


def test_the_committed_file_has_no_mistake() -> None:
    assert packaging.price_list() is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[[prices]", r"^chalicelib/stripe.toml, line 1"),
        (PACK.replace("500", "-1").encode(), r"^chalicelib/stripe.toml, line 3: .*credits"),
        (PACK.replace("credits = 500", 'plan = "gone"').encode(), r"^chalicelib/stripe.toml, line"),
        (b"\xff", r"^chalicelib/stripe.toml cannot be read"),
        (None, r"^chalicelib/stripe.toml cannot be read"),
    ],
)
def test_with_a_mistake_in_the_prices_nothing_is_packaged(
    tree: Path, tmp_path: Path, text: bytes | None, said: str
) -> None:
    file = tree / packaging.PRICES
    file.unlink() if text is None else file.write_bytes(text)
    with pytest.raises(packaging.PackagingError, match=said):
        packaging.package("local", tmp_path / "output", region="eu-west-1", root=tree)
    assert not (tmp_path / "output").exists()


def test_the_route_passes_what_stripe_posts_to_its_function_as_it_came() -> None:
    paths: dict[str, Any] = {"/api/plans": {}}
    api = {"DefinitionBody": {"paths": paths}, "StageName": "v2"}
    template: dict[str, Any] = {"Resources": {"RestAPI": {"Properties": api}}}
    webhooks.complete(template)
    function = (
        "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/"
        "${StripeWebhook.Arn}/invocations"
    )
    assert paths == {
        "/api/plans": {},
        "/api/webhooks/stripe": {
            "post": {
                "produces": ["application/json"],
                "responses": {"200": {"description": "200 response"}},
                "x-amazon-apigateway-integration": {
                    "type": "aws_proxy",
                    "httpMethod": "POST",
                    "passthroughBehavior": "when_no_match",
                    "contentHandling": "CONVERT_TO_TEXT",
                    "uri": {"Fn::Sub": function},
                },
            }
        },
    }
    route = "${RestAPI}/v2/POST/api/webhooks/stripe"
    assert template["Resources"]["StripeWebhookInvokePermission"] == {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "FunctionName": {"Ref": "StripeWebhook"},
            "Action": "lambda:InvokeFunction",
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": {
                "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
                + route
            },
        },
    }
