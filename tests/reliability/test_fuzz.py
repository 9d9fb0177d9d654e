"""Whatever comes in, one of a few statuses goes out, and nothing of the inside."""

import asyncio
import collections
import random
import re
from collections.abc import Iterable

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cifarserve.inference import open_inference_pb2 as v2
from cifarserve.v1 import classifier_pb2 as pb
from tests.reliability.conftest import Figure, Scale, SharedServer
from tests.reliability.load import ONE_PICTURE

_CLASSIFIER = "/cifarserve.v1.ClassifierService/"
_OPEN_INFERENCE = "/inference.GRPCInferenceService/"
_UNARY = (
    f"{_CLASSIFIER}Predict",
    f"{_CLASSIFIER}ListModels",
    f"{_CLASSIFIER}GetModel",
    f"{_CLASSIFIER}Guess",
    f"{_OPEN_INFERENCE}ModelInfer",
    f"{_OPEN_INFERENCE}ModelReady",
    f"{_OPEN_INFERENCE}ModelMetadata",
    f"{_OPEN_INFERENCE}ModelConfig",
    f"{_OPEN_INFERENCE}ModelStatistics",
    f"{_OPEN_INFERENCE}RepositoryIndex",
    f"{_OPEN_INFERENCE}SystemSharedMemoryStatus",
    "/grpc.health.v1.Health/Check",
    "/nowhere.Service/Method",
)
_STREAMS = (
    f"{_CLASSIFIER}PredictStream",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    f"{_OPEN_INFERENCE}ModelStreamInfer",
)
_ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
_INTERNALS = re.compile(r"Traceback|File \"|\.py|0x[0-9a-f]{6}|site-packages|Exception|Error\b|/work|/home|/usr")
_AT_ONCE = 32

Case = tuple[str, bytes]


def _images() -> st.SearchStrategy[pb.Image]:
    return st.one_of(
        st.builds(pb.Image, rgb=st.one_of(st.binary(max_size=64), st.just(bytes(3072)))),
        st.tuples(st.sampled_from(_HEADS), st.binary(max_size=300)).map(
            lambda parts: pb.Image(encoded=b"".join(parts))
        ),
        st.just(pb.Image()),
    )


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()


_HEADS = (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1Exif\0\0", b"GIF89a", b"II*\0")
_names = st.one_of(st.just(""), st.just("quick"), st.text(max_size=80), st.just("../../etc/passwd"))
_versions = st.one_of(st.just(0), st.integers(-(2**63), 2**63 - 1))
_predict = st.builds(
    pb.PredictRequest,
    model=_names,
    version=_versions,
    images=st.lists(_images(), max_size=5),
    top_k=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    id=st.text(max_size=50),
)
_shapes = st.one_of(
    st.sampled_from([(1, 32, 32, 3), (2, 3, 32, 32), (1, 1), (2,), ()]),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6),
)
_parameters = st.dictionaries(
    st.sampled_from(["timeout", "priority", "classification", "shared_memory_region", "own"]),
    st.one_of(
        st.builds(v2.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
        st.builds(v2.InferParameter, string_param=st.text(max_size=20)),
        st.just(v2.InferParameter()),
    ),
    max_size=3,
)
_contents = st.builds(
    v2.InferTensorContents,
    uint_contents=st.sampled_from([[], [0] * 3072, [2**32 - 1] * 3072]),
    fp32_contents=st.sampled_from([[], [0.5] * 6144, [float("nan")] * 6144]),
    bytes_contents=st.lists(st.binary(max_size=40), max_size=3),
)
_tensors = st.builds(
    v2.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["image", "image", "image", "mask", ""]),
    datatype=st.sampled_from(["UINT8", "FP32", "BYTES", "FP16", "", "uint8"]),
    shape=_shapes,
    parameters=st.one_of(st.just({}), _parameters),
    contents=st.one_of(st.none(), _contents),
)
_infer = st.builds(
    v2.ModelInferRequest,
    model_name=st.one_of(st.sampled_from(["", "quick", "quick_encoded"]), _names),
    model_version=st.one_of(st.just(""), st.text(max_size=30)),
    id=st.text(max_size=50),
    parameters=_parameters,
    inputs=st.one_of(st.lists(_tensors, min_size=1, max_size=1), st.lists(_tensors, max_size=3)),
    outputs=st.lists(
        st.builds(
            v2.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["probabilities", "logits"]),
            parameters=_parameters,
        ),
        max_size=2,
    ),
    raw_input_contents=st.lists(
        st.one_of(st.binary(max_size=100), st.just(bytes(3072)), st.just(bytes(24576))), max_size=2
    ),
)
_well_formed: st.SearchStrategy[Case] = st.one_of(
    st.tuples(st.sampled_from([_UNARY[0], _STREAMS[0]]), _predict.map(_to_bytes)),
    st.tuples(st.sampled_from([f"{_OPEN_INFERENCE}ModelInfer", _STREAMS[2]]), _infer.map(_to_bytes)),
    st.tuples(
        st.sampled_from([f"{_OPEN_INFERENCE}Model{what}" for what in ("Ready", "Metadata", "Config", "Statistics")]),
        st.builds(v2.ModelReadyRequest, name=_names, version=st.text(max_size=30)).map(_to_bytes),
    ),
    st.tuples(
        st.just(f"{_CLASSIFIER}GetModel"),
        st.builds(pb.GetModelRequest, name=_names, version=_versions).map(_to_bytes),
    ),
    st.tuples(
        st.just("/grpc.health.v1.Health/Check"),
        st.builds(health_pb2.HealthCheckRequest, service=_names).map(_to_bytes),
    ),
    st.tuples(
        st.just(_STREAMS[1]),
        st.builds(reflection_pb2.ServerReflectionRequest, file_containing_symbol=_names).map(_to_bytes),
    ),
)


def structured_cases(count: int) -> list[Case]:
    """Messages that can be parsed, with any values in their fields."""
    cases: list[Case] = []

    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate])
    @given(case=_well_formed)
    def collect(case: Case) -> None:
        cases.append(case)

    collect()
    return cases


def random_cases(count: int) -> list[Case]:
    """Random bytes, and messages with some bytes changed, cut off or put twice."""
    valid = ONE_PICTURE.SerializeToString()
    return [(random.choice(_UNARY + _STREAMS), _random_bytes(valid)) for _ in range(count)]


def _random_bytes(valid: bytes) -> bytes:
    kind = random.randrange(4)
    if kind == 0:
        return random.randbytes(random.randrange(400))
    data = bytearray(valid)
    for _ in range(random.randrange(1, 8)):
        data[random.randrange(min(len(data), 24 if kind == 1 else len(data)))] = random.randrange(256)
    return bytes(data[: random.randrange(len(data))] if kind == 3 else data)


class Fuzzer:
    """Sends cases and keeps what came back."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.codes: collections.Counter[grpc.StatusCode] = collections.Counter()
        self.surprises: list[tuple[str, bytes, grpc.StatusCode, str]] = []
        self._channel = channel

    async def send_all(self, cases: Iterable[Case]) -> None:
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(case: Case) -> None:
            async with turn:
                await self._send(*case)

        await asyncio.gather(*map(one, cases))

    async def _send(self, method: str, body: bytes) -> None:
        code, details = grpc.StatusCode.OK, ""
        try:
            if method in _STREAMS:
                stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(method)
                async for answer in stream(iter([body]), timeout=30):
                    if method == _STREAMS[0]:
                        details += pb.PredictResponse.FromString(answer).error.message
                    if method == _STREAMS[2]:
                        details += v2.ModelStreamInferResponse.FromString(answer).error_message
            else:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
                await call(body, timeout=30)
        except grpc.aio.AioRpcError as exc:
            code, details = exc.code(), exc.details() or ""
        self.codes[code] += 1
        if code not in _ALLOWED or _INTERNALS.search(details):
            self.surprises.append((method, body[:100], code, details))


async def test_no_request_does_harm(server: SharedServer, scale: Scale, figure: Figure) -> None:
    """T16. Random messages and random bytes to every RPC: only the caller's statuses, no internals, no crash."""
    each = scale.choose(short=200, full=5_000)
    cases = structured_cases(each) + random_cases(each)
    async with grpc.aio.insecure_channel(server.address) as channel:
        fuzzer = Fuzzer(channel)
        await fuzzer.send_all(cases)
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_UNARY[0])
        alive = pb.PredictResponse.FromString(await call(ONE_PICTURE.SerializeToString(), timeout=30))

    assert fuzzer.surprises == []
    assert len(alive.results) == 1
    assert server.metric("cifarserve_engine_restarts_total") == 0
    assert server.metric("cifarserve_requests_total", code="INTERNAL") == 0
    figure(
        promise="no request, however malformed, crashes the server or shows its inside",
        tested=f"{len(cases):,} cases to every RPC: hypothesis for structure, random bytes for the rest",
        value="0 crashes; " + ", ".join(f"{code.name} {count:,}" for code, count in fuzzer.codes.most_common()),
    )
