"""From a selection to tables of chunks, pieces and byte ranges: columns of NumPy, no Python per chunk."""
