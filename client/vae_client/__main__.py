"""`python -m vae_client` is `vae`."""

from vae_client.cli.main import run

run()
