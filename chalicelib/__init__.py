"""Credits: everything that runs in Lambda. domain ← store ← operations ← jobs, api ← app.py.

All these packages use the modules beside them: the settings, the clients of AWS, logs and metrics,
the messages of the queues. `pyproject.toml` says which may import which.
"""
