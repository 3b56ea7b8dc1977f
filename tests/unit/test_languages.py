"""Which language a tag means."""

import pytest

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.languages import Language, closest, parse_language, preferred


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en", Language.ENGLISH),
        ("en-GB", Language.ENGLISH),
        ("de", Language.GERMAN),
        ("DE", Language.GERMAN),
        ("de-AT", Language.GERMAN),
        ("de_CH", Language.GERMAN),
        ("de-Latn-DE-1996", Language.GERMAN),
    ],
)
def test_a_tag_means_the_language_of_its_beginning(tag: str, language: Language) -> None:
    assert closest(tag) is language
    assert parse_language("language", tag) is language


@pytest.mark.parametrize(
    "value",
    [
        "",
        "fr",
        "fr-DE",
        "d",
        "den",
        "german",
        "de-",
        "-de",
        "de--AT",
        "de AT",
        "de\n",
        "*",
        7,
        ["de"],
        True,
    ],
)
def test_any_other_is_refused_with_those_there_are(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"language: must be the tag .*: en, de, or one of its"):
        parse_language("language", value)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", Language.GERMAN),
        ("fr-FR, fr;q=0.9, de;q=0.5", Language.GERMAN),
        ("en-US", Language.ENGLISH),
        ("fr", None),
        ("*", None),
        ("", None),
        (",;q=1,,", None),
        ("fr," * 10_000 + "de", None),
    ],
)
def test_the_first_shipped_language_of_a_browser_counts(
    header: str, language: Language | None
) -> None:
    assert preferred(header) is language
