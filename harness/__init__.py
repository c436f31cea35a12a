"""What tests and benchmarks share, so that neither imports the other.

paths.py       where the checkout, the models and the test data are
digits.py      real MNIST digits, and pictures made of them
photos.py      photos of them: paper, pens, light, shadows, lines, perspective
no_digits.py   photos without a digit
connection.py  requests as bytes, and a raw connection to a server
servers.py     start a server, wait until it is ready, look at its processes
openloop.py    an open-loop load generator: `python -m harness.openloop`
records.py     answered requests, as telemetry sees them
"""
