"""Runs in the environment of kserve: its gRPC client against a server, the outcome as JSON on standard output.

Called as `python kserve_client.py ADDRESS FOLDER`; FOLDER holds what `conftest.Pictures` says.
"""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

ADDRESS, FOLDER = sys.argv[1], Path(sys.argv[2])
PIXELS = np.load(FOLDER / "pictures.npy")
FILES = [(FOLDER / f"{number}.png").read_bytes() for number in range(len(PIXELS))]


def request(model, tensor):
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="mine")


def raw(values, datatype):
    tensor = InferInput("image", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=True)
    return tensor


async def main():
    floats = np.ascontiguousarray((PIXELS.astype(np.float32) / 255).transpose(0, 3, 1, 2))
    requests = {
        "raw_uint8": request("quick", raw(PIXELS, "UINT8")),
        "raw_fp32": request("quick", raw(floats, "FP32")),
        "raw_bytes": request("quick_encoded", raw(np.array(FILES, dtype=object), "BYTES")),
        "typed_uint8": request("quick", InferInput("image", list(PIXELS.shape), "UINT8", PIXELS.flatten().tolist())),
        "typed_fp32": request("quick", InferInput("image", list(floats.shape), "FP32", floats.flatten().tolist())),
        "typed_bytes": request("quick_encoded", InferInput("image", [len(FILES)], "BYTES", FILES)),
    }
    async with InferenceGRPCClient(ADDRESS) as client:
        outcome = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "models": [await client.is_model_ready(name) for name in ("quick", "quick_encoded", "nobody")],
        }
        for name, made in requests.items():
            answer = await client.infer(made)
            outcome[name] = answer.outputs[0].as_numpy().tolist()
        outcome["id"] = answer.id
        try:
            await client.infer(request("nobody", raw(PIXELS, "UINT8")))
        except grpc.RpcError as exc:
            outcome["failure"] = [exc.code().name, exc.details()]
    json.dump(outcome, sys.stdout)


asyncio.run(main())
