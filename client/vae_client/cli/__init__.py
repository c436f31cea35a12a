"""The command line, `vae`."""
