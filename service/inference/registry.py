"""The models that are served: open the bundles under `models/`, find the model of a request, and take up changes.

A new bundle is opened and verified while the others are served; only then is it served, too. A bundle that is refused
changes nothing except the list of refused bundles. A request keeps the model that it has found: a model that is
replaced or removed finishes its requests, and is freed with the last of them.
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
from service.inference.batcher import Batcher, count_nothing
from service.inference.bundle import read_bundle
from service.inference.engine import CPU, Engine, ProviderPolicy
from service.inference.models_folder import Fingerprint

log = logging.getLogger(__name__)

# CPU runs of up to this many seconds are done on the event loop. In a thread they would take longer, because of the way
# there and back. GPU runs are always done in the thread: the loop can do other work while it waits for the GPU.
INLINE_SECONDS: Final = 1e-3

_REFERENCE = re.compile(rf"(?P<name>{NAME_PATTERN})(?:@(?P<version>[1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One bundle that is open and served. `engine.provider` is the onnxruntime provider that it really runs on."""

    autoencoder: Autoencoder
    engine: Engine
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How bundles are opened; see Settings.

    `selected` has the only models to serve, as "name" or "name@version"; if it is empty, all are served. `count` is
    called for each batch with the model's id, the kind of run and the number of rows.
    """

    provider: ProviderPolicy
    threads: int
    batch: int
    selected: tuple[str, ...] = ()
    count: Callable[[str, str, int], None] = count_nothing


class Registry:
    """The models that are served, and the bundles that were refused, with the reasons."""

    def __init__(self, folder: Path, default: str, options: RegistryOptions) -> None:
        """No model is open before the first `refresh`. `default` is the model of requests that do not name one."""
        self.refused: dict[str, str] = {}
        self._folder = folder
        self._default = default
        self._options = options
        self._models: dict[str, dict[int, Model]] = {}
        self._default_model: Model | None = None  # stored: most requests do not name a model
        self.opened: dict[Path, Fingerprint] = {}  # of each bundle, when it was last opened or refused

    def find(self, reference: str | None) -> Model:
        """The model for a request's "name" (the highest version), "name@version" or None (the default).

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
        """The model of requests that do not name one. Raises BundleRefused, with the reasons, if it is not served."""
        try:
            return self.find(None)
        except Unknown as error:
            name = self._default.partition("@")[0]
            reasons = [reason for place, reason in self.refused.items() if place.startswith(f"{name}/")]
            raise BundleRefused(f"The default model {self._default} cannot be served: {' '.join(reasons)}") from error

    def __iter__(self) -> Iterator[Model]:
        """Every model that is served, ordered by name and version."""
        return (model for _, versions in sorted(self._models.items()) for _, model in sorted(versions.items()))

    def fingerprints(self) -> dict[Path, Fingerprint]:
        """The fingerprint of each bundle in the folder, now."""
        found = models_folder.bundles(self._folder, self._options.selected)
        return {bundle: models_folder.fingerprint(bundle) for bundle in found}

    def refresh(self) -> None:
        """Open bundles that are new or have changed, one after the other, and drop those that are gone.

        This may take seconds: call it in a thread, and in one thread at a time. The new models are put in place by one
        assignment. Raises ProviderUnavailable, and then changes nothing.
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
        """Finish the runs in the thread of each model, then end the threads."""
        for model in self:
            model.batcher.close()


def open_registry(folder: Path, *, default: str, options: RegistryOptions) -> Registry:
    """Open every bundle in `folder`, one after the other: verify it, test it and warm it up.

    A bundle that is refused is logged and skipped. Raises CannotStart when the default model, or a selected one, is not
    in the folder; BundleRefused when the default model is refused; and ProviderUnavailable.
    """
    models_folder.check(folder, default, options.selected)
    registry = Registry(folder, default, options)
    registry.refresh()
    _ = registry.default
    return registry


def _open(folder: Path, options: RegistryOptions) -> Model:
    bundle = read_bundle(folder)
    engine = Engine(bundle, provider=options.provider, threads=options.threads)
    inline = int(INLINE_SECONDS / engine.seconds_per_image()) if engine.provider == CPU else 0
    name = engine.contract.id
    batcher = Batcher(name, max_rows=options.batch, inline_rows=inline, count=partial(options.count, name))
    return Model(Autoencoder(engine.contract, engine, batcher, bundle.prior), engine, batcher)
