"""HTTP: bytes and JSON on one side, the application's arrays on the other."""
