"""When the webhook of Stripe has a route."""

from pathlib import Path

import pytest

from infra.deployment import packaging, webhooks

PRICE = '[[prices]]\nid = "price_1"\n'


@pytest.mark.parametrize(
    ("text", "sells"),
    [
        ("", False),
        ("# [[prices]]", False),
        ("prices = []", False),
        ("[shop]", False),
        (PRICE, True),
        (PRICE * 2, True),
    ],
)
def test_a_stage_sells_if_it_names_a_price(text: str, sells: bool, tmp_path: Path) -> None:  # noqa: FBT001
    (tmp_path / "chalicelib").mkdir()
    (tmp_path / packaging.STRIPE).write_text(text)
    assert webhooks.sells(text) is packaging.sells(tmp_path) is sells


def test_a_tree_without_the_file_sells_nothing(tmp_path: Path) -> None:
    assert packaging.sells(tmp_path) is False


def test_prices_that_cannot_be_read_are_told_and_nothing_is_packaged(tmp_path: Path) -> None:
    (tmp_path / "chalicelib").mkdir()
    plans = (packaging.ROOT / packaging.PLANS).read_text("utf-8")
    (tmp_path / packaging.PLANS).write_text(plans, "utf-8")
    file = tmp_path / packaging.STRIPE
    for text, said in (
        (b"[[prices]", r"^chalicelib/stripe.toml is not TOML: .* line 1"),
        (b"\xff", r"^chalicelib/stripe.toml cannot be read"),
    ):
        file.write_bytes(text)
        with pytest.raises(packaging.PackagingError, match=said):
            packaging.package("local", tmp_path / "output", region="eu-west-1", root=tmp_path)
