"""Sessions of onnxruntime that claim to run on CUDA."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import onnxruntime as ort


class FakeCuda:
    """A session that runs on the CPU and claims to run on CUDA. It records its arguments, batch sizes and threads."""

    left_to_the_cpu: ClassVar[list[Any]] = []

    def __init__(self, session: ort.InferenceSession, asked: dict[str, Any]) -> None:
        self.session = session
        self.asked = asked
        self.fallback = True
        self.sizes: list[int] = []
        self.threads: list[str] = []

    def get_providers(self) -> list[str]:
        return [provider if isinstance(provider, str) else provider[0] for provider in self.asked["providers"]]

    def disable_fallback(self) -> None:
        self.fallback = False

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return self.left_to_the_cpu

    def run(self, outputs: list[str], feed: dict[str, Any]) -> Any:
        self.sizes += [len(rows) for rows in feed.values()]
        self.threads.append(threading.current_thread().name)
        return self.session.run(outputs, feed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)
