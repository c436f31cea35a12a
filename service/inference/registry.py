"""The bundles under `models/`: find them, open each, answer which model a request means, and follow what changes there.

A new bundle is opened and verified beside those that are served, and only then takes its place; one that is refused
changes nothing but the list of the refused. A request keeps the model that it found: a model that has been replaced or
removed answers what it has begun, and goes when its last request does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from service.contract import NAME_PATTERN
from service.errors import BundleRefused, Unknown
from service.inference import models_folder
from service.inference.autoencoder import Autoencoder
from service.inference.batcher import Batcher, uncounted
from service.inference.bundle import read_bundle
from service.inference.engine import CPU, Engine, ProviderPolicy
from service.inference.models_folder import Fingerprint

log = logging.getLogger(__name__)

# Runs of up to so many seconds go on the event loop: with a thread they would take longer, by the hop there and back.
# On the CPU, that is: a GPU's answer is waited for, and the loop has better to do meanwhile.
INLINE_SECONDS: Final = 1e-3

_REFERENCE = re.compile(rf"(?P<name>{NAME_PATTERN})(?:@(?P<version>[1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One bundle, open and served; `engine.provider` is the onnxruntime provider it really runs on."""

    autoencoder: Autoencoder
    engine: Engine
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How bundles are opened: see Settings. `pins` names the only models wanted, "name" or "name@version"; or all.

    `count` is told of every batch: the model's id, the kind of run, its rows.
    """

    provider: ProviderPolicy
    threads: int
    batch: int
    pins: tuple[str, ...] = ()
    count: Callable[[str, str, int], None] = uncounted


class Registry:
    """What is served, what was refused and why, and the way from a request's words to a model."""

    def __init__(self, folder: Path, default: str, options: RegistryOptions) -> None:
        """Nothing is open before the first `refresh`. `default` is the model of requests that name none."""
        self.refused: dict[str, str] = {}
        self._folder = folder
        self._default = default
        self._options = options
        self._models: dict[str, dict[int, Model]] = {}
        self._default_model: Model | None = None  # found once: most requests name none
        self.opened: dict[Path, Fingerprint] = {}  # what every bundle looked like when it was last opened or refused

    def find(self, reference: str | None) -> Model:
        """The model that a request means by "name" (its highest version), "name@version" or None (the default).

        Raises Unknown.
        """
        if reference is None:
            if self._default_model is not None:
                return self._default_model
            reference = self._default
        return self._find(reference)

    def _find(self, reference: str) -> Model:
        match = _REFERENCE.fullmatch(reference)
        versions = self._models.get(match["name"], {}) if match else {}
        if match and versions:
            version = int(match["version"] or max(versions))
            if version in versions:
                return versions[version]
        raise Unknown(f"There is no model {reference[:80]!r}.")

    @property
    def default(self) -> Model:
        """The model of requests that name none. Raises BundleRefused, with the reasons, when it is missing."""
        try:
            return self.find(None)
        except Unknown as error:
            name = self._default.partition("@")[0]
            reasons = [reason for place, reason in self.refused.items() if place.startswith(f"{name}/")]
            raise BundleRefused(f"The default model {self._default} cannot be served: {' '.join(reasons)}") from error

    def __iter__(self) -> Iterator[Model]:
        """Every model served, by name and version."""
        return (model for _, versions in sorted(self._models.items()) for _, model in sorted(versions.items()))

    def fingerprints(self) -> dict[Path, Fingerprint]:
        """What the bundles under the folder look like now."""
        found = models_folder.bundles(self._folder, self._options.pins)
        return {bundle: models_folder.fingerprint(bundle) for bundle in found}

    def refresh(self) -> None:
        """Open what is new or changed under the folder, one after the other, and let go of what is no longer there.

        Takes seconds where much is new: call it off the event loop, from one thread at a time. What is served changes
        in one assignment. Raises ProviderUnavailable, and changes nothing then.
        """
        served = {
            (name, version): model for name, versions in self._models.items() for version, model in versions.items()
        }
        found = self.fingerprints()
        refused: dict[str, str] = {}
        models: dict[str, dict[int, Model]] = {}
        for folder, fingerprint in found.items():
            name, version = folder.parent.name, int(folder.name)
            place = f"{name}/{version}"
            model = served.pop((name, version), None)
            if self.opened.get(folder) != fingerprint:
                try:
                    opened = _open(folder, self._options)
                except BundleRefused as error:
                    log.error("Refused: %s%s", error, " What was opened before is still served." if model else "")
                    refused[place] = str(error)
                else:
                    log.info("Serving %s on %s.", opened.engine.contract.id, opened.engine.provider)
                    model = opened
            elif place in self.refused:
                refused[place] = self.refused[place]
            if model is not None:
                models.setdefault(name, {})[version] = model
        for name, version in served:
            log.info("No longer serving %s@%d: its bundle is gone.", name, version)
        self._models, self.refused, self.opened = models, refused, found
        try:
            self._default_model = self._find(self._default)
        except Unknown:
            self._default_model = None

    def close(self) -> None:
        """Finish every model's queued runs and let its thread go."""
        for model in self:
            model.batcher.close()


def open_registry(folder: Path, *, default: str, options: RegistryOptions) -> Registry:
    """Open every bundle under `folder`, each verified and warm before the next.

    A bundle that is refused is logged and left out; the others are served. Raises CannotStart when the default model,
    or one that the options pin, is not there; BundleRefused when the default model is refused; ProviderUnavailable.
    """
    models_folder.check(folder, default, options.pins)
    registry = Registry(folder, default, options)
    registry.refresh()
    _ = registry.default
    return registry


def _open(folder: Path, options: RegistryOptions) -> Model:
    bundle = read_bundle(folder)
    engine = Engine(bundle, provider=options.provider, threads=options.threads)
    inline = int(INLINE_SECONDS / engine.seconds_per_image()) if engine.provider == CPU else 0
    name = engine.contract.id
    batcher = Batcher(name, most=options.batch, inline=inline, count=partial(options.count, name))
    return Model(Autoencoder(engine.contract, engine, batcher, bundle.prior), engine, batcher)
