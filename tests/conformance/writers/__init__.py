"""The writers: one module or package each, every one with `cases()`, which lists recipes without importing the writer."""
