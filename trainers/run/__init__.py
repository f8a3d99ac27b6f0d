"""A training run: planned, estimated, played step by step, written down and found again."""
