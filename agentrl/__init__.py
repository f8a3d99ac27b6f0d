"""AgentRL trains language-model agents that use tools over many turns with reinforcement learning."""
