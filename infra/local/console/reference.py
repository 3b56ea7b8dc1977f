"""The reference of the API as a page: docs/api-reference.md, with an index; it loads nothing."""

from __future__ import annotations

import html
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

PAGE = Path(__file__).parents[3] / "docs" / "api-reference.md"

_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Credits: the API</title>
<link rel="icon" href="/console/icon.svg">
<link rel="stylesheet" href="/console/colours.css">
<link rel="stylesheet" href="/console/reference.css">
</head>
<body>
<nav aria-label="Contents">
{index}
</nav>
<main>
{text}
</main>
</body>
</html>
"""


@cache
def page() -> bytes:
    """The page in HTML. Links to other pages of the repository become plain text."""
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(PAGE.read_text(encoding="utf-8"))
    index = []
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            anchor = anchor_of(content.content)
            opening.attrSet("id", anchor)
            if opening.tag == "h2":
                index.append(f'<a href="#{anchor}">{html.escape(content.content)}</a>')
        if content.children:
            content.children = [*_within_the_page(content.children)]
    text = markdown.renderer.render(tokens, markdown.options, {})
    # The keyboard can reach whatever may have to be scrolled.
    text = re.sub("<(pre|table)>", r'<\1 tabindex="0">', text)
    return _DOCUMENT.format(index="\n".join(index), text=text).encode()


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading, so that the page's own links lead to it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _within_the_page(inline: list[Token]) -> list[Token]:
    kept = []
    leads_out = False
    for token in inline:
        if token.type == "link_open":
            leads_out = not str(token.attrGet("href")).startswith("#")
        if not (leads_out and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept
