"""Find, train, tune, judge and serve a base language model for Southeast Asian languages, on Ray."""

__version__ = "0.1.0"
