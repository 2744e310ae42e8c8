"""Kernels to boot: source, configuration, build, the initramfs, and the cache that keeps them."""
