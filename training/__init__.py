"""Training: from a data set to a model bundle that the service can serve. Only this package uses PyTorch.

    python -m training train --recipe mnist-mlp --data-dir DIR          (python -m training --help: all commands)

The modules, in the order in which a run uses them:

- The command line: `__main__`, `options`, `commands` (commands that are printed), `run` (one run from data to bundle).
- What is wanted and what there is: `recipe`, `data`, `folder`.
- What is learned: `model`, `networks`, `objective`, `augment`.
- The training: `train` (the loop), `captured` (its steps as CUDA graphs), `checkpoint`, `score` (validation),
  `progress`, `process_group`.
- What comes out: `onnx_model`, `onnx_graph`, `graphs`, `prior`, `mixture`, `sampler`, `sharpen`.
- How good it is: `evaluate`, `likelihood`, `similarity`, `linear`, `classifier`, `figures`; `parallel` and `steps` do
  the work on all CPUs and show it.
- The bundle: `export`, `versions`, `rewrite`, `card`, `card_text`, `pictures`, `plots`, `provenance`. `compare` shows
  all runs.
"""

import os

# onnxruntime sends usage data to Microsoft, and stores an id of the machine, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
