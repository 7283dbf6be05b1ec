"""The CPU engine: the definition of what every decode step means."""
