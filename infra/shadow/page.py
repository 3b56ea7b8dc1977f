"""Writes the result of a comparison as one page for the team; light or dark, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from html import escape

from chalicelib.domain.instants import format_instant
from infra.doctor.finding import plural
from infra.whatif.drawing import (
    LEFT,
    WIDTH,
    column,
    document,
    row,
    rule,
    section,
    svg,
    text,
)
from infra.whatif.page import bars

from .nights import NIGHTS_BEFORE_THE_SWITCH, Night, clean_nights
from .tally import Line, Tally

HEIGHT = 220
_TOP, _BOTTOM, _RIGHT = 14, 26, 12

MOST_NIGHTS = 45

_SEEN = 3.0
"""One unexplained user in a million must be visible: the least height in pixels."""

_STYLE = """<style>
.figure { font-size: 6rem; line-height: 1.1; font-weight: 700; margin: .5rem 0 0; }
.figure + p { margin-top: 0; font-size: 1.15rem; }
td { vertical-align: top; } td:first-child { white-space: normal; min-width: 7rem; }
td.words, th.words { white-space: normal; text-align: left; min-width: 11rem; }
.bad { color: var(--lost); }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em; }
.key.was { background: var(--was); } .key.would { background: var(--would); }
.key.lost { background: var(--lost); }
</style>"""

_KEY = (
    '<p><span class="key lost" style="margin-left:0"></span>unexplained'
    '<span class="key would"></span>explained<span class="key was"></span>same</p>'
)


def page(found: Tally, nights: Sequence[Night], stage: str) -> str:
    """The page of a comparison, and of all nights including this one."""
    title = f"Shadow of {stage}, {found.until:%Y-%m-%d}"
    bad = " bad" if found.unexplained else ""
    return document(
        title,
        [
            _STYLE,
            f"<h1>{escape(title)}</h1>",
            f'<p class="figure{bad}">{found.unexplained:,}</p>',
            f"<p>{_figure(found, nights)}</p>",
            f"<p>{_summary(found)}</p>",
            section("Night by night", f"{_KEY}\n{columns(nights)}"),
            section("By finding", _table(found.lines)),
            section("Who would have less on switching", bars(found.less)),
            section("Who would have more on switching", bars(found.more)),
        ],
    )


def _figure(found: Tally, nights: Sequence[Night]) -> str:
    users = "user has" if found.unexplained == 1 else "users have"
    figure = f"{users} a difference that is not explained."
    wanted = f"Before the switch it must be 0 for {NIGHTS_BEFORE_THE_SWITCH} nights in a row"
    if found.unexplained:
        return f"{figure} {wanted}."
    so_far = plural(clean_nights(nights, found.until.date()), "night")
    return f"{figure} {wanted}; it has been for {so_far}."


def _summary(found: Tally) -> str:
    differing = found.users - found.same
    than_here = "more" if found.credits >= 0 else "less"
    return (
        f"{plural(found.users, 'user')} compared until {format_instant(found.until)}: "
        f"{found.same:,} {'is' if found.same == 1 else 'are'} the same, "
        f"{differing:,} {'differs' if differing == 1 else 'differ'}. The old system has "
        f"{plural(abs(found.credits), 'credit')} {than_here} in all. "
        "Faults of the old system that are explained to the credit do not count: they end with it."
    )


def columns(nights: Sequence[Night]) -> str:
    """A stacked column for each of the latest days: unexplained, explained, and equal users."""
    if not nights:
        return "<p>None.</p>"
    by_day = {night.day.toordinal(): night for night in nights}
    days = range(min(by_day), max(by_day) + 1)[-MOST_NIGHTS:]
    highest = max(1, *(by_day[day].users for day in days if day in by_day))
    scale = (HEIGHT - _TOP - _BOTTOM) / highest
    foot = float(HEIGHT - _BOTTOM)
    each = (WIDTH - LEFT - _RIGHT) / max(14, len(days))
    parts = [rule(foot - value * scale, value) for value in sorted({0, highest // 2, highest})]
    every = -(-len(days) // 14)
    for place, day in enumerate(days):
        x = LEFT + place * each
        if night := by_day.get(day):
            parts += _stack(night, x + each * 0.15, each * 0.7, foot, scale)
        if place % every == 0:
            parts.append(text(x + each / 2, HEIGHT - 6, f"{date.fromordinal(day):%m-%d}", "middle"))
    return svg(HEIGHT, "users by night: unexplained, explained, same", parts)


def _stack(night: Night, x: float, wide: float, foot: float, scale: float) -> list[str]:
    parts = []
    for users, kind in (
        (night.unexplained, "lost"),
        (night.explained, "would"),
        (night.same, "was"),
    ):
        tall = max(_SEEN, users * scale) if users else 0.0
        if tall:
            parts.append(column(x, wide, foot, tall, kind))
            foot -= tall
    return parts


def _table(lines: Sequence[Line]) -> str:
    if not lines:
        return "<p>No differences.</p>"
    heads = "".join(f"<th>{name}</th>" for name in ("users", "times", "credits more there"))
    return (
        f'<div class="wide"><table>\n<tr><th>finding</th>{heads}<th class="words">for example</th>'
        "</tr>\n" + "\n".join(map(_row, lines)) + "\n</table></div>"
    )


def _row(line: Line) -> str:
    numbers = row(line.code.heading, f"{line.users:,}", f"{line.times:,}", f"{line.credits:+,}")
    said = "<br>".join(
        escape(f"{user_id}: {finding.brief}") for user_id, finding in line.examples[:2]
    )
    whole = numbers.replace("</tr>", f'<td class="words">{said}</td></tr>')
    return whole if line.code.is_explained else whole.replace("<td>", '<td class="bad">', 1)
