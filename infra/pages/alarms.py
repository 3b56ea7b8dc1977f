"""The tables of docs/operating.md about the alarms and metrics of a small stage.

python -m infra.pages.alarms        prints them
"""

from __future__ import annotations

from chalicelib.metrics import Metric
from infra.deployment.alarms import ROLLBACK_ALARMS, SYMPTOMS, metrics_of_small
from infra.deployment.symptoms import Symptom


def markdown() -> str:
    """The alarms and the metrics of both sizes, as docs/operating.md shows them."""
    rows = [f"| [{s.name}](#{s.name}) | {_share_in_small(s)} |" for s in SYMPTOMS]
    small = metrics_of_small()
    left_out = sorted(metric.value for metric in Metric if metric.value not in small)
    return "\n".join(
        [
            "| alarm | in a small stage |",
            "|---|---|",
            *rows,
            "",
            "| our metrics | |",
            "|---|---|",
            f"| written by a small stage | {', '.join(small)} |",
            f"| left out | {', '.join(left_out)} |",
        ]
    )


def _share_in_small(symptom: Symptom) -> str:
    if symptom.in_small:
        return "yes"
    prefix = symptom.name
    parts = [name for name in ROLLBACK_ALARMS if name.startswith(prefix)]
    if parts == [prefix]:
        return "yes: it takes a deployment back"
    named = ", ".join(f"`{name.removeprefix(prefix + '-')}`" for name in sorted(parts))
    return f"of {named} only: these take a deployment back" if parts else "no"


if __name__ == "__main__":
    print(markdown())
