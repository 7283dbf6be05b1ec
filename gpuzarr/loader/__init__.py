"""The Loader: batches of windows, shuffled, split among ranks, read ahead."""

from gpuzarr.loader.loader import Loader

__all__ = ["Loader"]
