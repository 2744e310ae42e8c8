"""Talking to QEMU: QMP and the human monitor, gdb, registers, and holding the guest still meanwhile."""
