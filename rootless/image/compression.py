"""Decompression of layers as they stream: gzip (RFC 1952), zstd (RFC 8878), and for imports xz and bzip2; nothing is held whole.

What a stream is, is read from its first bytes, as every other engine does: registries hold layers whose media type is wrong, and the
diff id proves the content whatever the wrapping. No step makes more than `PIECE` bytes at once, whatever the input claims, and a stream
stops at `limit` bytes: a bomb costs its sender more than us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Literal, Protocol

from isal import isal_zlib  # inflates three times as fast as zlib, and inflating is what bounds a pull on two cores

from ..errors import Error

Found = Literal["none", "gzip", "zstd", "xz", "bzip2"]

PIECE = 512 << 10
"""Bytes of one decompressed piece, at most."""

ALWAYS_ALLOWED = 4 << 30
"""Bytes that any layer may unpack to, however small it was: images with a sparse or zeroed disk in them are legitimate."""
MAX_RATIO = 200
"""Above that, bytes out for a byte in. Root file systems reach 2 to 5, gzip can 1032, zstd some ten thousand."""

_MAGIC: tuple[tuple[bytes, Found], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_MAGIC_LENGTH = 6
_ZSTD_WINDOW = 1 << 27  # zstd's own default limit (ZSTD_WINDOWLOG_LIMIT_DEFAULT): memory of one stream, at most


class CompressionError(Error):
    """Compressed data is damaged, truncated, or unpacks to more than is allowed."""


def limit_for(compressed_size: int) -> int:
    """Bytes that a layer of `compressed_size` bytes may unpack to."""
    return max(ALWAYS_ALLOWED, compressed_size * MAX_RATIO)


def sniff(head: bytes) -> Found:
    """What the first bytes of a stream (6 are enough) say it is; `none` where they say nothing.

    A zstd stream may begin with a skippable frame (`zstd:chunked` images do): 0x184D2A5? in little endian.
    """
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return next((found for magic, found in _MAGIC if head.startswith(magic)), "none")


def decompress(chunks: Iterable[bytes], *, limit: int) -> Iterator[bytes]:
    """The decompressed stream of `chunks`, in pieces of at most `PIECE` bytes (plain data passes as it comes).

    Raises CompressionError where the data is damaged or ends early, or when more than `limit` bytes come out.
    """
    head, stream = peek(chunks)
    total = 0
    for piece in _reader(sniff(head), stream):
        total += len(piece)
        if total > limit:
            raise CompressionError(f"the layer unpacks to more than {limit} bytes")
        yield piece


def peek(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of a stream, as many as `sniff` wants, and the stream whole."""
    stream = iter(chunks)
    head = b""
    for chunk in stream:
        head += chunk
        if len(head) >= _MAGIC_LENGTH:
            break
    return head, _chain(head, stream)


def read_pieces(file: IO[bytes], size: int = 256 << 10) -> Iterator[bytes]:
    """The rest of a file in pieces of at most `size` bytes."""
    while piece := file.read(size):
        yield piece


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _reader(found: Found, stream: Iterator[bytes]) -> Iterator[bytes]:
    if found == "gzip":
        return _gzip(stream)
    if found == "zstd":
        return _zstd(stream)
    if found == "xz":
        import lzma

        return _members(stream, lambda: lzma.LZMADecompressor(memlimit=1 << 28), lzma.LZMAError, "xz")
    if found == "bzip2":
        import bz2

        return _members(stream, bz2.BZ2Decompressor, OSError, "bzip2")
    return stream


def _gzip(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Every member of a gzip stream. Zero bytes after a member are padding, as gzip(1) has it."""
    member = None  # None between members
    for chunk in stream:
        data = chunk
        while data:
            if member is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                member = isal_zlib.decompressobj(wbits=31)
            try:
                piece = member.decompress(data, PIECE)
            except isal_zlib.error as error:  # type: ignore[misc]  # its stub says that it is an exception, not a class of them
                raise CompressionError(f"the gzip data is damaged: {error}") from None
            if piece:
                yield piece
            data = member.unconsumed_tail
            if member.eof:
                data, member = member.unused_data, None
    if member is not None:
        raise CompressionError("the gzip data is truncated")


def _zstd(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Every frame of a zstd stream.

    zstandard's reader is used, not its `decompressobj`, which would make one piece of whatever its input expands to. It does not tell a
    truncated frame from a finished one: the diff id does.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    source: IO[bytes] = _Readable(stream)  # type: ignore[assignment]  # all it calls is read()
    reader = decompressor.stream_reader(source, read_size=256 << 10, read_across_frames=True)
    while True:
        try:
            piece = reader.read(PIECE)
        except zstandard.ZstdError as error:
            raise CompressionError(f"the zstd data is damaged: {error}") from None
        if not piece:
            return
        yield piece


class _Member(Protocol):
    """One compressed stream of bz2 or lzma: their decompressors have the same face."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _NewMember(Protocol):
    def __call__(self) -> _Member: ...


def _members(stream: Iterator[bytes], new: _NewMember, failure: type[Exception], name: str) -> Iterator[bytes]:
    member, begun = new(), False
    for chunk in stream:
        data = chunk
        while data or (begun and not member.needs_input):
            try:
                piece = member.decompress(data, PIECE)
            except failure as error:
                raise CompressionError(f"the {name} data is damaged: {error}") from None
            data, begun = b"", True
            if piece:
                yield piece
            if member.eof:
                data = member.unused_data.lstrip(b"\0")
                member, begun = new(), False
    if begun:
        raise CompressionError(f"the {name} data is truncated")


class _Readable:
    """An iterator of chunks as the file that zstandard reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        data = self._rest or next(filter(None, self._chunks), b"")
        self._rest = data[size:] if 0 <= size < len(data) else b""
        return data[:size] if size >= 0 else data
