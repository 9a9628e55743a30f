"""cgwatch: a node agent for container resources."""

__version__ = "0.1.0"
