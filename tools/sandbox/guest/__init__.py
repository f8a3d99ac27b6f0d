"""What runs inside a sandbox's process: the standard library only, sent as source text, never found on its disk."""
