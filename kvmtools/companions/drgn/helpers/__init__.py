"""Helpers for drgn scripts, one file a subject; :mod:`kvmtools.drgn` lists them."""
