"""From pictures to a request that the server accepts. Pure; knows the contract and its limits, no connection."""

from collections.abc import Sequence
from dataclasses import dataclass

from cifarserve.v1 import classifier_pb2 as pb
from client.errors import InvalidRequest

MAX_REQUEST_BYTES = 8 * 2**20  # what the server's --max-message-bytes takes by default
MAX_PICTURE_BYTES = MAX_REQUEST_BYTES - 1024  # leaves room for the rest of the request

_RGB_BYTES = 32 * 32 * 3


@dataclass(frozen=True, slots=True)
class RawRgb:
    """A picture as pixels: 32 rows of 32 pixels of red, green and blue, 8 bits each (HWC).

    Raises:
        InvalidRequest: `data` is not 3072 bytes.
    """

    data: bytes

    def __post_init__(self) -> None:
        """Check the size."""
        if len(self.data) != _RGB_BYTES:
            raise InvalidRequest(f"expected {_RGB_BYTES} bytes (32x32 RGB), got {len(self.data)}")


Image = bytes | RawRgb  # bytes are a JPEG or PNG file, of any width and height


def to_request(
    images: Sequence[Image], *, model: str, version: int, top_k: int, request_id: str = ""
) -> pb.PredictRequest:
    """Return the message that asks to classify `images`.

    Raises:
        InvalidRequest: the message would be larger than `MAX_REQUEST_BYTES`.
    """
    request = pb.PredictRequest(model=model, version=version, top_k=top_k, id=request_id)
    for image in images:  # added in place: a message that is built first would be copied into its parent
        if isinstance(image, RawRgb):
            request.images.add().rgb = image.data
        else:
            request.images.add().encoded = image
    if request.ByteSize() > MAX_REQUEST_BYTES:
        raise InvalidRequest(
            f"expected at most {MAX_REQUEST_BYTES:,} bytes in a request, got {request.ByteSize():,}:"
            " send fewer pictures at once"
        )
    return request
