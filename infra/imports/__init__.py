"""Reads files from elsewhere: to import and to grant from, and exports of tables."""
