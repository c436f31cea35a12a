"""Models at work: NumPy arrays in, NumPy arrays out; no HTTP."""

import os

# onnxruntime sends usage data to Microsoft, and stores an id of the machine, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
