"""`agentrl` and `python -m agentrl`: the command line; Ctrl-C stops it quietly also while it is imported."""

import sys


def main() -> int:
    """Run the command line and give its exit code."""
    try:
        from agentrl.cli.main import main as run

        return run()
    except KeyboardInterrupt:  # before the command line itself could watch for it: nothing was begun
        return 130


if __name__ == "__main__":
    sys.exit(main())
