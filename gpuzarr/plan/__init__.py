"""From a selection to tables of chunks, pieces and byte ranges: columns, no Python per chunk."""
