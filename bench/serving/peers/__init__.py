"""The other servers: one file each, as small as possible, tuned as its documentation recommends for this work.

Each is run by an interpreter of its own (venvs.py) from the repository root, as `python -m bench.serving.peers.NAME`,
with the encoder's path in BENCH_ENCODER and its ports as arguments. requirements/ holds every version, pinned.
"""

from typing import Final

GRAPH: Final = "mnist-mlp.encoder"  # the model of the Open Inference Protocol that is the encoder itself: pixels in
