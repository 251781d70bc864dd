"""The reference implementations of *Where the Bytes Go*: code to be read, run and drawn."""

__version__ = "0.1.0"
