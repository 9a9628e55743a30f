"""Limits: what is wanted of a cgroup, checked, ordered, written, read back, recorded, and undone on time."""
