"""The HTTP API: turns requests into arrays, and arrays into answers."""
