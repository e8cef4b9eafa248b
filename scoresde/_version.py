"""The version of this package, also where it is imported without being installed."""

__version__ = "0.1.0"
