"""Which cgroup is which container: ``recognise`` reads the path, a runtime's watcher adds the name."""
