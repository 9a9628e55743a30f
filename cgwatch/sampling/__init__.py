"""From containers to a ``Snapshot``, on a schedule that does not drift.

Here, one layer above the readers, it is decided what may be missing, and why (``tolerance``).
"""
