"""Shared by the pages of the commands: their style, and how they draw; no script."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

WIDTH = 740
LEFT = 84

STYLE = """
:root { color-scheme: light dark; --ink: #1e293b; --faint: #64748b; --rule: #cbd5e1;
  --paper: #ffffff; --was: #64748b; --would: #2563eb; --lost: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --faint: #94a3b8; --rule: #334155;
  --paper: #0f172a; --was: #94a3b8; --would: #60a5fa; --lost: #fb923c; } }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h2 { margin-top: 2.5rem; } svg { width: 100%; min-width: 36rem; height: auto; }
.wide { overflow-x: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
svg line { stroke: var(--rule); } .was { fill: var(--was); } .would { fill: var(--would); }
.lost { fill: var(--lost); } table { border-collapse: collapse; width: 100%; }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--rule);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
td:first-child, th:first-child { text-align: left; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A complete page."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """A part of a page under a heading."""
    return f"<h2>{escape(title)}</h2>\n{content}"


def column(x: float, wide: float, foot: float, tall: float, kind: str) -> str:
    """A column on a base line; a negative one hangs from it."""
    y, tall = (foot - tall, tall) if tall >= 0 else (foot, -tall)
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'


def rule(y: float, value: int) -> str:
    """A horizontal line, with the value that it stands for."""
    line = f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + text(LEFT - 8, y + 4, f"{value:,}", "end")


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Words in a picture."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(height: int, label: str, parts: Iterable[str]) -> str:
    """A picture, with a description."""
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">\n' + "\n".join(parts) + "\n</svg></div>"
    )


def row(*cells: str) -> str:
    """A row of a table."""
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
