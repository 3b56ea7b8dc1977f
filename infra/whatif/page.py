"""Writes the answer as one page of HTML, with pictures; light or dark, and without a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .flows import Flows
from .tally import Difference, Line, Question, Tally, by_month, by_plan, doubts, in_all

WIDTH, HEIGHT = 740, 240
_LEFT, _TOP, _BOTTOM = 84, 14, 26

_STYLE = """
:root { color-scheme: light dark; --ink: #1e293b; --faint: #64748b; --rule: #cbd5e1;
  --paper: #ffffff; --was: #64748b; --would: #2563eb; --lost: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --faint: #94a3b8; --rule: #334155;
  --paper: #0f172a; --was: #94a3b8; --would: #60a5fa; --lost: #fb923c; } }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h2 { margin-top: 2.5rem; } svg { width: 100%; height: auto; } .wide { overflow-x: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
svg line { stroke: var(--rule); } .was { fill: var(--was); } .would { fill: var(--would); }
.lost { fill: var(--lost); } table { border-collapse: collapse; width: 100%; }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--rule);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
td:first-child, th:first-child { text-align: left; }
"""

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
            _section(f"{_NAMES[name].capitalize()}, by month", columns(months, name))
            for name in ("granted", "spent", "expired", "left")
        ),
        _section("By plan", _table("plan", [*by_plan(found), everything])),
        _section("By month", _table("month", months)),
        _section("Who would have more", bars(found.gain)),
        _section("Who would have less", bars(found.lose)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _summary(everything: Line) -> str:
    was, would = everything.was, everything.would
    return (
        f"{would.granted:,} credits would have been granted by the plans and not {was.granted:,}, "
        f"{would.spent:,} spent and not {was.spent:,}, {would.expired:,} expired and not "
        f"{was.expired:,}; {would.refused:,} that were spent would have been refused."
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"


def columns(lines: Sequence[Line], name: str) -> str:
    """Two columns for each month, side by side; what was refused stands on what was spent."""

    def of(its: Flows) -> int:
        value: int = getattr(its, name)
        return value

    def stacked(its: Flows) -> int:
        return its.refused if name == "spent" else 0

    sums = [of(its) + stacked(its) for line in lines for its in (line.was, line.would)]
    highest, lowest = max([1, *sums]), min([0, *sums])
    scale = (HEIGHT - _TOP - _BOTTOM) / (highest - lowest)
    zero = _TOP + highest * scale
    each = (WIDTH - _LEFT) / max(1, len(lines))
    parts = [_rule(zero - value * scale, value) for value in (0, highest // 2, highest)]
    every = -(-len(lines) // 14)
    for place, line in enumerate(lines):
        x, wide = _LEFT + place * each, max(1.0, each * 0.36)
        parts.append(_column(x + each * 0.1, wide, zero, of(line.was) * scale, "was"))
        parts.append(_column(x + each * 0.5, wide, zero, of(line.would) * scale, "would"))
        if more := stacked(line.would):
            foot = zero - max(0, of(line.would)) * scale
            parts.append(_column(x + each * 0.5, wide, foot, more * scale, "lost"))
        if place % every == 0:
            parts.append(_text(x + each / 2, HEIGHT - 6, line.name, "middle"))
    return _svg(HEIGHT, f"{_NAMES[name]}, by month", parts)


def bars(users: Sequence[Difference]) -> str:
    """A bar for each user, as long as what they would have more or less."""
    if not users:
        return "<p>Nobody.</p>"
    most = max(abs(each.credits) for each in users)
    parts = []
    for place, each in enumerate(users):
        y, long = 8 + place * 26, abs(each.credits) / most * (WIDTH - 480)
        kind = "would" if each.credits > 0 else "lost"
        parts += [
            _text(240, y + 14, f"{_short(each.user_id)} ({each.plan})", "end"),
            f'<rect class="{kind}" x="250" y="{y}" width="{max(1, long):.1f}" height="19" rx="2"/>',
            _text(
                256 + long,
                y + 14,
                f"{each.credits:+,}: {each.would_have:,} and not {each.had:,}",
                "start",
            ),
        ]
    return _svg(16 + 26 * len(users), "the users with the greatest difference", parts)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _column(x: float, wide: float, foot: float, tall: float, kind: str) -> str:
    y, tall = (foot - tall, tall) if tall >= 0 else (foot, -tall)
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'


def _rule(y: float, value: int) -> str:
    line = f'<line x1="{_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(_LEFT - 8, y + 4, f"{value:,}", "end")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _table(what: str, lines: Iterable[Line]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("", *_NAMES.values()))
    rows = [
        _row(name, side, *(f"{getattr(its, key):,}" for key in _NAMES))
        for line in lines
        for name, side, its in ((line.name, "was", line.was), ("", "would be", line.would))
    ]
    return (
        f'<div class="wide"><table>\n<tr><th>{what}</th>{heads}</tr>\n'
        + "\n".join(rows)
        + "\n</table></div>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
