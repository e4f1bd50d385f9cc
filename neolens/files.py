"""Files that appear whole or not at all, with a checksum where damage would otherwise give a wrong number.

A file is written beside its name and renamed, so that a crash or a full disk leaves the old file or the new one. What a
killed process has left beside a name is removed when the next one writes into the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neolens.checks import check_text, shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEAST_FREE = 2**20
"""Bytes that have to be free where a study begins to write."""

_TRAILER = re.compile(rb"\nneolens sha256 ([0-9a-f]{64})\n\Z")
_claim: int | None = None
_PARTIAL = re.compile(r"\..*\.([\w-]+)\.(\d+)\.[0-9a-f]{32}\.partial")


class DamagedFileError(ValueError):
    """A file whose content is not what was written."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.args[0]} is damaged: measure it again"


def write_whole(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Call `write` with a name beside `path`, then rename: a crash leaves the old file or the new one.

    The folder is created if it does not exist.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = check_path(path)
    if not callable(write):
        raise TypeError(f"write {shown(write)}: expected a function of a path")
    owner = f"{_host()}.{os.getpid()}.{uuid.uuid4().hex}"
    beside = path.with_name(f".{path.name[:50]}.{owner}.partial")  # no longer than a name may be
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_partial_files(path.parent)
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} cannot be written ({reason}): free some space or choose another folder") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def check_path(path: Any, example: str = "result.nc") -> Path:
    """The path of a file.

    >>> check_path(3)
    Traceback (most recent call last):
    TypeError: path 3: expected a path, such as 'result.nc'

    Raises:
        TypeError: neither text nor a path.
        ValueError: empty, or with characters that no name has.
    """
    expected = f"expected the name of a file, such as {example!r}"
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path {shown(path)}: expected a path, such as {example!r}")
    text = os.fspath(path)
    try:
        valid = bool(text.strip()) and "\0" not in text and bool(os.fsencode(text)) and bool(Path(text).name)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise ValueError(f"path {shown(ascii(text)) if not text.isprintable() else repr(text)}: {expected}")
    return Path(path)


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turn what other libraries raise while they write into one OSError; safetensors, tokenizers and HDF5 have errors
    of their own kinds for a full disk."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise OSError(f"{path} cannot be written ({reason}): free some space or choose another folder") from error


def with_checksum(content: bytes | memoryview) -> bytes:
    """The content of a file with a line at its end that holds its SHA-256; HDF5 ignores what follows its data."""
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"content {shown(content)}: expected bytes")
    content = bytes(content)
    return content + f"\nneolens sha256 {hashlib.sha256(content).hexdigest()}\n".encode()


def checked_content(path: str | Path) -> tuple[bytes, bool]:
    """The content of a file without its checksum, and whether it has one.

    Raises:
        OSError: the file cannot be read.
        DamagedFileError: the content has another checksum.
    """
    content = check_path(path).read_bytes()
    trailer = _TRAILER.search(content)
    if trailer is None:
        return content, False
    content = content[: trailer.start()]
    if hashlib.sha256(content).hexdigest().encode() != trailer[1]:
        raise DamagedFileError(path)
    return content, True


def read_json(path: str | Path, what: str = "a JSON object") -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ValueError: no such file, or it holds something else; `what` says what was expected.
    """
    path = check_path(path, "record.json")
    check_text(what, "what")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: expected {what}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): expected {what}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        reason = "a number has too many digits" if "int_max_str_digits" in reason else reason
        raise ValueError(f"{path} is not valid JSON ({reason:.120}): expected {what}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}: expected {what}")
    return value


def writable_folder(path: str | Path) -> Path:
    """The folder, which need not exist yet, after a file was created and removed where it is or will be.

    Raises:
        ValueError: it is a file or a broken link, it cannot be created or written to, or the disk is full.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"out folder {shown(path)}: expected a path, such as 'results'")
    folder = Path(path)
    try:
        if not str(path).strip():
            raise NotADirectoryError(0, "no name")
        if "\0" in str(path):
            raise OSError(0, "its name has a NUL byte")
        if isinstance(os.fspath(path), bytes) or any("\ud800" <= char <= "\udfff" for char in str(path)):
            raise OSError(0, "its name is no text")
        with suppress(FileNotFoundError):
            os.lstat(folder)  # of a name that is too long, or below a file
        existing = next(part for part in (folder, *folder.absolute().parents) if os.path.lexists(part))
        if existing.is_symlink():
            existing.stat()  # of its target: a link to nowhere or to itself ends here
        with tempfile.TemporaryFile(dir=existing):
            pass
        if (free := shutil.disk_usage(existing).free) < LEAST_FREE:
            raise OSError(0, f"{free:,} bytes are free")
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"out folder {shown(str(path), 120)} cannot be written to ({reason}): give a folder that can be"
        ) from error
    if folder.is_dir():
        _remove_partial_files(folder)
    return folder


def claim_folder(path: str | Path) -> Path:
    """The folder, created if need be, after it was locked against other processes that would write into it.

    The operating system ends the lock with the process, however that ends, or when the process claims another folder.
    Where it cannot lock a folder (Windows, some network file systems) nothing is locked.

    Raises:
        ValueError: the folder cannot be written to, or another process has claimed it.
    """
    global _claim
    if _claim is not None:
        os.close(_claim)
        _claim = None
    folder = writable_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out folder {str(path)!r} cannot be created ({error.strerror}): give another folder"
        ) from error
    if fcntl is None:
        return folder
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner_of_lock(handle)
        os.close(handle)
        raise ValueError(f"another process{owner} writes into {folder}: wait for it or choose another folder") from None
    except OSError:
        os.close(handle)
    else:
        _claim = handle
    return folder


def _owner_of_lock(handle: int) -> str:
    """` (pid 12)`; nothing where the system does not list its locks."""
    inode = os.fstat(handle).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1:2] == ["FLOCK"] and words[5].endswith(f":{inode}") and int(words[4]) > 0:
                return f" (pid {words[4]})"
    return ""


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:32] or "host"


def _remove_partial_files(folder: Path) -> None:
    """Remove what killed processes of this machine have left half written."""
    for path in folder.glob(".*.partial"):
        match = _PARTIAL.fullmatch(path.name)
        if match and match[1] == _host() and not _is_running(int(match[2])):
            with suppress(OSError):
                path.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
