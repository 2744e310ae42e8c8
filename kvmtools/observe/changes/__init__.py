"""What is different between two observations, as NumPy columns."""
