"""Lets all functions of the emulator run from one copy of their code.

ministack unpacks the archive anew for every process that runs a function: two and a half thousand
files each, which Python then compiles each time. All our functions have the same archive. On AWS no
function can write to its code, only to ``/tmp``
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def unpack_once() -> None:
    """Makes this process's emulator unpack each archive once. Call it before it starts."""
    from ministack.core import lambda_runtime

    copies: dict[str, Path] = {}
    unpacking = threading.Lock()

    class Shared(zipfile.ZipFile):
        """An archive that is unpacked once and then shared."""

        def extractall(self, path: Any = None, *_: Any) -> None:
            """Makes the empty directory ``path`` a link to the only copy of the files."""
            digest = hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
            with unpacking:
                if digest not in copies:
                    copy = Path(tempfile.mkdtemp(prefix="code-"))
                    super().extractall(copy)
                    copies[digest] = copy
            Path(path).rmdir()
            Path(path).symlink_to(copies[digest])

    lambda_runtime.zipfile = SimpleNamespace(**vars(zipfile) | {"ZipFile": Shared})
