"""Bundled environments, one folder each."""
