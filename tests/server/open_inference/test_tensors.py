import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifarserve.inference import open_inference_pb2 as pb
from server.decoding import EncodedPicture, Picture, PlanarPicture, RawPicture
from server.engines import Scores
from server.errors import InvalidArgument
from server.open_inference import tensors

PIXELS = bytes(range(256)) * 12
FLOATS = np.linspace(0, 1, 3072, dtype="<f4").tobytes()
Tensor = pb.ModelInferRequest.InferInputTensor


def raw(datatype: str, shape: Sequence[int], *contents: bytes) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        inputs=[Tensor(name="image", datatype=datatype, shape=shape)], raw_input_contents=contents
    )


def typed(datatype: str, shape: Sequence[int], contents: pb.InferTensorContents) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        inputs=[Tensor(name="image", datatype=datatype, shape=shape, contents=contents)],
    )


def to_pictures(request: pb.ModelInferRequest, *, is_encoded: bool = False) -> list[Picture]:
    return list(tensors.to_pictures(request, is_encoded=is_encoded, max_images=8))


def prefixed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@pytest.mark.parametrize(
    "request_message",
    [
        raw("UINT8", (2, 32, 32, 3), PIXELS + PIXELS),
        typed("UINT8", (2, 32, 32, 3), pb.InferTensorContents(uint_contents=PIXELS + PIXELS)),
    ],
)
def test_pixels_are_cut_into_pictures(request_message: pb.ModelInferRequest) -> None:
    """Raw or value by value, each 3072 bytes are one picture."""
    assert to_pictures(request_message) == [RawPicture(PIXELS)] * 2


@pytest.mark.parametrize(
    "request_message",
    [
        raw("FP32", (2, 3, 32, 32), FLOATS + FLOATS),
        typed(
            "FP32", (2, 3, 32, 32), pb.InferTensorContents(fp32_contents=np.frombuffer(FLOATS + FLOATS, "<f4").tolist())
        ),
    ],
)
def test_floats_are_cut_into_planar_pictures(request_message: pb.ModelInferRequest) -> None:
    """Raw or value by value, each 3072 floats are one picture."""
    assert to_pictures(request_message) == [PlanarPicture(FLOATS)] * 2


@pytest.mark.parametrize(
    "request_message",
    [
        raw("BYTES", (2, 1), prefixed(b"one", b"")),
        raw("BYTES", (2,), prefixed(b"one", b"")),
        typed("BYTES", (2,), pb.InferTensorContents(bytes_contents=[b"one", b""])),
    ],
)
def test_files_are_elements(request_message: pb.ModelInferRequest) -> None:
    """Each element of a BYTES tensor is a file, whatever is in it."""
    assert to_pictures(request_message, is_encoded=True) == [EncodedPicture(b"one"), EncodedPicture(b"")]


PIXELS_OR_FLOATS = r"expected UINT8 \[n,32,32,3\] or FP32 \[n,3,32,32\], got "


@pytest.mark.parametrize(
    ("request_message", "is_encoded", "message"),
    [
        (pb.ModelInferRequest(), False, "inputs: expected 'image', got none"),
        (
            pb.ModelInferRequest(inputs=[Tensor(name="image"), Tensor(name="mask")]),
            False,
            "inputs: expected 'image', got 'image', 'mask'",
        ),
        (raw("UINT8", (1, 32, 32), PIXELS), False, PIXELS_OR_FLOATS + r"UINT8 \[1,32,32\]"),
        (raw("UINT8", (32, 32, 3), PIXELS), False, PIXELS_OR_FLOATS + r"UINT8 \[32,32,3\]"),
        (raw("UINT8", (1, 3, 32, 32), PIXELS), False, PIXELS_OR_FLOATS + r"UINT8 \[1,3,32,32\]"),
        (raw("FP32", (1, 32, 32, 3), FLOATS), False, PIXELS_OR_FLOATS + r"FP32 \[1,32,32,3\]"),
        (raw("FP16", (1, 3, 32, 32), FLOATS), False, PIXELS_OR_FLOATS + r"FP16 \[1,3,32,32\]"),
        (raw("", (), b""), False, PIXELS_OR_FLOATS + r"no datatype \[\]"),
        (raw("UINT8", (1, 32, 32, 3), PIXELS), True, r"expected BYTES \[n,1\] or \[n\], got UINT8"),
        (raw("BYTES", (1, 2), prefixed(b"")), True, r"expected BYTES \[n,1\] or \[n\], got BYTES \[1,2\]"),
        (raw("UINT8", (0, 32, 32, 3), b""), False, "expected 1 to 8 images, got 0"),
        (raw("UINT8", (-1, 32, 32, 3), PIXELS), False, "expected 1 to 8 images, got -1"),
        (raw("UINT8", (9, 32, 32, 3), PIXELS * 9), False, "expected 1 to 8 images, got 9"),
        (raw("BYTES", (2**62,), prefixed(b"")), True, f"expected 1 to 8 images, got {2**62}"),
        (
            raw("UINT8", (2, 32, 32, 3), PIXELS),
            False,
            r"expected 6144 bytes \(UINT8 \[2,32,32,3\]\), got 3072",
        ),
        (
            raw("FP32", (1, 3, 32, 32), PIXELS),
            False,
            r"expected 12288 bytes \(FP32 \[1,3,32,32\]\), got 3072",
        ),
        (
            typed("UINT8", (1, 32, 32, 3), pb.InferTensorContents(int_contents=PIXELS)),
            False,
            "expected 3072 values of UINT8 in contents, or raw_input_contents, got 0",
        ),
        (
            typed("UINT8", (1, 32, 32, 3), pb.InferTensorContents(uint_contents=[256] * 3072)),
            False,
            "expected UINT8 values from 0 to 255, got 256",
        ),
        (
            typed("BYTES", (2,), pb.InferTensorContents(bytes_contents=[b"one"])),
            True,
            "expected 2 elements in bytes_contents, or raw_input_contents, got 1",
        ),
        (raw("BYTES", (2,), prefixed(b"one")), True, "expected 2 elements, got 1"),
        (raw("BYTES", (1,), b"\x01\x00"), True, "expected 1 elements, got 0"),
        (raw("BYTES", (1,), prefixed(b"one")[:-1]), True, "element 1 has 3 bytes, but 2 are left"),
        (raw("BYTES", (1,), b"\xff\xff\xff\xff"), True, f"element 1 has {2**32 - 1} bytes, but 0 are left"),
        (raw("BYTES", (1,), prefixed(b"one", b"two")), True, "7 bytes after element 1, the last one"),
        (
            raw("UINT8", (1, 32, 32, 3), PIXELS, PIXELS),
            False,
            "raw_input_contents: expected one entry per input, got 2",
        ),
        (
            pb.ModelInferRequest(
                inputs=[
                    Tensor(name="image", datatype="UINT8", shape=(1, 32, 32, 3), contents=pb.InferTensorContents())
                ],
                raw_input_contents=[PIXELS],
            ),
            False,
            "expected raw_input_contents or contents, got both",
        ),
        (
            pb.ModelInferRequest(
                inputs=[
                    Tensor(
                        name="image",
                        datatype="UINT8",
                        shape=(1, 32, 32, 3),
                        parameters={"shared_memory_region": pb.InferParameter(string_param="mine")},
                    )
                ]
            ),
            False,
            "input 'image': expected its elements in the message: shared memory is not supported",
        ),
    ],
)
def test_wrong_tensors_are_refused(request_message: pb.ModelInferRequest, message: str, *, is_encoded: bool) -> None:
    """Each way in which a tensor can be wrong is told with the fact and the expectation."""
    with pytest.raises(InvalidArgument, match=message):
        to_pictures(request_message, is_encoded=is_encoded)


@given(st.binary(max_size=200), st.integers(1, 8))
def test_hostile_bytes_are_refused_or_cut_up(body: bytes, count: int) -> None:
    """Whatever the bytes: as many elements as were promised, which are all of them; or a refusal."""
    try:
        pictures = to_pictures(raw("BYTES", (count,), body), is_encoded=True)
    except InvalidArgument:
        return

    assert len(pictures) == count
    assert prefixed(*(picture.data for picture in pictures)) == body


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_elements_come_back_as_they_were(elements: list[bytes]) -> None:
    """What was put into a BYTES tensor is what comes out, in its order."""
    pictures = to_pictures(raw("BYTES", (len(elements),), prefixed(*elements)), is_encoded=True)

    assert [picture.data for picture in pictures] == elements


def test_probabilities_stand_in_the_order_of_the_labels() -> None:
    """However they are sorted, each probability has the place of its label, little-endian."""
    scores = [Scores([2, 0, 1], [0.5, 0.25, 0.125]), Scores([1, 2, 0], [1.0, 0.0, 0.0])]
    values = np.frombuffer(tensors.to_raw_probabilities(scores, labels=3), "<f4")

    assert values.reshape(2, 3).tolist() == [[0.25, 0.125, 0.5], [0.0, 1.0, 0.0]]


def test_classes_are_text_best_first() -> None:
    """Value with six decimals, index and label, each after its length."""
    scores = [Scores([2, 0, 1], [0.5, 0.25, 0.25])]

    assert tensors.to_raw_classes(scores, ["cat", "dog", "frog"], count=2) == prefixed(
        b"0.500000:2:frog", b"0.250000:0:cat"
    )


def wanted(*names: str, **parameters: pb.InferParameter) -> pb.ModelInferRequest:
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=parameters) for name in names]
    return pb.ModelInferRequest(outputs=outputs)


@pytest.mark.parametrize(
    ("request_message", "count"),
    [
        (wanted(), 0),
        (wanted("probabilities"), 0),
        (wanted("probabilities", classification=pb.InferParameter(int64_param=0)), 0),
        (wanted("probabilities", classification=pb.InferParameter(int64_param=3)), 3),
        (wanted("probabilities", classification=pb.InferParameter(uint64_param=3)), 3),
    ],
)
def test_classes_are_given_when_asked_for(request_message: pb.ModelInferRequest, count: int) -> None:
    """No output, or the only one, gives probabilities; with `classification` so many classes."""
    assert tensors.to_class_count(request_message) == count


@pytest.mark.parametrize(
    ("request_message", "message"),
    [
        (wanted("logits"), "outputs: expected 'probabilities', got 'logits'"),
        (wanted("probabilities", "probabilities"), "outputs: expected 'probabilities', got 'probabilities', 'prob"),
        (wanted("probabilities", classification=pb.InferParameter(int64_param=-1)), "a number from 0, got -1"),
        (
            wanted("probabilities", classification=pb.InferParameter(string_param="3")),
            "parameter 'classification': expected an integer, got string_param",
        ),
        (
            wanted("probabilities", shared_memory_region=pb.InferParameter(string_param="mine")),
            "output 'probabilities': expected its elements in the message: shared memory is not supported",
        ),
    ],
)
def test_wrong_outputs_are_refused(request_message: pb.ModelInferRequest, message: str) -> None:
    """What the model does not give is told, with what it gives."""
    with pytest.raises(InvalidArgument, match=message):
        tensors.to_class_count(request_message)
