"""`python -m minidistil` is the command `minidistil`."""

import sys

from minidistil.cli import main

if __name__ == "__main__":
    sys.exit(main())
