"""Tests of gpuzarr.metadata; a module for each of its modules."""
