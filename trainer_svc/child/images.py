"""The pictures of a row: found, inside the trainer's roots, and really pictures.

Owns the check before training, so that no run fails at step 4,000 over a file
that is cut off. Nothing is fetched from a network. A picture that comes as
bytes is written aside under its hash. Refuses pictures that are missing, that
do not decode in full, and a dialogue with more or fewer marks than pictures
(PictureBroken, with the contract's reason).
"""

import binascii
import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trainer_svc.child.dialogue import Dialogue
from trainer_svc.child.locations import NotInside, inside, is_text
from trainer_svc.child.receipts import MALFORMED
from trainer_svc.child.rows.broken import RowBroken
from trainer_svc.child.rows.parts import MARK as MARK

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_MISSING = "image_missing"
IMAGE_BROKEN = "image_broken"
IMAGES_DO_NOT_MATCH = "images_do_not_match"
# What Pillow decodes by itself. For others it starts programs (EPS) or needs plug-ins.
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
IN_TEXT = re.compile(r"data:(?:image/[a-z0-9.+-]+)?;base64,", re.IGNORECASE)
FILE_URL = "file://"
# Longer ones some models' processors refuse.
SIDES_RATIO_MAX = 200
# All pictures of a row are in memory at once, three bytes to a pixel.
ROW_PIXELS_MAX = 200_000_000
# Verdicts remembered; more pictures than that are looked at again when they come again.
VERDICTS_MAX = 65_536


class PictureBroken(Exception):
    """A row's pictures cannot be used; `reason` is the contract's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def picture_values(row: Any) -> list[Any]:
    """What `row` gives as its pictures, in their order. Raises RowBroken."""
    if not isinstance(row, dict):
        return []
    given = row.get("images") or row.get("image") or []
    if isinstance(given, str | Mapping):
        return [given]
    if not isinstance(given, list):
        raise RowBroken(f'expected "images" with a list, found {type(given).__name__}')
    return given


class Pictures:
    """Checks the pictures of rows; each file is decoded once."""

    def __init__(self, roots: Sequence[Path], folder: Path) -> None:
        """Pictures lie inside `roots`; those that come as bytes are written to `folder`."""
        self._roots = roots
        self._folder = folder
        self._verdict = lru_cache(maxsize=VERDICTS_MAX)(_verdict_on_file)
        self._written: dict[str, tuple[Path, int]] = {}

    def check(
        self, dialogue: Dialogue, values: Sequence[Any], folder: Path | None
    ) -> tuple[Path, ...]:
        """The picture files, absolute and with links followed; paths in `values` are relative to
        `folder`. Raises PictureBroken."""
        marks = sum(turn.content.count(MARK) for turn in dialogue)
        if marks != len(values):
            raise PictureBroken(
                IMAGES_DO_NOT_MATCH, f"{marks} {MARK} marks, but {len(values)} pictures"
            )
        found = [
            self._picture(f"picture {number}", value, folder)
            for number, value in enumerate(values, start=1)
        ]
        pixels = sum(pixels for _, pixels in found)
        if pixels > ROW_PIXELS_MAX:
            raise PictureBroken(
                IMAGE_BROKEN,
                f"its {len(found)} pictures have {pixels:,} pixels, more than {ROW_PIXELS_MAX:,}",
            )
        return tuple(path for path, _ in found)

    def _picture(self, name: str, value: Any, folder: Path | None) -> tuple[Path, int]:
        """Its file, and its pixels."""
        path = value
        if isinstance(value, dict):
            data, path = value.get("bytes"), value.get("path")
            if isinstance(data, bytes):
                return self._written_aside(name, data)
        if not isinstance(path, str) or not path:
            raise PictureBroken(MALFORMED, f"{name}: expected a path, or an object with one")
        if not is_text(path):
            raise PictureBroken(MALFORMED, f"{name}: {path!r:.200} is not a path")
        if path[:5].lower() == "data:":
            return self._written_aside(name, _bytes_in_text(name, path))
        path = path.removeprefix(FILE_URL)
        if URL.match(path):
            raise PictureBroken(
                MALFORMED,
                f"{name}: pictures are not fetched from the network: {path:.200}; copy them next"
                " to the data file",
            )
        return self._file(name, path, folder)

    def _file(self, name: str, given: str, folder: Path | None) -> tuple[Path, int]:
        if folder is None and not Path(given).is_absolute():
            raise PictureBroken(IMAGE_MISSING, f"{name}: {given} is relative to no file here")
        try:
            path = inside(Path(folder or "/", given), self._roots, "data")
        except NotInside as error:
            beside = "" if Path(given).is_absolute() else f" (relative to {folder})"
            raise PictureBroken(IMAGE_MISSING, f"{name}: {error}{beside}") from None
        reason, message, pixels = self._verdict(path)
        if reason:
            raise PictureBroken(reason, f"{name}: {given} {message}")
        return path, pixels

    def _written_aside(self, name: str, data: bytes) -> tuple[Path, int]:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._written:
            problem, suffix, pixels = _decode(BytesIO(data))
            if problem:
                raise PictureBroken(IMAGE_BROKEN, f"{name}: its bytes: {problem}")
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{digest}.{suffix}"
            path.write_bytes(data)
            self._written[digest] = path, pixels
        return self._written[digest]


def _bytes_in_text(name: str, url: str) -> bytes:
    """The picture that a data: URL spells out. Raises PictureBroken."""
    begin = IN_TEXT.match(url)
    if begin is None:
        raise PictureBroken(
            MALFORMED, f"{name}: {url[:60]!r}: of data: URLs only pictures in base64 are read"
        )
    try:
        return binascii.a2b_base64(url[begin.end() :], strict_mode=True)
    except binascii.Error as error:
        raise PictureBroken(IMAGE_BROKEN, f"{name}: its base64 is broken: {error}") from None


@contextmanager
def opened_picture(file: BinaryIO) -> Iterator["Image"]:
    """A picture of a format known here, not decoded yet. Raises OSError, and ValueError when it
    would fill the memory."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=PICTURE_FORMATS) as picture:
                yield picture
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise _TooLarge(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None


class _TooLarge(ValueError):
    """The message says it of the picture."""


def _verdict_on_file(path: Path) -> tuple[str, str, int]:
    """A reason against the picture, "" for none, the words to it, and its pixels."""
    if not path.is_file():  # opening a pipe would wait for ever
        return IMAGE_MISSING, "is not a file", 0
    try:
        with path.open("rb") as file:
            problem, _, pixels = _decode(file)
    except OSError as error:
        return IMAGE_MISSING, f"cannot be read: {error.strerror}", 0
    return IMAGE_BROKEN if problem else "", problem, pixels


def _decode(file: BinaryIO) -> tuple[str, str, int]:
    """Decodes a whole picture: what is wrong with it, "" for nothing, its format's suffix and
    its pixels. Raises OSError when the file itself cannot be read."""
    from PIL import UnidentifiedImageError

    try:
        with opened_picture(file) as picture:
            if max(picture.size) > SIDES_RATIO_MAX * min(picture.size):
                return f"is more than {SIDES_RATIO_MAX} times as long as wide", "", 0
            picture.load()
            return "", str(picture.format).lower(), picture.width * picture.height
    except UnidentifiedImageError:
        return f"is not a picture in a format known here ({', '.join(PICTURE_FORMATS)})", "", 0
    except _TooLarge as error:
        return str(error), "", 0
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise over broken bytes has no common type
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return f"does not decode: {error}", "", 0
