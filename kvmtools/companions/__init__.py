"""What other tools load: names for a drgn prompt, commands for gdb, fixtures for pytest."""
