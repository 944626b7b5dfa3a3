"""Build VALOR-1M and data sets like it."""

__version__ = "0.1.0"
