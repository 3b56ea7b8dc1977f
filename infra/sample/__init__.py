"""Sample subscriptions, and the generator that makes them."""
