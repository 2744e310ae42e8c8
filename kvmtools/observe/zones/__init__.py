"""Zones, their free lists and the lists of each CPU."""
