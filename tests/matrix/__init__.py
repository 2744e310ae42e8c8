"""``make matrix``: every kernel that we claim, built and held against the model and the live tests."""
