"""Examples of requests for the OpenAPI document. Each succeeds when it is sent as it stands."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from service.errors import Unknown
from service.inference.registry import Model, Registry

# The model in models/ that was trained for samples.
_SAMPLER: Final = "mnist-sharp"

# A seven of MNIST's test set: a PNG of 28x28 grey pixels. It is the file tests/data/digit.png.
DIGIT: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAxUlEQVR4nGNgGDaAEUKFpD77sfTFHeyS9xQYGBg+X4UKPuk6w8DAwMDAAuGm6l"
    "/TMnSweCzLwPDntSTDozPIOhkYGBgYBA3PmDIw/Lh1XShnGi5nBP+9KIRLTuzl/2AokwlDMlv0/U1cGq1//rPDJcfQ+m83Ky45zrM/rHBqrPu3"
    "Daec9+8PlrjkhO/+W4ZLjvn0v9vKuCTV/v3zxSUn/+BfMSMuydZ//0xwydl+QpdEClsbHoa7X1AkWZA5F53f4TIWEwAAaRE8kJuHrgAAAAAASU"
    "VORK5CYII="
)

# A two of the same set: the file tests/data/two.png.
OTHER_DIGIT: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAA6ElEQVR4nGNgoAlgRDBLOPVCGKYfX4xN2cq/f//+/fv3lhwOuat9G/7+rcKUM/n195"
    "ICDwPbub89mJK+vy9JMjAwVP3464jFWHkhBgYGhot/sUoyMDAwMJR+/3uMC4ecz/e/z+2R+EwormJjWHkQh8YN3/7O58EhJ/nq70tlXK459vdvLy45"
    "vx9/9+IyVPgEHo1tf/+uxaWR4cffv5LoYixIbKHfDAwMH3+z8jMIFjIw/C3/hix5iYGBgWH1c/FwCPdFKzwlrPNHqPrzj2HTGYYjxxHJpIyVgUE7nI"
    "Fh3gOGdddxuWyAAQCfcVM+FkfDOQAAAABJRU5ErkJggg=="
)


def request_examples(registry: Registry) -> dict[str, dict[str, Any]]:
    """The examples of each request schema, by the schema's name, for the models that are served."""
    model = registry.default
    autoencoder = model.autoencoder
    latent_dim = autoencoder.contract.latent_dim
    dims = _two_latents(model)
    here = [1.0] * latent_dim
    there = [(-1.0) ** latent for latent in range(latent_dim)]
    scores = {
        "typicality": _example("Is it like the images of the test set?", images=[DIGIT]),
        "likelihood": _example("Its log-likelihood, estimated with 64 draws", images=[DIGIT], k=64, seed=1),
    }
    pictures = {
        "digit": _example("One picture", images=[DIGIT]),
        "draw": _example("Two pictures, each with a draw from its posterior", images=[DIGIT] * 2, sample=True, seed=1),
        "photo": _example(
            "A picture whose digit is to be found, and what the model sees of it",
            images=[DIGIT],
            preprocess="digit",
            preview=True,
        ),
    }
    return {
        "ImageRequest": pictures,
        "ReconstructRequest": pictures | {"sharp": _example("One picture, sharper", images=[DIGIT], sharpness=1.3)},
        "EmbeddingsRequest": {
            "picture": _example("One picture", input=f"data:image/png;base64,{DIGIT}"),
            "part": _example(
                "As chat requests have pictures, and the embedding in base64",
                input=[{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DIGIT}"}}],
                encoding_format="base64",
            ),
        },
        "ScoreRequest": scores if autoencoder.statistics is not None else {},
        "SampleRequest": _samples(registry),
        "DecodeRequest": {
            "centre": _example("The latent in the middle of the normal prior", z=[[0.0] * latent_dim]),
            "line": _example(
                "Three latents on a line", z=[[value] + [0.0] * (latent_dim - 1) for value in (-2.0, 0.0, 2.0)]
            ),
        },
        "InterpolateRequest": {
            "pictures": _example("From one picture to another", images=[DIGIT, OTHER_DIGIT]),
            "latents": _example("From latent to latent and back", z=[here, there, here], steps=5, path="spherical"),
        },
        "TraverseRequest": {
            "picture": _example("What two latents do to a picture", images=[DIGIT], dims=dims),
            "latent": _example(
                "The same from the middle of the normal prior, less far",
                z=[[0.0] * latent_dim],
                dims=dims,
                range=[-2.0, 2.0],
                steps=5,
            ),
        },
    }


def _samples(registry: Registry) -> dict[str, Any]:
    """Examples of samples: of the model for samples, where it is served beside a default model of the same data set."""
    model, named = registry.default, {}
    with suppress(Unknown):
        sampler = registry.find(_SAMPLER)
        if sampler.autoencoder.contract.dataset == model.autoencoder.contract.dataset:
            model, named = sampler, {"model": _SAMPLER}
    samples = {
        "seeded": _example("Four images that the same seed makes again", n=4, seed=1, **named),
        "defaults": _example("Sixteen images, every option at its default"),
    }
    if model.autoencoder.labels:
        samples["label"] = _example("Eight images of one label", n=8, label=model.autoencoder.labels[-1], **named)
    return samples


def form_examples(model: Model) -> dict[str, str]:
    """The examples of the fields of multipart bodies, by name. Together they succeed, too."""
    return {
        "model": model.autoencoder.contract.name,
        "preprocess": "auto",
        "dims": ",".join(map(str, _two_latents(model))),
        "range": "-3,3",
        "sharpness": "1",
    }


def _two_latents(model: Model) -> list[int]:
    """The two busiest latents, or the first two where the bundle does not say which these are."""
    try:
        return model.autoencoder.busiest[:2]
    except Unknown:
        return list(range(min(2, model.autoencoder.contract.latent_dim)))


def _example(summary: str, **value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}
