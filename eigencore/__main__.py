"""`python -m eigencore` runs the command `eigen`."""

import sys

from eigencore.cli import main

if __name__ == "__main__":
    sys.exit(main())
