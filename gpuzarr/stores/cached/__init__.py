"""A store before another that remembers what was read, on disk or in memory."""
