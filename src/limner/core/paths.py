"""The files that a person names: found, read, or written to, and refused in one line where that cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from limner.core.errors import UserError, shown

VIDEOS = (".mp4", ".webm", ".mov", ".mkv")
"""Endings of files that Pillow does not read."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", *VIDEOS)
"""How the names of pictures and clips end, in lower case."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What a file begins with whose content was not fetched."""
LFS_ADVICE = "a Git LFS pointer, not the file itself; fetch it with: git lfs pull"


def path_of(name: str | Path, what: str) -> Path:
    """Return the path that a person names; `~` is a home folder.

    Raises UserError, which begins with `what`, if there can be no such path, or it may not be looked at. Whether
    something is there the caller asks.
    """
    try:
        path = Path(name).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except RuntimeError:
        raise UserError(f"{what}: {shown(str(name))}: ~ begins the name of a user that is not known here") from None
    except ValueError:  # a NUL, or half of a surrogate pair
        raise UserError(f"{what}: no file can be called {shown(str(name))}") from None
    except OSError as error:
        raise UserError(f"{what}: cannot look at {shown(str(name))}: {error.strerror}") from None
    return path


def text_of(path: Path, what: str, most: int | None = None) -> str:
    """Return what a file of UTF-8 text holds, without a byte order mark; of more than `most` bytes it is refused.

    Raises UserError, which begins with `what`, for a file that is missing, no plain file, unreadable, or no text.
    """
    if not path.is_file():
        raise UserError(f"{what}: {'not a plain file' if path.exists() else 'no such file'}")
    try:
        if most is not None and path.stat().st_size > most:
            raise UserError(f"{what}: {path.stat().st_size} bytes, and at most {most} are read")
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{what}: cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{what}: a binary file, not UTF-8 text")
    if content.startswith(LFS_POINTER):
        raise UserError(f"{what}: {LFS_ADVICE}")
    return text


def to_folder(name: str | Path, what: str) -> Path:
    """Return the path of a folder to write into, which may have to be made; it is tried, and nothing of that stays.

    Raises UserError, which begins with `what`, where a file is in the way, or writing is not allowed.
    """
    path = path_of(name, what)
    other = f"choose another with --{what.removeprefix('--')}"
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), Path("."))
    if not there.is_dir():
        kind = "a file" if there.is_file() else "no folder"
        raise UserError(f"{what}: {path} cannot be made: {there} is {kind}; {other}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{what}: {there} may not be written to; {other}")
    if reason := _obstacle(there, path.relative_to(there)):
        raise UserError(f"{what}: {path} cannot be made or written: {reason}; {other}")
    return path


def _obstacle(there: Path, below: Path) -> str:
    """Return why nothing can be written to a folder, or `below` it, "" if it can.

    What the system says of rights does not tell: root has all of them, and can still make nothing in /proc.
    """
    try:
        before = there.stat()
        if below.parts:
            with TemporaryDirectory(dir=there, prefix=".limner-") as trial:
                (trial / below).mkdir(parents=True)
        else:
            with TemporaryFile(dir=there):
                pass
        if before.st_uid == os.geteuid():  # of another owner's folder the time may not be put back
            os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def to_file(name: str | Path, what: str) -> Path:
    """Return the path of a file to write, new or over an earlier one. Raises UserError as `to_folder` does."""
    path = path_of(name, what)
    to_folder(path.parent, what)
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        raise UserError(
            f"{what}: {path} is {'a folder' if path.is_dir() else 'not to be written'}; choose another name"
        )
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file that becomes `path` once all of it is there: a reader, or a kill, finds no half.

    Until then it is called ".NAME.part", so that what writes it must be told of which kind it is.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def weighed(text: str) -> tuple[Path, float]:
    """Return the path and the number of "PATH@NUMBER", or the path and 1 of what ends in no number."""
    path, _, number = text.rpartition("@")
    try:
        return (Path(path).expanduser(), float(number)) if path else (Path(text).expanduser(), 1.0)
    except ValueError:
        return Path(text).expanduser(), 1.0
