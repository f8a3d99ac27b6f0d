"""Benchmarks of AgentRL itself; environments and policies are measured by `agentrl bench ENV`."""
