"""Reads files from elsewhere: subscriptions and balances to import, promotions to grant, exports of tables."""
