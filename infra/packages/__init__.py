"""Packages and programs of others: how they are installed, and what is known against them."""
