"""Makes a client with each generator and calls the API with it (make prove PARTS=generators)."""

import sys

import pytest

from infra.deployment.packaging import ROOT

FILES = ("test_generators.py", "test_typescript.py", "other_generators.py")

if __name__ == "__main__":
    files = [str(ROOT / "tests" / "stack" / name) for name in FILES]
    sys.exit(pytest.main(["-q", "-n", "0", "-k", "client_made_by", *files]))
