"""The targets, and whether a run met them."""

from __future__ import annotations

from typing import Any

Figures = dict[str, Any]


def ratio(figures: Figures, over: Figures) -> float:
    """The ratio of the medians."""
    return round(float(figures["median"]) / float(over["median"]), 2)


def targets(  # noqa: C901 - a list, not a decision
    results: Figures,
) -> list[tuple[str, float, str, float, bool]]:
    """The targets: name, measured value, ``<=`` or ``>=``, target, whether it was met."""
    rows: list[tuple[str, float, str, float]] = []
    work = results["work"]
    for name, units in {"allocate": 1, "expire": 1, "allocate_expiring": 2, "resweep": 0}.items():
        if name in work:
            rows.append((f"write units, {name}", work[name]["ours"]["write_units"], "<=", units))
    for batches in (1, 3, 10):
        if f"use{batches}" in work:
            ours, floor = work[f"use{batches}"]["ours"], work[f"use{batches}"]["floor"]
            rows.append((f"write units, use of {batches} batches", ours["write_units"], "<=", 4))
            over = ratio(ours["cpu_us"], floor["cpu_us"])
            rows.append((f"CPU over the floor, use of {batches} batches", over, "<=", 0.4))
    for name in ("allocate", "allocate_expiring"):
        if name in work:
            ours = work[name]["ours"]
            rows.append((f"requests, {name}", ours["requests"], "<=", 2.1))
            over = ratio(ours["cpu_us"], work[name]["floor"]["cpu_us"])
            rows.append((f"CPU over the floor, {name}", over, "<=", 0.4))
            rows.append((f"resident MB, {name}", ours["peak_rss_mb"], "<=", 60))
    for how, aim in {"user": 4.0, "hundred": 2.0, "bulk": 1.0}.items():
        if f"celery_{how}" in work.get("allocate", {}):
            less = ratio(work["allocate"][f"celery_{how}"]["cpu_us"], ours_allocating(work))
            rows.append((f"times less CPU than Celery, {how}", less, ">=", aim))
    for name, sides in results["api"].items():
        aim = 0.5
        rows.append(
            (f"handler over its calls, {name}", ratio(sides["handler"], sides["floor"]), "<=", aim)
        )
    cold = results["cold"]
    rows.append(
        ("cold start of the API over the SDK", ratio(cold["api"], cold["floor"]), "<=", 0.5)
    )
    rows.append(
        ("cold start of a worker over the SDK", ratio(cold["worker"], cold["floor"]), "<=", 0.5)
    )
    rows.append(("MB of the archive", results["archive_mb"], "<=", 12))
    for name, times in results["growth"].items():
        rows.append((f"cost, {name}", times["ratio"], "<=", 1.05))
    return [
        (name, value, sign, aim, value <= aim if sign == "<=" else value >= aim)
        for name, value, sign, aim in rows
    ]


def ours_allocating(work: Figures) -> Figures:
    """Our CPU for an allocation."""
    figures: Figures = work["allocate"]["ours"]["cpu_us"]
    return figures
