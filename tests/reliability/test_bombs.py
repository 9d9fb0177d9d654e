"""Pictures made to exhaust the server are refused at once and cost no memory."""

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import grpc
from PIL import Image

from cifarserve.v1 import classifier_pb2 as pb
from cifarserve.v1 import classifier_pb2_grpc
from tests.reliability.conftest import Figure, Scale, SharedServer
from tests.reliability.load import Tally, predict_call

_REPETITIONS = 5


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 2**20), 1)


def jpeg(size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_many_scans() -> bytes:
    """A progressive JPEG whose last scan comes thousands of times: each costs a walk over the whole picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (4_000_000 // len(data[last:-2])) + data[-2:]


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in range(50)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def other_format(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, name)
    return buffer.getvalue()


def bombs() -> dict[str, bytes]:
    return {
        "PNG of 65,535 x 65,535": png(65_535, 65_535, chunk(b"IDAT", zeros(64))),
        "PNG of 30,000 x 30,000": png(30_000, 30_000, chunk(b"IDAT", zeros(64))),
        "JPEG of 65,500 x 65,500": jpeg_of_size(65_500, 65_500),
        "progressive JPEG of thousands of scans": jpeg_of_many_scans(),
        "animation": animation(),
        # Without pixels: a profile is passed over, not refused, and must not have been unpacked.
        "colour profile of 256 MB": png(32, 32, chunk(b"iCCP", b"bomb\0\0" + zeros(256)), chunk(b"IDAT", b"")),
        "text of 256 MB": png(32, 32, chunk(b"zTXt", b"bomb\0\0" + zeros(256)), chunk(b"IDAT", b"")),
        "truncated JPEG": jpeg((512, 512))[:4000],
        "truncated PNG": png(512, 512, chunk(b"IDAT", zeros(1)[:100])),
        "GIF": other_format("GIF"),
        "BMP": other_format("BMP"),
        "TIFF": other_format("TIFF"),
        "nothing": b"",
        "noise": bytes(range(256)) * 100,
    }


def reset_peak(pid: int) -> float:
    """Forget the process's largest memory so far, and return what it uses now, in MiB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _status_mib(pid, "VmRSS")


def _status_mib(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


async def test_bombs_are_refused_at_once(server: SharedServer, scale: Scale, figure: Figure) -> None:
    """T17. Each hostile picture is INVALID_ARGUMENT within 50 ms and with less than 64 MiB, and the server lives on."""
    hostile, tally = bombs(), Tally()
    slowest_ms, name_of_slowest, largest_mib = 0.0, "", 0.0
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
        await stub.Predict(pb.PredictRequest(images=[pb.Image(encoded=jpeg((512, 512)))]))
        for name, data in hostile.items():
            before = reset_peak(server.pid)
            seconds = []
            for _ in range(_REPETITIONS):
                started = time.perf_counter()
                code = await tally.count(predict_call(channel, pb.PredictRequest(images=[pb.Image(encoded=data)])))
                seconds.append(time.perf_counter() - started)
                assert code is grpc.StatusCode.INVALID_ARGUMENT, name
            if min(seconds) * 1000 > slowest_ms:
                slowest_ms, name_of_slowest = min(seconds) * 1000, name
            largest_mib = max(largest_mib, _status_mib(server.pid, "VmHWM") - before)
        alive = await stub.Predict(pb.PredictRequest(images=[pb.Image(rgb=bytes(3072))]))

    assert len(alive.results) == 1
    assert largest_mib <= 64
    if scale.full:
        assert slowest_ms <= 50
    figure(
        promise="decompression bombs are refused in 50 ms and 64 MiB",
        tested=f"{len(hostile)} kinds: huge sizes, scans, profiles and texts, animations, truncated and foreign files",
        value=f"all INVALID_ARGUMENT; the slowest, {name_of_slowest}, in {slowest_ms:.1f} ms;"
        f" memory at most +{largest_mib:.0f} MiB",
    )


async def test_unusual_pictures_are_answered(server: SharedServer) -> None:
    """T17. What is rare but right is no bomb: CMYK, 16 bits, a palette, a phone's turned photograph."""
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "CMYK": (Image.new("CMYK", (64, 64)), "JPEG", {}),
        "16 bits": (Image.new("I;16", (64, 64)), "PNG", {}),
        "palette": (Image.new("P", (64, 64)), "PNG", {}),
        "turned": (Image.new("RGB", (640, 480)), "JPEG", {"exif": turned.tobytes()}),
        "progressive": (Image.new("RGB", (640, 480)), "JPEG", {"progressive": True}),
    }
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)
        for image, file_format, options in pictures.values():
            buffer = io.BytesIO()
            image.save(buffer, file_format, **options)
            response = await stub.Predict(pb.PredictRequest(images=[pb.Image(encoded=buffer.getvalue())]))

            assert len(response.results[0].predictions) == 1
