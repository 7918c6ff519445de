"""Find, train, tune, judge and serve a base language model for Southeast Asian languages, on Ray."""

import os

__version__ = "0.1.0"

# Arrow's own pool keeps what was freed, so that a process grows with the text that it has seen; it reads this when it is loaded.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
