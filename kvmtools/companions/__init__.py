"""What other tools load: a plugin for drgn, commands for gdb, fixtures for pytest."""
