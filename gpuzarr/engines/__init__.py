"""Run decode programs over tables of chunks: one engine a kind of device."""
