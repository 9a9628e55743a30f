"""The kernel boundary for ``/proc``: one kernel file, one ``parse_<file>`` (pure) and one ``read_<file>``.

Every reader takes the root of the proc file system, since an agent in a container sees the host's under
another path than ``/proc``. A reader raises the errors of ``cgwatch.errors`` with the path of the file;
what may be missing is decided by the layer above.

Looking for: interface counters ``network``, sockets by state ``sockets``, counters of TCP ``netstat``, who
shares a namespace with whom ``namespaces``, what tasks do and the load ``states``, time on and waiting for a
CPU ``schedstat``, open files ``descriptors``, ulimits ``limits``, block devices ``diskstats``, how full the
file systems are ``filesystems``, memory of the whole machine ``meminfo``, what the machine is ``machine``,
NUMA nodes, cores and caches ``topology``, memory modules ``edac``.
"""
