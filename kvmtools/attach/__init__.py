"""The way to a guest: its memory, its CPUs, its monitor; nothing here knows what a kernel is."""
