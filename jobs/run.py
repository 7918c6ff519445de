"""Run a whole experiment: `ray job submit --working-dir . -- python jobs/run.py experiment=demo`."""

import sys

from sea_ray.launch.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
