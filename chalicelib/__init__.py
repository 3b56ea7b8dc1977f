"""Credits: everything that runs in Lambda. domain ← store ← operations ← jobs, api ← app.py."""
