"""The kernel's address space as the guest shows it: boundaries, regions, modules, kexec images."""
