"""Between tensors and pictures or scores. Pure: no call, no clock, no state.

Raw contents are little-endian and row-major; each element of a BYTES tensor stands after its length in four bytes
(Open Inference Protocol V2, "Raw Tensor Contents").
"""

import array
import itertools
import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cifarserve.inference import open_inference_pb2 as pb
from models.preprocessing import CHANNELS, IMAGE_BYTES, IMAGE_SHAPE, IMAGE_SIZE_PX
from server.decoding import EncodedPicture, Picture, PlanarPicture, RawPicture
from server.engines import Scores
from server.errors import InvalidArgument
from server.images import PLANAR_BYTES

INPUT = "image"
OUTPUT = "probabilities"
_PLANAR_SHAPE = (CHANNELS, IMAGE_SIZE_PX, IMAGE_SIZE_PX)
_LENGTH = struct.Struct("<I")
_Tensor = pb.ModelInferRequest.InferInputTensor
_Parameters = Mapping[str, pb.InferParameter]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the elements of pictures of fixed size are sent, raw or typed.

    Attributes:
        shape: of one picture.
        size_bytes: of one picture, raw.
        typed: returns the repeated field that holds the values of this datatype.
        make: returns the picture of raw bytes.
        pack: returns raw bytes of typed values.
    """

    shape: tuple[int, ...]
    size_bytes: int
    typed: Callable[[pb.InferTensorContents], Sequence[float]]
    make: Callable[[bytes], Picture]
    pack: Callable[[Sequence[float]], bytes]


def to_pictures(request: pb.ModelInferRequest, *, is_encoded: bool, max_images: int) -> Iterator[Picture]:
    """Yield the pictures of a request; what is wrong with the tensor as a whole is raised before the first.

    Args:
        request: with exactly one input, whose contents are raw or typed.
        is_encoded: whether JPEG or PNG files are expected, or pixels.
        max_images: how many pictures a request may have.

    Raises:
        InvalidArgument: names, datatype, shape or size are not those of the model's input.
    """
    tensor = _only_input(request)
    count = _count(tensor, is_encoded=is_encoded)
    if not 1 <= count <= max_images:
        raise InvalidArgument(f"input {INPUT!r}: expected 1 to {max_images} images, got {count}")
    if is_encoded:
        return map(EncodedPicture, _raw_elements(request, count) or _typed_elements(tensor, count))
    return _fixed_size_pictures(request, tensor, count)


def is_typed(request: pb.ModelInferRequest) -> bool:
    """Return whether the elements came one by one, which takes long to read."""
    return not request.raw_input_contents


def to_class_count(request: pb.ModelInferRequest) -> int:
    """Return how many classes are wanted as text for each picture; 0: the probabilities are.

    Raises:
        InvalidArgument: an output that the model does not have, or one that is asked for twice.
    """
    names = [output.name for output in request.outputs]
    if names not in ([], [OUTPUT]):
        raise InvalidArgument(f"outputs: expected {OUTPUT!r}, got {', '.join(map(repr, names))[:200]}")
    for output in request.outputs:
        _refuse_shared_memory(f"output {OUTPUT!r}", output.parameters)
        count = to_integer(output.parameters, "classification")
        if count < 0:
            raise InvalidArgument(f"classification: expected a number from 0, got {count}")
        return count
    return 0


def to_integer(parameters: _Parameters, name: str) -> int:
    """Return an integer parameter, 0 when there is none.

    Raises:
        InvalidArgument: it is no integer.
    """
    if name not in parameters:
        return 0
    parameter = parameters[name]
    choice = parameter.WhichOneof("parameter_choice")
    if choice not in ("int64_param", "uint64_param"):
        raise InvalidArgument(f"parameter {name!r}: expected an integer, got {choice or 'nothing'}")
    return int(getattr(parameter, choice))


def to_raw_probabilities(scores: Sequence[Scores], *, labels: int) -> bytes:
    """Return a raw FP32 tensor of shape (len(scores), labels), in the order of the labels."""
    values = [0.0] * (len(scores) * labels)
    for start, picture in zip(itertools.count(0, labels), scores, strict=False):
        for index, probability in zip(picture.indices, picture.probabilities, strict=True):
            values[start + index] = probability
    return struct.pack(f"<{len(values)}f", *values)


def to_raw_classes(scores: Sequence[Scores], labels: Sequence[str], *, count: int) -> bytes:
    """Return a raw BYTES tensor of shape (len(scores), count) of "probability:index:label", best first."""
    elements = [
        f"{picture.probabilities[rank]:.6f}:{picture.indices[rank]}:{labels[picture.indices[rank]]}".encode()
        for picture in scores
        for rank in range(count)
    ]
    return b"".join([part for element in elements for part in (_LENGTH.pack(len(element)), element)])


def _only_input(request: pb.ModelInferRequest) -> _Tensor:
    names = [tensor.name for tensor in request.inputs]
    if names != [INPUT]:
        raise InvalidArgument(f"inputs: expected {INPUT!r}, got {', '.join(map(repr, names))[:200] or 'none'}")
    [tensor] = request.inputs
    _refuse_shared_memory(f"input {INPUT!r}", tensor.parameters)
    if len(request.raw_input_contents) > 1:
        raise InvalidArgument(
            f"raw_input_contents: expected one entry per input, got {len(request.raw_input_contents)}"
        )
    if request.raw_input_contents and tensor.HasField("contents"):
        raise InvalidArgument(f"input {INPUT!r}: expected raw_input_contents or contents, got both")
    return tensor


def _refuse_shared_memory(what: str, parameters: _Parameters) -> None:
    if "shared_memory_region" in parameters:
        raise InvalidArgument(f"{what}: expected its elements in the message: shared memory is not supported")


def _count(tensor: _Tensor, *, is_encoded: bool) -> int:
    """Return how many pictures a tensor of the right datatype and shape has."""
    shape = tuple(tensor.shape)
    if is_encoded:
        if tensor.datatype == "BYTES" and len(shape) in (1, 2) and shape[1:] in ((), (1,)):
            return shape[0]
        raise _unexpected("BYTES [n,1] or [n]", tensor)
    layout = _LAYOUTS.get(tensor.datatype)
    if layout and len(shape) == 1 + len(layout.shape) and shape[1:] == layout.shape:
        return shape[0]
    raise _unexpected(" or ".join(f"{name} {_text(('n', *each.shape))}" for name, each in _LAYOUTS.items()), tensor)


def _unexpected(expected: str, tensor: _Tensor) -> InvalidArgument:
    got = f"{tensor.datatype[:20] or 'no datatype'} {_text(tensor.shape[:8])}"
    return InvalidArgument(f"input {INPUT!r}: expected {expected}, got {got}")


def _text(shape: Sequence[int | str]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _fixed_size_pictures(request: pb.ModelInferRequest, tensor: _Tensor, count: int) -> Iterator[Picture]:
    layout = _LAYOUTS[tensor.datatype]
    if request.raw_input_contents:
        [raw] = request.raw_input_contents
        size = layout.size_bytes
        if len(raw) != count * size:
            wanted = f"{count * size} bytes ({tensor.datatype} {_text(tensor.shape)})"
            raise InvalidArgument(f"input {INPUT!r}: expected {wanted}, got {len(raw)}")
        return (layout.make(raw[start : start + size]) for start in range(0, len(raw), size))
    values, size = layout.typed(tensor.contents), math.prod(layout.shape)
    if len(values) != count * size:
        wanted = f"{count * size} values of {tensor.datatype} in contents"
        raise InvalidArgument(f"input {INPUT!r}: expected {wanted}, or raw_input_contents, got {len(values)}")
    return (layout.make(layout.pack(values[start : start + size])) for start in range(0, len(values), size))


def _raw_elements(request: pb.ModelInferRequest, count: int) -> list[bytes]:
    """Return the elements of a raw BYTES tensor; none when the contents are typed."""
    elements: list[bytes] = []
    for raw in request.raw_input_contents:
        start = 0
        for number in range(1, count + 1):
            if len(raw) - start < _LENGTH.size:
                raise InvalidArgument(f"input {INPUT!r}: expected {count} elements, got {number - 1}")
            [length] = _LENGTH.unpack_from(raw, start)
            start += _LENGTH.size
            if length > len(raw) - start:
                left = len(raw) - start
                raise InvalidArgument(f"input {INPUT!r}: element {number} has {length} bytes, but {left} are left")
            elements.append(raw[start : start + length])
            start += length
        if start < len(raw):
            raise InvalidArgument(f"input {INPUT!r}: {len(raw) - start} bytes after element {count}, the last one")
    return elements


def _typed_elements(tensor: _Tensor, count: int) -> Sequence[bytes]:
    elements = tensor.contents.bytes_contents
    if len(elements) != count:
        raise InvalidArgument(
            f"input {INPUT!r}: expected {count} elements in bytes_contents, or raw_input_contents, got {len(elements)}"
        )
    return elements


def _pack_bytes(values: Sequence[float]) -> bytes:
    try:
        return bytes(values)  # type: ignore[arg-type]  # those of this datatype are integers
    except ValueError:
        raise InvalidArgument(f"input {INPUT!r}: expected UINT8 values from 0 to 255, got {max(values)}") from None


def _pack_floats(values: Sequence[float]) -> bytes:
    packed = array.array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


_LAYOUTS = {
    "UINT8": _Layout(IMAGE_SHAPE, IMAGE_BYTES, lambda contents: contents.uint_contents, RawPicture, _pack_bytes),
    "FP32": _Layout(_PLANAR_SHAPE, PLANAR_BYTES, lambda contents: contents.fp32_contents, PlanarPicture, _pack_floats),
}
