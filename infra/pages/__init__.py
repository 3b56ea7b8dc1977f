"""Makes pages and pictures for the docs: the API reference, the emails, the dashboard."""
