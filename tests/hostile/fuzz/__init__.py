"""Harnesses that explore: see README.md."""
