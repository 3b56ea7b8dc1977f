"""Reads files from elsewhere: subscriptions and balances to import, and exports of tables."""
