"""Reads files from elsewhere: files to import or to grant from, and exports of tables."""
