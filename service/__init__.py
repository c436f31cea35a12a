"""The inference service: bytes at the door, arrays in the house; never torch."""
