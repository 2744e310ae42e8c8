"""Kernels and guests: what is booted, how it is built, where it runs, how it is talked to."""
