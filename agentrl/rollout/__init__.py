"""Rollouts: episodes played by an engine in an environment, one asyncio task each."""
