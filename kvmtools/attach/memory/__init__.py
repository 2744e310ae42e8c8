"""A guest's physical memory, by whatever way: a RAM file, another process, QMP, a core, a snapshot."""
