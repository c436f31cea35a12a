"""Models at work: NumPy arrays in, NumPy arrays out; no HTTP."""
