"""cgwatch: a node agent for container resources."""

from importlib import metadata

__version__ = metadata.version("cgwatch")
