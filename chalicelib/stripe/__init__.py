"""What Stripe tells of its customers, subscriptions and payments, and what follows from it."""
