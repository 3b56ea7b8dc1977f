"""What users have elsewhere, imported from CSV files: subscriptions and balances."""
