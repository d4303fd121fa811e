"""Media files that lie, break off, explode or are something else: the same ones each time."""

from __future__ import annotations

import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image

Hostile = dict[str, tuple[str, bytes]]
"""Name -> (medium that the file claims to be, its bytes)."""

TRUNCATIONS = (0.01, 0.1, 0.3, 0.5, 0.75, 0.95, 0.999)
FLIP_SEEDS = range(8)
_HUGE = 16_384


def corpus() -> Hostile:
    """More than 200 files, none of which is what a decoder hopes for."""
    videos, images = good_videos(), good_images()
    found: Hostile = {}
    for name, data in [*videos.items(), *images.items()]:
        medium = "video" if name in videos else "image"
        for share in TRUNCATIONS:
            found[f"{name} cut at {share}"] = medium, data[: int(len(data) * share)]
        for seed in FLIP_SEEDS:
            found[f"{name} with flipped bits {seed}"] = medium, _flipped(data, seed)
        found[f"{name} with a hole"] = medium, _with_hole(data)
        found[f"{name} without its head"] = medium, data[len(data) // 8 :]
        found[f"{name} under a wrong name"] = "image" if medium == "video" else "video", data
    found |= {name: ("video", data) for name, data in _lying_mp4(videos["h264.mp4"])}
    found |= {name: ("video", data) for name, data in _lying_videos(videos)}
    found |= {name: ("image", data) for name, data in _lying_images(images)}
    for name, data in _other_things():
        found[f"{name} as a video"], found[f"{name} as an image"] = ("video", data), ("image", data)
    return found


def good_videos() -> dict[str, bytes]:
    """Twenty frames of 96x64 in several containers and codecs."""
    return {
        f"{codec}.{container}": _video(container, library, pixel_format)
        for codec, container, library, pixel_format in [
            ("h264", "mp4", "libx264", "yuv420p"),
            ("h264", "matroska", "libx264", "yuv420p"),
            ("mpeg4", "avi", "mpeg4", "yuv420p"),
            ("h264", "mpegts", "libx264", "yuv420p"),
            ("vp9", "webm", "libvpx-vp9", "yuv420p"),
            ("mjpeg", "mov", "mjpeg", "yuvj420p"),
        ]
    }


def good_images() -> dict[str, bytes]:
    """One picture of 96x64 in several formats."""
    return {f"picture.{kind.lower()}": _image(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")}


def _frames(num_frames: int) -> Iterator[np.ndarray]:
    picture = np.random.default_rng(5).integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return (np.roll(picture, (t, 2 * t), (0, 1)) for t in range(num_frames))


def _video(container: str, codec: str, pixel_format: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        # x264's slower presets do not give the same bytes each time.
        options = {"g": "8"} | ({"preset": "ultrafast"} if codec == "libx264" else {})
        stream = output.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        stream.codec_context.thread_count = 1
        for pixels in _frames(20):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            output.mux(stream.encode(frame.reformat(format=pixel_format, threads=1)))
        output.mux(stream.encode())
    return file.getvalue()


def _image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(next(_frames(1))).save(file, kind)
    return file.getvalue()


def _flipped(data: bytes, seed: int) -> bytes:
    """One bit in about every 200 bytes changed, at least four."""
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, len(damaged), max(4, len(damaged) // 200))
    damaged[places] ^= np.uint8(1) << rng.integers(0, 8, len(places)).astype(np.uint8)
    return damaged.tobytes()


def _with_hole(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


def _lying_mp4(good: bytes) -> Iterator[tuple[str, bytes]]:
    """An MP4 file whose index says what is not so."""

    def changed(atom: bytes, offset: int, value: bytes) -> bytes:
        return _changed(good, atom, offset, value)

    most = struct.pack(">I", 2**32 - 1)
    yield "an mp4 without its index", good.replace(b"moov", b"wide")
    yield "an mp4 without its pictures", good[: good.index(b"mdat") - 4] + good[good.index(b"moov") - 4 :]
    yield "an mp4 with an endless number of frames", changed(b"stsz", 12, most)
    yield (
        "an mp4 with an endless number of equal frames",
        changed(b"stsz", 8, struct.pack(">II", 1, 2**32 - 1)),
    )
    yield "an mp4 with frames of 4 GB", changed(b"stsz", 16, most * 20)
    yield "an mp4 with an endless time table", changed(b"stts", 12, most)
    yield "an mp4 with an endless table of times", changed(b"stts", 8, most)
    yield "an mp4 with an endless table of chunks", changed(b"stco", 8, most)
    yield "an mp4 whose chunks lie beyond its end", changed(b"stco", 12, most)
    yield "an mp4 with endless chunks", changed(b"stsc", 16, most)
    yield "an mp4 of 16k x 16k", changed(b"avc1", 28, struct.pack(">HH", _HUGE, _HUGE))
    yield "an mp4 of no size", changed(b"avc1", 28, struct.pack(">HH", 0, 0))
    yield "an mp4 of 4 billion seconds", changed(b"mdhd", 20, most)
    yield "an mp4 without a time scale", changed(b"mdhd", 12, bytes(4))
    yield "an mp4 whose first atom is endless", most + good[4:]
    yield "an mp4 of another codec", good.replace(b"avc1", b"hvc1")
    yield "an mp4 of an unknown codec", good.replace(b"avc1", b"zzzz")
    yield "an mp4 whose picture says that it is sound", good.replace(b"vide", b"soun")
    yield "an mp4 within an mp4", good[: good.index(b"mdat") + 4] + good + good[good.index(b"mdat") + 4 :]
    yield (
        "a thousand nested atoms",
        b"".join(struct.pack(">I4s", 8 * (1000 - n), b"moov") for n in range(1000)),
    )


def _lying_videos(videos: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    mov, avi = videos["mjpeg.mov"], videos["mpeg4.avi"]
    pieces = mov.split(b"\xff\xc0")
    huge = struct.pack(">HBHH", 17, 8, _HUGE, _HUGE)
    yield (
        "a mov whose pictures are 16k x 16k",
        b"\xff\xc0".join([pieces[0], *(huge + p[7:] for p in pieces[1:])]),
    )
    yield (
        "an avi that is cut and promises 2 billion frames",
        _changed(avi[: len(avi) * 2 // 3], b"avih", 24, b"\xff\xff\xff\x7f"),
    )
    yield "a y4m of 16k x 16k", b"YUV4MPEG2 W16384 H16384 F25:1 C420\nFRAME\n" + bytes(1 << 20)
    yield "a y4m of endless empty frames", b"YUV4MPEG2 W2 H2 F25:1 C420\n" + b"FRAME\n" * 100_000
    yield "a y4m of endless frames", b"YUV4MPEG2 W2 H2 F25:1 C420\n" + (b"FRAME\n" + bytes(6)) * 600_000


def _changed(data: bytes, atom: bytes, offset: int, value: bytes) -> bytes:
    """`value` written so many bytes behind the first byte of an atom's name."""
    place = data.index(atom) + offset
    return data[:place] + value + data[place + len(value) :]


def _lying_images(images: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    jpeg, gif = images["picture.jpeg"], images["picture.gif"]
    sof = jpeg.index(b"\xff\xc0")
    yield "a jpeg of 65k x 65k", jpeg[: sof + 5] + b"\xff\xff\xff\xff" + jpeg[sof + 9 :]
    yield (
        "a jpeg of 4k x 4k that ends early",
        jpeg[: sof + 5] + struct.pack(">HH", 3999, 3999) + jpeg[sof + 9 :],
    )
    yield "a jpeg of no size", jpeg[: sof + 5] + bytes(4) + jpeg[sof + 9 :]
    yield "a jpeg with a thousand restarts", jpeg[:2] + b"\xff\xdd\x00\x04\x00\x01" * 1000 + jpeg[2:]
    yield "a png of 16k x 16k", _png(_HUGE, _HUGE, b"")
    yield "a png of 16k x 16k that has its pixels", _png(_HUGE, _HUGE, bytes(1 << 20))
    yield "a png of 2 billion x 1", _png(2**31 - 1, 1, b"")
    yield "a png of 8k x 7k that is empty", _png(8000, 7999, b"")
    yield "a png bomb", _png(4000, 4000, bytes(4000 * 4001))
    yield "a png with a text bomb", _png(4, 4, bytes(20), b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 28)))
    yield (
        "a png with a profile bomb",
        _png(4, 4, bytes(20), b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 28))),
    )
    yield "a gif of 65k x 65k", gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    yield "a gif of a hundred thousand pictures", gif[:-1] + gif[gif.index(b",") : -1] * 10_000 + b";"
    yield (
        "a bmp of 2 billion x 2 billion",
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 2**31 - 1, 2**31 - 1) + bytes(64),
    )
    yield "a tiff whose directory is its own next", b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(64)


def _png(width: int, height: int, pixels: bytes, name: bytes = b"", extra: bytes = b"") -> bytes:
    """An 8-bit grey PNG; `pixels` are rows with their filter bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    more = chunk(name, extra) if name else b""
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def _other_things() -> Iterator[tuple[str, bytes]]:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as output:
        output.setparams((1, 2, 8000, 0, "NONE", ""))
        output.writeframes(bytes(16_000))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 24))
    yield "nothing", b""
    yield "one byte", b"\0"
    yield "zeros", bytes(100_000)
    yield "noise", np.random.default_rng(0).bytes(100_000)
    yield "a page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "a drawing", b"<svg xmlns='http://www.w3.org/2000/svg' width='9999999' height='9999999'/>"
    yield "sound", sound.getvalue()
    yield "a zip bomb", bomb.getvalue()
    yield "a playlist of this machine's files", b"ffconcat version 1.0\nfile /proc/self/environ\n"
    yield (
        "a stream's playlist",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    )
    yield (
        "a session's description",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    )
    yield "subtitles", b"1\n00:00:00,000 --> 99:59:59,999\nhello\n" * 1000
    yield "a Postscript program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\nloop\n"
