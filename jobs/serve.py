"""Serve the winner of a finished run: `python jobs/serve.py run=demo`."""

import sys

from sea_ray.launch.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
