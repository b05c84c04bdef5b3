"""``python -m bluesky_gpsts`` is the command ``gpsts``."""

import sys

from bluesky_gpsts.cli import main

if __name__ == "__main__":
    sys.exit(main())
