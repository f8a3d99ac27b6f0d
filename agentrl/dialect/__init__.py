"""Dialects: how conversations, calls and results are written in tokens, and read back."""
