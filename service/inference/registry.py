"""The models that are served: open the bundles under `models/`, find the model of a request, and take up changes.

A new bundle is opened and verified while the others are served; only then is it served, too. A bundle that is refused
changes nothing except the list of refused bundles, and what cannot be read stays as it was. A request keeps the model
that it has found: a model that is replaced or removed finishes its requests, and is freed with the last of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from service.contract import NAME_PATTERN
from service.errors import BundleRefused, BundleUnreadable, ProviderUnavailable, Unknown
from service.inference import models_folder
from service.inference.autoencoder import Autoencoder
from service.inference.batcher import Batcher, count_nothing
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.inference.models_folder import ROOT, Fingerprint, Look
from service.inference.sessions import CPU, ProviderPolicy

log = logging.getLogger(__name__)

# A bundle that was refused for a fault of the machine, such as too little memory, is tried again after so many seconds.
RETRY_SECONDS: Final = 30.0

_MAX_SENTENCE: Final = 500  # characters: a bundle may have any text in its files

_REFERENCE = re.compile(rf"(?P<name>{NAME_PATTERN})(?:@(?P<version>[1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One bundle that is open and served. `engine.provider` is the onnxruntime provider that it really runs on.

    `folder` is where it was read from. By now it may hold other files.
    """

    folder: Path
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
    tf32: bool = False


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of opening a bundle in this state. `reason`: why it was refused. `again`: when it is tried again."""

    fingerprint: Fingerprint
    reason: str = ""
    again: float = math.inf


class Registry:
    """The models that are served, and the bundles that were refused, with the reasons."""

    def __init__(self, folder: Path, default: str, options: RegistryOptions) -> None:
        """No model is open before the first `refresh`. `default` is the model of requests that do not name one."""
        self.hash = 0  # a number of 48 bits made of all that is served, also of the files beside the weights
        self.refused: dict[str, str] = {}  # by place, with the reason; also the folders that cannot be read
        self._folder = folder
        self._default = default
        self._options = options
        self._models: dict[str, dict[int, Model]] = {}
        self._default_model: Model | None = None  # stored: most requests do not name a model
        self.seen = Look({}, {})  # at the last refresh
        self._tried: dict[Path, _Tried] = {}

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
            reasons = [why for place, why in self.refused.items() if place.partition("/")[0] in (name, ROOT)]
            raise BundleRefused(f"The default model {self._default} cannot be served: {' '.join(reasons)}") from error

    def __iter__(self) -> Iterator[Model]:
        """Every model that is served, ordered by name and version."""
        return (model for _, versions in sorted(self._models.items()) for _, model in sorted(versions.items()))

    def look(self) -> Look:
        """What there is in the folder now."""
        return models_folder.look(self._folder, self._options.selected)

    @property
    def due(self) -> bool:
        """Whether it is time to try a bundle again that has not changed."""
        return any(tried.again <= time.monotonic() for tried in self._tried.values())

    def refresh(self, look: Look | None = None, *, starting: bool = False) -> None:
        """Open bundles that are new or have changed, one after the other, and drop those that are gone.

        `look` is what is in the folder; by default it is looked at. This may take seconds: call it in a thread, and in
        one thread at a time. The new models are put in place by one assignment. Raises ProviderUnavailable when
        `starting`, and then changes nothing; later the bundle is refused.
        """
        look = self.look() if look is None else look
        served = {
            (name, version): model for name, versions in self._models.items() for version, model in versions.items()
        }
        kept = {folder: tried.fingerprint for folder, tried in self._tried.items() if look.hides(folder)}
        tries: dict[Path, _Tried] = {}
        models: dict[str, dict[int, Model]] = {}
        for folder, fingerprint in sorted((look.fingerprints | kept).items()):
            key = folder.parent.name, int(folder.name)
            model, tried = served.pop(key, None), self._tried.get(folder)
            if (
                tried is None
                or tried.fingerprint != fingerprint
                or (tried.again <= time.monotonic() and folder not in kept)
            ):
                opened, tried = self._try(folder, fingerprint, tried, starting)
                if opened is None and model is not None:
                    log.warning("%s is still served as it was opened before.", model.engine.contract.id)
                model = opened or model
            tries[folder] = tried
            if model is not None:
                models.setdefault(key[0], {})[key[1]] = model
        for name, version in served:
            log.info("No longer serving %s@%d: its bundle is gone.", name, version)
        for place, reason in look.unreadable.items():
            if self.seen.unreadable.get(place) != reason:
                log.error("%s What was served of it stays.", _printable(reason))
        for place in self.seen.unreadable.keys() - look.unreadable.keys():
            log.info("%s can be read again.", "The folder of models" if place == ROOT else _printable(place))
        refused = {_place(folder): tried.reason for folder, tried in tries.items() if tried.reason} | look.unreadable
        self.refused = {_printable(place): _printable(reason) for place, reason in sorted(refused.items())}
        self._models, self._tried, self.seen = models, tries, look
        self.hash = int(
            hashlib.sha256("".join(model.engine.contract.to_json() for model in self).encode()).hexdigest()[:12], 16
        )
        try:
            self._default_model = self._find(self._default)
        except Unknown:
            self._default_model = None

    def _try(
        self, folder: Path, fingerprint: Fingerprint, before: _Tried | None, starting: bool
    ) -> tuple[Model | None, _Tried]:
        """Open a bundle, and log what came of it. Whatever is wrong with it, it is refused, and only it."""
        again, details = math.inf, None
        try:
            model = _open(folder, self._options)
        except (BundleUnreadable, ProviderUnavailable, MemoryError) as error:
            if starting and isinstance(error, ProviderUnavailable):
                raise
            reason = f"{_place(folder)}: there is not enough memory." if isinstance(error, MemoryError) else str(error)
            again = time.monotonic() + RETRY_SECONDS
        except BundleRefused as error:
            reason = str(error)
        except Exception as error:
            reason, details = f"{_place(folder)}: it cannot be opened; the log says more.", error
        else:
            log.info("Serving %s on %s.", model.engine.contract.id, model.engine.provider)
            return model, _Tried(fingerprint)
        if before is None or (before.fingerprint, before.reason) != (fingerprint, reason):
            log.error("Refused: %s", _printable(reason), exc_info=details)
        return None, _Tried(fingerprint, reason, again)

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
    registry.refresh(starting=True)
    _ = registry.default
    return registry


def _place(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _printable(text: str) -> str:
    """The text without what cannot be written as UTF-8, such as names of files may have, and not too long."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_SENTENCE else f"{text[:_MAX_SENTENCE]} ..."


def _open(folder: Path, options: RegistryOptions) -> Model:
    bundle = read_bundle(folder)
    engine = Engine(bundle, provider=options.provider, threads=options.threads, tf32=options.tf32)
    name = engine.contract.id
    # GPU runs are always done in the thread: the loop can do other work while it waits for the GPU.
    inline = sys.maxsize if engine.provider == CPU else 0
    batcher = Batcher(name, max_rows=options.batch, inline_rows=inline, count=partial(options.count, name))
    paces = engine.paces()
    if bundle.statistics is not None:
        paces = dataclasses.replace(paces, typicality=bundle.statistics.pace())
    autoencoder = Autoencoder(engine.contract, engine, batcher, bundle.prior, bundle.statistics, paces)
    return Model(folder, autoencoder, engine, batcher)
