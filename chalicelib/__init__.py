"""Credits: everything that runs in Lambda. domain ← store ← operations ← jobs, api ← app.py.

The files beside the rooms are what all of them stand on: the settings, the clients of AWS, logs and
metrics, the messages of the queues. `pyproject.toml` says which may import which.
"""
