"""The numbers that cgwatch claims, each measured on this machine: ``python -m bench``."""
