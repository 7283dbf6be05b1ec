"""Zip archives: in files, and as objects of other stores."""
