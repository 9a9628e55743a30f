"""The kernel boundary for cgroups.

Nobody outside this package knows v1 from v2, the name of a kernel file, microseconds or ``max``.
"""
