"""Compares the ledgers of a shadow with the movements of the system that it runs beside."""
