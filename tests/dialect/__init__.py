"""Tests of dialects and of the encoding of words from outside."""
