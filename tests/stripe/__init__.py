"""Stripe's side of its webhooks, made up: payloads as each API version sends them, and a shop."""
