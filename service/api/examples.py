"""Examples of requests for the OpenAPI document. Each succeeds when it is sent as it stands."""

from __future__ import annotations

from typing import Any, Final

from service.inference.registry import Model

# A seven of MNIST's test set: a PNG of 28x28 grey pixels. It is the file tests/data/digit.png.
DIGIT: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAxUlEQVR4nGNgGDaAEUKFpD77sfTFHeyS9xQYGBg+X4UKPuk6w8DAwMDAAuGm6l"
    "/TMnSweCzLwPDntSTDozPIOhkYGBgYBA3PmDIw/Lh1XShnGi5nBP+9KIRLTuzl/2AokwlDMlv0/U1cGq1//rPDJcfQ+m83Ky45zrM/rHBqrPu3"
    "Daec9+8PlrjkhO/+W4ZLjvn0v9vKuCTV/v3zxSUn/+BfMSMuydZ//0xwydl+QpdEClsbHoa7X1AkWZA5F53f4TIWEwAAaRE8kJuHrgAAAAAASU"
    "VORK5CYII="
)


def request_examples(model: Model) -> dict[str, dict[str, Any]]:
    """The examples of each request schema, by the schema's name, for a service whose default model is `model`."""
    autoencoder = model.autoencoder
    latent_dim = autoencoder.contract.latent_dim
    samples = {
        "seeded": _example("Four images that the same seed makes again", n=4, seed=1),
        "defaults": _example("Sixteen images, every option at its default"),
    }
    if autoencoder.labels:
        samples["label"] = _example("Eight images of one label", n=8, label=autoencoder.labels[-1])
    return {
        "ImageRequest": {
            "digit": _example("One picture", images=[DIGIT]),
            "draw": _example(
                "Two pictures, each with a draw from its posterior", images=[DIGIT] * 2, sample=True, seed=1
            ),
            "photo": _example(
                "A picture whose digit is to be found, and what the model sees of it",
                images=[DIGIT],
                preprocess="digit",
                preview=True,
            ),
        },
        "SampleRequest": samples,
        "DecodeRequest": {
            "centre": _example("The latent in the middle of the normal prior", z=[[0.0] * latent_dim]),
            "line": _example(
                "Three latents on a line", z=[[value] + [0.0] * (latent_dim - 1) for value in (-2.0, 0.0, 2.0)]
            ),
        },
    }


def _example(summary: str, **value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}
