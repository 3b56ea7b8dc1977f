"""Makes the page that verifies statements: one file with the verifier in it, which users save.

python -m infra reference (make reference)

Its policy lets its own script and style run, by their hashes, and nothing else: no network at all.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "clients" / "statement"
PAGE = FOLDER / "verify.html"


def page() -> str:
    """The page, from the verifier and `page.html`."""
    text = (FOLDER / "page.html").read_text(encoding="utf-8")
    text = text.replace("{verify}", (FOLDER / "verify.mjs").read_text(encoding="utf-8"))
    for name in ("script", "style"):
        (content,) = re.findall(rf"<{name}\b[^>]*>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        text = text.replace(f"{{{name} hash}}", f"sha256-{digest}")
    return text
