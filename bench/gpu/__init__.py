"""What a GPU does for this service: `python -m bench.gpu`, on a machine that has one."""
