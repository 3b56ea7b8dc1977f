"""Imports subscriptions and balances of another system from CSV files."""
