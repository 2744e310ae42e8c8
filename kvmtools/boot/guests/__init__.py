"""Guests: the QEMU command line, the life of a guest, and the files by which any later command finds it."""
