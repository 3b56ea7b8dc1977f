"""The API: routes, permissions, and the shapes of requests, answers and problems.

`openapi.json` in this directory is the contract; a test checks that it and the code agree.
"""

VERSION = "1.0.0"
"""The version of the contract, the same as in `openapi.json`."""
