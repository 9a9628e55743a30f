"""Limits by hand and by policy: what a cgroup may use is changed here, and nowhere else."""
