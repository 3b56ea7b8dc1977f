"""Stripe's reports of customers, subscriptions and payments, and what follows from them."""
