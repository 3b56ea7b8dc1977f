"""Emails: their content, the links in them, and sending them through SES."""
