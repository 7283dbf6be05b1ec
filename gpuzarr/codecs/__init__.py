"""Codec metadata to decode programs: what a chunk's bytes mean, found out once for each array."""
