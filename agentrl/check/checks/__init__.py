"""The checks, one function each; every file is one theme."""
