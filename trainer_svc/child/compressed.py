"""Compressed data files, read as if they were not.

Owns how they are told: by their first bytes. They are decompressed as they are
read, a block at a time, so that a small file that stands for a huge one costs
time and no memory; the bounds on a single row are its reader's. Refuses damaged
and cut-off files (Damaged).
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

BLOCK_BYTES = 1 << 20
CODECS: Mapping[bytes, str] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
}
REASON_CHARACTERS = 200


class Damaged(Exception):
    """The compressed file cannot be read to its end; the message says why."""


def codec_of(path: Path) -> str:
    """How a file is compressed, "" if it is not. May raise OSError."""
    with path.open("rb") as file:
        head = file.read(max(map(len, CODECS)))
    return next((codec for mark, codec in CODECS.items() if head.startswith(mark)), "")


def open_data(path: Path) -> BinaryIO:
    """The content of a data file, decompressed. It can be read again from its beginning, with
    seek(0), and from nowhere else. Reading may raise Damaged."""
    codec = codec_of(path)
    if not codec:
        return path.open("rb")
    return io.BufferedReader(_Decompressed(path, codec), BLOCK_BYTES)


class _Decompressed(io.RawIOBase):
    """The decompressed bytes, forward."""

    def __init__(self, path: Path, codec: str) -> None:
        self._path = path
        self._codec = codec
        self._stream: Any = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR and offset == 0:
            return self._at
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("only the beginning")
        self._let_go()
        self._at = 0
        return 0

    def readinto(self, buffer: Any, /) -> int:
        import pyarrow as pa  # type: ignore[import-untyped]  # no stubs

        try:
            if self._stream is None:
                self._stream = pa.CompressedInputStream(str(self._path), self._codec)
            block = self._stream.read(len(buffer))
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = str(error).splitlines()[0][:REASON_CHARACTERS]
            raise Damaged(f"its {self._codec} compression is damaged: {reason}") from None
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def close(self) -> None:
        self._let_go()
        super().close()

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
