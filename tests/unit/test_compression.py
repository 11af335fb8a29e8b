"""image/compression: every format in any chunking, in bounded pieces, and bombs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random

import pytest
import zstandard

from rootless.image import compression
from rootless.image.compression import CompressionError, decompress

DATA = random.Random(1).randbytes(600_000) + bytes(3_000_000) + random.Random(2).randbytes(1000)
HALF = len(DATA) // 2
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


STREAMS = {
    "none": DATA,
    "gzip": gzip.compress(DATA, 1),
    "gzip members": gzip.compress(DATA[:HALF], 1) + gzip.compress(DATA[HALF:], 1),
    "gzip padding": gzip.compress(DATA, 1) + bytes(700),
    "zstd": zstd(DATA),
    "zstd frames": SKIPPABLE + zstd(DATA[:HALF]) + SKIPPABLE + zstd(DATA[HALF:]) + SKIPPABLE,
    "xz": lzma.compress(DATA, preset=0),
    "bzip2": bz2.compress(DATA[:HALF]) + bz2.compress(DATA[HALF:]),
}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [997, 70_000, 1 << 30])
@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_comes_out_whole(name: str, size: int) -> None:
    pieces = list(decompress(cut(STREAMS[name], size), limit=len(DATA)))
    assert b"".join(pieces) == DATA
    assert name == "none" or max(map(len, pieces)) <= compression.PIECE


@pytest.mark.parametrize("name", ["gzip", "gzip members", "xz", "bzip2"])
def test_a_truncated_stream_is_an_error(name: str) -> None:
    with pytest.raises(CompressionError, match="truncated"):
        list(decompress(cut(STREAMS[name][:-9], 5000), limit=len(DATA)))


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
def test_a_damaged_stream_is_an_error(name: str) -> None:
    damaged = bytearray(STREAMS[name])
    damaged[6:46] = b"\xff" * 40
    with pytest.raises(CompressionError, match="damaged"):
        list(decompress([bytes(damaged)], limit=len(DATA)))


@pytest.mark.parametrize("name", STREAMS)
def test_no_more_than_the_limit_comes_out(name: str) -> None:
    out = 0
    with pytest.raises(CompressionError, match="more than 1000000 bytes"):
        for piece in decompress(cut(STREAMS[name], 100_000), limit=1_000_000):
            out += len(piece)
    assert out <= 1_000_000


def test_the_limit_lets_real_layers_pass_and_stops_bombs() -> None:
    assert compression.limit_for(50 << 20) > 5 * (50 << 20)
    assert compression.limit_for(10 << 30) < 1032 * (10 << 30)


def test_nothing_makes_nothing() -> None:
    assert list(decompress([], limit=0)) == []
    assert list(decompress([b"", b"\x1f"], limit=10)) == [b"\x1f"]
