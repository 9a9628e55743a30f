"""The kernel boundary for ``/proc``: one kernel file, one ``parse_<file>`` (pure) and one ``read_<file>``.

Every reader takes the root of the proc file system, since an agent in a container sees the host's under
another path than ``/proc``. A reader raises the errors of ``cgwatch.errors`` with the path of the file;
what may be missing is decided by the layer above.

Looking for: interface counters ``network``, who shares a namespace with whom ``namespaces``, the names of
block devices ``diskstats``, memory of the whole machine ``meminfo``, what the machine is ``machine``.
"""
