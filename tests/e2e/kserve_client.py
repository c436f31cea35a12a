"""Use KServe's client: `python kserve_client.py URL FILE` prints what it got, as JSON.

It runs in an environment with `kserve`, and without the service. FILE is an npz: `images`, uint8 [N, 28, 28], and
`picture`, a PNG file as uint8.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def main(url: str, file: str) -> None:
    """Call what the client has for the protocol."""
    sent = np.load(Path(file))
    images, picture = sent["images"], sent["picture"].tobytes()
    client = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def infer(model: str, name: str, array: Any, datatype: str, *, binary: bool = True, **options: Any) -> Any:
        tensor = InferInput(name, shape=list(array.shape), datatype=datatype, parameters={})
        tensor.set_data_from_numpy(array, binary_data=binary)
        return await client.infer(url, InferRequest(model, [tensor], **options), model_name=model)

    def outputs(answer: Any) -> dict[str, Any]:
        return {output.name: output.as_numpy().tolist() for output in answer.outputs}

    as_bytes = await infer("mnist-mlp.encoder", "image", images, "UINT8", request_id="17")
    in_json = await infer("mnist-mlp.encoder", "image", images, "UINT8", binary=False)
    asked = [RequestedOutput("logvar", {"binary_data": True}), RequestedOutput("mu")]
    mixed = await infer("mnist-mlp.encoder", "image", images, "UINT8", request_outputs=asked)
    all_bytes = await infer("mnist-mlp.encoder", "image", images, "UINT8", parameters={"binary_data_output": True})
    files = np.array([picture], np.object_)
    drawn = {"sample": True, "seed": 3}
    encoded = await infer("mnist-mlp.encode", "pictures", files, "BYTES", parameters=drawn)
    wanted = {"label": 7, "seed": 1, "temperature": 0.5}
    samples = await infer("mnist-mlp.sample", "n", np.array([4]), "INT64", parameters=wanted)
    errors = []
    for model, array in (("mnist-mlp.encoder", images[:, 1:]), ("nobody.encoder", images)):
        try:
            await infer(model, "image", array, "UINT8")
        except httpx.HTTPStatusError as error:
            errors.append([error.response.status_code, str(error)])
    print(
        json.dumps(
            {
                "live": await client.is_server_live(url),
                "ready": await client.is_server_ready(url),
                "models": [await client.is_model_ready(url, model) for model in ("mnist-mlp.encoder", "nobody")],
                "latents": [outputs(answer) for answer in (as_bytes, in_json, mixed, all_bytes)],
                "id": as_bytes.id,
                "z": np.shape(outputs(encoded)["z"]),
                "parameters": [encoded.parameters, samples.parameters],
                "samples": np.shape(outputs(samples)["image"]),
                "errors": errors,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
