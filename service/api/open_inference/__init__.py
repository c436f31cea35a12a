"""The Open Inference Protocol, version 2, over REST: the same models and queues, in the words of Triton and KServe.

Specification: https://github.com/kserve/open-inference-protocol, inference_rest.md. The extensions for binary tensors,
statistics, model configuration and model repository are those of Triton. docs/open-inference.md lists what is offered.
"""
