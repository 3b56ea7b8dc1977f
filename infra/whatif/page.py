"""Writes the answer as one page of HTML, with pictures; light or dark, without a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .drawing import LEFT, WIDTH, column, document, row, rule, section, svg, text
from .flows import Flows
from .tally import Difference, Line, Question, Tally, by_month, by_plan, doubts, in_all

HEIGHT = 240
_TOP, _BOTTOM = 14, 26


_NAMES = {
    "granted": "granted by the plans",
    "other": "bought or by hand",
    "spent": "spent",
    "expired": "expired",
    "refused": "refused",
    "left": "left at the end",
}

_LEGEND = (
    "Grey is what was, blue what would have been under the other plans, orange what they would "
    "have refused. Who asked for credits and did not get them is in no ledger: what more credits "
    "would have been spent on, nobody knows."
)


def page(found: Tally, question: Question) -> str:
    """The page of an answer."""
    months, everything = by_month(found), in_all(found)
    title = f"What if? {question.first} to {question.last}"
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{_summary(everything)}</p>",
        *(f"<p>{escape(sentence)}</p>" for sentence in doubts(found)),
        f"<p>{_LEGEND}</p>",
        *(
            section(f"{_NAMES[name].capitalize()}, by month", columns(months, name))
            for name in ("granted", "spent", "expired", "left")
        ),
        section("By plan", _table("plan", [*by_plan(found), everything])),
        section("By month", _table("month", months)),
        section("Who would have more", bars(found.gain)),
        section("Who would have less", bars(found.lose)),
    ]
    return document(title, parts)


def _summary(everything: Line) -> str:
    was, would = everything.was, everything.would
    return (
        f"{would.granted:,} credits would have been granted by the plans and not {was.granted:,}, "
        f"{would.spent:,} spent and not {was.spent:,}, {would.expired:,} expired and not "
        f"{was.expired:,}; {would.refused:,} that were spent would have been refused."
    )


def columns(lines: Sequence[Line], name: str) -> str:
    """Two columns for each month, side by side; refused credits are stacked on spent ones."""

    def of(its: Flows) -> int:
        value: int = getattr(its, name)
        return value

    def stacked(its: Flows) -> int:
        return its.refused if name == "spent" else 0

    sums = [of(its) + stacked(its) for line in lines for its in (line.was, line.would)]
    highest, lowest = max([1, *sums]), min([0, *sums])
    scale = (HEIGHT - _TOP - _BOTTOM) / (highest - lowest)
    zero = _TOP + highest * scale
    each = (WIDTH - LEFT) / max(1, len(lines))
    parts = [rule(zero - value * scale, value) for value in (0, highest // 2, highest)]
    every = -(-len(lines) // 14)
    for place, line in enumerate(lines):
        x, wide = LEFT + place * each, max(1.0, each * 0.36)
        parts.append(column(x + each * 0.1, wide, zero, of(line.was) * scale, "was"))
        parts.append(column(x + each * 0.5, wide, zero, of(line.would) * scale, "would"))
        if more := stacked(line.would):
            foot = zero - max(0, of(line.would)) * scale
            parts.append(column(x + each * 0.5, wide, foot, more * scale, "lost"))
        if place % every == 0:
            parts.append(text(x + each / 2, HEIGHT - 6, line.name, "middle"))
    return svg(HEIGHT, f"{_NAMES[name]}, by month", parts)


def bars(users: Sequence[Difference]) -> str:
    """A bar for each user, as long as the credits they would gain or lose."""
    if not users:
        return "<p>Nobody.</p>"
    most = max(abs(each.credits) for each in users)
    parts = []
    for place, each in enumerate(users):
        y, long = 8 + place * 26, abs(each.credits) / most * (WIDTH - 480)
        kind = "would" if each.credits > 0 else "lost"
        parts += [
            text(240, y + 14, f"{_short(each.user_id)} ({each.plan})", "end"),
            f'<rect class="{kind}" x="250" y="{y}" width="{max(1, long):.1f}" height="19" rx="2"/>',
            text(
                256 + long,
                y + 14,
                f"{each.credits:+,}: {each.would_have:,} and not {each.had:,}",
                "start",
            ),
        ]
    return svg(16 + 26 * len(users), "the users with the greatest difference", parts)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _table(what: str, lines: Iterable[Line]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("", *_NAMES.values()))
    rows = [
        row(name, side, *(f"{getattr(its, key):,}" for key in _NAMES))
        for line in lines
        for name, side, its in ((line.name, "was", line.was), ("", "would be", line.would))
    ]
    return (
        f'<div class="wide"><table>\n<tr><th>{what}</th>{heads}</tr>\n'
        + "\n".join(rows)
        + "\n</table></div>"
    )
