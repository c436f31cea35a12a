"""Use a generated client: `python use_generated_client.py URL KEY` prints what it got, as JSON.

The client is the package `generated_client`. A test generates it and puts it on the path. It is used as it is.
"""

from __future__ import annotations

import base64
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from generated_client import AuthenticatedClient, Client
from generated_client.api.models import get_model, get_model_file, list_models
from generated_client.api.openai import create_embeddings, get_openai_model, list_openai_models
from generated_client.api.probes import livez, metrics, readyz
from generated_client.api.verbs import decode, encode, interpolate, reconstruct, sample, score, traverse
from generated_client.models import (
    DecodeRequest,
    EmbeddingsRequest,
    ImageForm,
    ImageRequest,
    ImageRequestPreprocess,
    InterpolateForm,
    InterpolateRequest,
    InterpolateRequestPath,
    ListModelsView,
    Problem,
    ReconstructRequest,
    SampleRequest,
    ScoreForm,
    ScoreRequest,
    TraverseRequest,
)
from generated_client.types import UNSET, File

PNG = Path(__file__).parents[1] / "data" / "digit.png"


def main(url: str, key: str) -> None:
    """Call every operation, and the operations on images with each form of body."""
    data = PNG.read_bytes()
    text = base64.b64encode(data).decode()
    with (
        AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True) as client,
        Client(base_url=url, raise_on_unexpected_status=True) as stranger,
    ):
        forms: list[Any] = [ImageRequest(images=[text]), ImageForm(images=[File(BytesIO(data))]), File(BytesIO(data))]
        plain = [encode.sync(client=client, body=form) for form in forms]
        assert all(answer.z is UNSET and answer.seed is UNSET for answer in plain)
        forms = [
            ImageRequest(images=[text], sample=True, seed=3, preprocess=ImageRequestPreprocess.NONE),
            ImageForm(images=[File(BytesIO(data), "digit.png", "image/png")], sample=True, seed=3, model="mnist-mlp@2"),
        ]
        drawn = [encode.sync(client=client, body=form) for form in forms]
        for form in (ImageRequest(images=[text]), ImageForm(images=[File(BytesIO(data))]), File(BytesIO(data))):
            drawn.append(encode.sync(client=client, body=form, sample=True, seed=3))
        refused = [
            encode.sync(client=stranger, body=ImageRequest(images=[text])),
            encode.sync(client=client, body=ImageRequest(images=["not base64"])),
            get_model.sync(client=client, name="nobody"),
        ]
        assert all(isinstance(answer, Problem) for answer in refused)
        reconstructed = reconstruct.sync(client=client, body=ReconstructRequest(images=[text] * 2, sharpness=1.3))
        scores = [
            score.sync(client=client, body=form)
            for form in (ScoreRequest(images=[text]), ScoreForm(images=[File(BytesIO(data))]), File(BytesIO(data)))
        ]
        likely = score.sync(client=client, body=ScoreRequest(images=[text], k=5, seed=2))
        samples = sample.sync(client=client, body=SampleRequest(n=3, seed=5))
        shown = DecodeRequest(z=samples.z, sharpness=samples.sharpness)
        decoded = decode.sync(client=client, body=shown)
        assert decoded.images == samples.images
        assert decode.sync(client=client, body=shown, model="mnist-mlp@2").images == samples.images
        embedded = create_embeddings.sync(client=client, body=EmbeddingsRequest(input_=[text]))
        assert get_openai_model.sync(client=client, name=embedded.model).id == embedded.model
        card = get_model_file.sync(client=client, name="mnist-mlp", file="README.md")
        short = list_models.sync(client=client, view=ListModelsView.SHORT)
        walks = [
            interpolate.sync(client=client, body=InterpolateRequest(images=[text] * 2, steps=3)),
            interpolate.sync(client=client, body=InterpolateForm(images=[File(BytesIO(data))] * 2, steps=3)),
            interpolate.sync(
                client=client, body=InterpolateRequest(z=samples.z, path=InterpolateRequestPath.SPHERICAL)
            ),
            traverse.sync(client=client, body=TraverseRequest(z=samples.z[:1], dims=[3, 4], steps=2)),
            traverse.sync(client=client, body=File(BytesIO(data)), dims="3,4", range_="-1,1"),
        ]
        print(
            json.dumps(
                {
                    "mu": [answer.mu for answer in plain],
                    "z": [answer.z for answer in drawn],
                    "seeds": [answer.seed for answer in drawn],
                    "refused": [answer.status for answer in refused],
                    "pointers": [item.pointer for item in refused[1].errors],
                    "reconstructed_mu": reconstructed.mu,
                    "mse": reconstructed.mse,
                    "typicality": [answer.typicality for answer in scores],
                    "draws": [likely.k, likely.seed, len(likely.log_likelihood)],
                    "samples": np.shape(samples.z),
                    "walks": [len(answer.images) for answer in walks],
                    "prior": samples.prior.value,
                    "embedding": embedded.data[0].embedding,
                    "openai": [model.id for model in list_openai_models.sync(client=client).data],
                    "card": card.payload.read().decode(),
                    "short": [model.id for model in short.models],
                    "default": list_models.sync(client=client).default,
                    "latent_dim": get_model.sync(client=client, name="mnist-mlp").latent_dim,
                    "live": livez.sync(client=stranger).live,
                    "ready": readyz.sync(client=stranger).ready,
                    "metrics": metrics.sync(client=stranger).partition("\n")[0],
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
