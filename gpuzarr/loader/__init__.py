"""The Loader: batches of windows, shuffled, split among ranks, read ahead."""
