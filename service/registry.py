"""The bundles under `models/`: find them, open each, and answer which model a request means."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.autoencoder import Autoencoder
from service.batcher import Batcher
from service.bundle import read_bundle
from service.contract import NAME_PATTERN
from service.engine import CPU, Engine, ProviderPolicy
from service.errors import BundleRefused, Unknown

log = logging.getLogger(__name__)

# Runs of up to so many images go on the event loop: with a thread they would take longer, by the hop there and back.
# On the CPU, that is: a GPU's answer is waited for, and the loop has better to do meanwhile.
INLINE_ROWS: Final = 64

_REFERENCE = re.compile(rf"(?P<name>{NAME_PATTERN})(?:@(?P<version>[1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True)
class Model:
    """One bundle, open and served. `provider` is the onnxruntime provider it really runs on."""

    autoencoder: Autoencoder
    card: str
    provider: str
    close: Callable[[], None]


class Registry:
    """What is served, and what was refused and why."""

    def __init__(self, models: dict[str, dict[int, Model]], refused: dict[str, str], default: str) -> None:
        """`models` by name and version, `refused` sentences by folder; `default` is the model of requests naming none.

        Raises BundleRefused when `default` is not among the models.
        """
        self._models = models
        self.refused = refused
        try:
            self.default = self.find(default)
        except Unknown as error:
            reasons = " ".join([str(error), *refused.values()])
            raise BundleRefused(f"The default model cannot be served. {reasons}") from error

    def find(self, reference: str | None) -> Model:
        """The model that a request means by "name" (its highest version), "name@version" or None (the default).

        Raises Unknown.
        """
        if reference is None:
            return self.default
        match = _REFERENCE.fullmatch(reference)
        versions = self._models.get(match["name"], {}) if match else {}
        if match and versions:
            version = int(match["version"] or max(versions))
            if version in versions:
                return versions[version]
        raise Unknown(f"There is no model {reference[:80]!r}.")

    def __iter__(self) -> Iterator[Model]:
        """Every model served, by name and version."""
        return (model for _, versions in sorted(self._models.items()) for _, model in sorted(versions.items()))

    def close(self) -> None:
        """Finish every model's queued runs and let its thread go."""
        for model in self:
            model.close()


def open_registry(folder: Path, *, default: str, provider: ProviderPolicy, threads: int, batch: int) -> Registry:
    """Open every bundle under `folder`, each verified and warm before the next.

    A bundle that is refused is logged and left out; the others are served. Raises BundleRefused when the default model
    is among the refused, and ProviderUnavailable.
    """
    models: dict[str, dict[int, Model]] = {}
    refused: dict[str, str] = {}
    for bundle in sorted(folder.glob("*/*/")):
        if not bundle.name.isdecimal():
            continue
        try:
            model = _open(bundle, provider, threads, batch)
        except BundleRefused as error:
            log.error("Refused: %s", error)
            refused[f"{bundle.parent.name}/{bundle.name}"] = str(error)
        else:
            contract = model.autoencoder.contract
            models.setdefault(contract.name, {})[contract.version] = model
            log.info("Serving %s on %s.", contract.id, model.provider)
    return Registry(models, refused, default)


def _open(folder: Path, provider: ProviderPolicy, threads: int, batch: int) -> Model:
    bundle = read_bundle(folder)
    engine = Engine(bundle, provider=provider, threads=threads)
    inline = INLINE_ROWS if engine.provider == CPU else 0
    batcher = Batcher(engine.contract.id, most=batch, inline=inline)
    autoencoder = Autoencoder(engine.contract, engine, batcher, bundle.prior)
    return Model(autoencoder, engine.card, engine.provider, batcher.close)
