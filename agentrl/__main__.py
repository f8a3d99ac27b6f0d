"""`python -m agentrl` is the command `agentrl`."""

import sys

if __name__ == "__main__":
    try:
        from agentrl.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:
        print("\nagentrl: stopped", file=sys.stderr)
        sys.exit(130)
