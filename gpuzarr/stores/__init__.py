"""Where bytes lie: the `Store` protocol and the stores that gpuzarr brings."""
