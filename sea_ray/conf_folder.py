"""Where the YAML values lie."""

from __future__ import annotations

import os
from pathlib import Path

from sea_ray.errors import ConfigError

CONFIG = "config.yaml"


def config_folder() -> Path:
    """Return the folder of YAML values: $SEA_RAY_CONF, ./conf, the checkout's conf, or the one inside the wheel.

    Raises:
        ConfigError: none of them is one.
    """
    package = Path(__file__).parent
    named = os.environ.get("SEA_RAY_CONF")
    candidates = [Path(named)] if named else [Path.cwd() / "conf", package.parent / "conf", package / "conf"]
    for folder in candidates:
        if (folder / CONFIG).is_file() and (folder / "experiment").is_dir():
            return folder.absolute()
    raise ConfigError("", f"no configuration folder: looked for {CONFIG} and experiment/ in "
                          f"{', '.join(str(folder) for folder in candidates)}; set SEA_RAY_CONF")
