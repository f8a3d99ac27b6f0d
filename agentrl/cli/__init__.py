"""The command line: a file per command, found through the entry points `agentrl.commands`."""
