"""What makes pages and pictures of the docs: the API reference, the mails, the dashboard."""
