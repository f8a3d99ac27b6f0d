"""What runs in a sandbox's process: the standard library only.

The host sends it as source text, so that no sandbox needs to see this package.
"""
