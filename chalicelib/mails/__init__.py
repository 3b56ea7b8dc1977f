"""Mails: what they say, the links in them, and handing them to SES."""
