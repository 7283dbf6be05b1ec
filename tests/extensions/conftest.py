"""The examples are packages of their own: they hold no tests, and collecting would import them."""

collect_ignore_glob = ["*/*.py"]
