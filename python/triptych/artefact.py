"""Artefacts: folders that are complete, or not there.

The Python twin of `rust/core/src/manifest.rs`, with the same `manifest.json`. A
folder is written under a temporary name beside its final one, synced, listed with the
size and SHA-256 of every file, and renamed. Whoever reads it checks that list first.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from triptych import _core
from triptych.errors import EXHAUSTED, ConfigError, IntegrityError, ResourceError

FILE_NAME = "manifest.json"
# What `sha256sum` writes of the manifest: without it a bit of the manifest that no file's
# hash depends on, say in `made_from`, could turn over unseen.
SUM_NAME = "manifest.sha256"
# Formats of the engine in Rust, whose manifests have no sum.
_ENGINE = ("triptych-documents/", "triptych-part/", "triptych-tokens/")
_TOKENS = "triptych-tokens/1"
_STEP = re.compile(r"step-([0-9]+)")
# How the name of a folder begins that is not there yet, or no longer.
_DRAFT = ".tmp-"


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256, in hexadecimal, of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder is, what it was made from, and the proof that it is whole."""

    format: str
    triptych: str
    made_from: dict[str, Any]
    content: dict[str, Any]
    files: dict[str, FileEntry]

    def verify(self, folder: Path) -> None:
        """Checks size and hash of every file; the first that differs is the error."""
        for name, entry in self.files.items():
            _verify_file(folder / name, entry)

    def to_json(self) -> str:
        """The text of `manifest.json`: keys in order, two spaces of indentation."""
        values = asdict(self)
        for key in ("made_from", "content", "files"):
            values[key] = _sorted(values[key])
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


class Draft:
    """A folder being written; a leftover of a killed run is removed first.

    Where `target` is a link, the folder that it names is written, beside that folder.

    Used as a context manager. Left without `commit`, it keeps its temporary name and
    the folder that stood at `target` before is untouched.
    """

    def __init__(self, target: Path | str) -> None:
        self.target = _linked(Path(target))
        self.folder = self.folder_of(self.target)
        _clear(self.folder)
        self.folder.mkdir(parents=True)

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def folder_of(target: Path) -> Path:
        """Where `target` is being written, for others who write into it as well."""
        meant = _linked(target)
        return meant.with_name(f"{_DRAFT}{meant.name}")

    def path(self, name: str) -> Path:
        """Path of a file inside the draft."""
        return self.folder / name

    def commit(
        self,
        format: str,
        made_from: Mapping[str, Any],
        content: Mapping[str, Any],
        synced: Mapping[str, FileEntry] | None = None,
    ) -> Manifest:
        """Hashes and syncs every file, writes the manifest, renames into place.

        Those in `synced` have been: see `sync_file`.
        """
        synced = synced or {}
        files = {
            path.name: synced.get(path.name) or sync_file(path)
            for path in sorted(self.folder.iterdir())
        }
        manifest = Manifest(
            format, _core.__version__, dict(made_from), dict(content), files
        )
        self._write(FILE_NAME, manifest.to_json())
        self._write(SUM_NAME, _sum_line(self.path(FILE_NAME).read_bytes()))
        _sync(self.folder)
        self._rename()
        return manifest

    def _write(self, name: str, text: str) -> None:
        path = self.path(name)
        with named(path):
            path.write_text(text, encoding="utf-8")
        _sync(path)

    def _rename(self) -> None:
        old = _doomed(self.target)
        _clear(old)
        if self.target.exists():
            self.target.rename(old)
        self.folder.rename(self.target)
        _sync(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)


def _linked(target: Path) -> Path:
    """What a link names: a link itself cannot be put aside and removed like a folder."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def remove(folder: Path) -> None:
    """Removes an artefact: its name goes first, so that it is never there in part.

    Of a link, as to a larger disk, only itself goes: what it leads to is somebody's own.
    """
    doomed = _doomed(folder)
    _clear(doomed)
    folder.rename(doomed)
    if doomed.is_symlink():
        doomed.unlink()
    else:
        shutil.rmtree(doomed)


def _clear(leftover: Path) -> None:
    """Removes what a killed run left by a temporary name, never what a link leads to."""
    if leftover.is_symlink():
        leftover.unlink()
    shutil.rmtree(leftover, ignore_errors=True)


def clear_drafts(folder: Path) -> None:
    """Removes what killed runs had begun to write into `folder`, or to remove from it."""
    for draft in folder.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


def _doomed(target: Path) -> Path:
    """Where an artefact lies that is to go."""
    draft = Draft.folder_of(target)
    return draft.with_name(f"{draft.name}.old")


def read_manifest(folder: Path | str, format: str) -> Manifest:
    """Reads `folder/manifest.json` and checks that it describes `format`.

    Raises:
        ConfigError: there is no manifest, or where shards or documents are expected one
            of something else.
        IntegrityError: it is not a manifest, or not of this format.
    """
    path = Path(folder) / FILE_NAME
    try:
        content = checked(path)
        manifest = _manifest_of(_parsed(content))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"no input at `{folder}`: expected a finished folder of format "
            f"`{format}`, with a `{FILE_NAME}`"
        ) from None
    except (PermissionError, IntegrityError):
        raise
    except OSError as error:
        expected = f"a manifest of format `{format}`"
        raise damaged(error.filename or path, expected, str(error)) from error
    except ValueError as error:
        expected = f"a manifest of format `{format}`"
        raise damaged(path, expected, str(error)) from error
    _require_own(path, manifest.files)
    if manifest.format != format and format.startswith(_ENGINE):
        raise ConfigError(  # as the engine says it: the name of another folder was given
            f"folder `{folder}`: expected format `{format}`, found `{manifest.format}`"
        )
    if manifest.format != format:
        raise damaged(path, f"format `{format}`", f"`{manifest.format}`")
    sums = path.with_name(SUM_NAME)
    if not format.startswith(_ENGINE) and not sums.exists():
        raise damaged(sums, f"`{_sum_line(content).strip()}`", "no such file")
    return manifest


def _manifest_of(values: Any) -> Manifest:
    """The manifest that parsed JSON is; a ValueError names what it is not."""
    entries = _exactly(values, Manifest)["files"]
    if not isinstance(entries, dict):
        raise ValueError(f"{type(entries).__name__} in place of an object in `files`")
    files = {name: FileEntry(**_exactly(x, FileEntry)) for name, x in entries.items()}
    return Manifest(**{**values, "files": files})


def _exactly(values: Any, kind: type[Manifest | FileEntry]) -> dict[str, Any]:
    """`values`, if they are an object with the fields of `kind` and no others."""
    if not isinstance(values, dict):
        raise ValueError(f"{type(values).__name__} in place of an object")
    names = [field.name for field in fields(kind)]
    for name in names:
        if name not in values:
            raise ValueError(f"missing field `{name}`")
    for name in values:
        if name not in names:
            raise ValueError(f"unknown field `{name}`")
    return values


def _require_own(path: Path, names: Iterable[str]) -> None:
    """Refuses names that would lead out of the manifest's folder."""
    for name in names:
        if name in ("", "..") or "\0" in name or Path(name).name != name:
            raise damaged(path, "names of files of its folder", f"`{name}`")


def checked(path: Path) -> bytes:
    """A manifest, as the sum beside it says; what the engine writes has none.

    Raises:
        IntegrityError: it is another.
        OSError: it cannot be read.
    """
    content, sums = read_regular(path), path.with_name(SUM_NAME)
    if sums.exists() and (told := read_regular(sums)) != _sum_line(content).encode():
        line, found = _sum_line(content), told.decode("ascii", "backslashreplace")
        raise damaged(
            path, f"`{found.strip():.100}`, as `{sums}` says", f"`{line.strip()}`"
        )
    return content


def _sum_line(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {FILE_NAME}\n"


def verify(folder: Path | str, format: str) -> Manifest:
    """`read_manifest`, then the size and hash of every file, and that these are all.

    Of token shards also that ids, masks and tables are as the manifest says, which its
    hashes do not tell.
    """
    manifest = read_manifest(folder, format)
    if format == _TOKENS:
        _core.verify_token_shards(folder)
        return manifest
    manifest.verify(Path(folder))
    if not format.startswith(_ENGINE):
        _refuse_unlisted(Path(folder), manifest)
    return manifest


def require_named(folder: Path, manifest: Manifest) -> None:
    """Refuses a checkpoint by the name of another step, which would pass for that.

    Raises:
        IntegrityError: `step-N` is of another step than N.
    """
    step, said = manifest.content.get("step"), _STEP.fullmatch(folder.name)
    if step is not None and said is not None and step != int(said[1]):
        expected = f"a checkpoint of step {int(said[1])}, as its folder is called"
        raise damaged(folder / FILE_NAME, expected, f"one of step {step}")


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    """Readers go by names, so a file of theirs that nobody hashed is not to be there."""
    listed = {FILE_NAME, *manifest.files}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors") and path.name not in listed:
            raise damaged(path, "no such file, as the manifest lists none", "one")


def damaged(path: Path | str, expected: str, found: str) -> IntegrityError:
    """The error for a file that is not as it was written."""
    return IntegrityError(f"`{path}` is damaged: expected {expected}, found {found}")


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's content in hexadecimal, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_text(path: Path, text: str, *, by_several: bool = False) -> None:
    """Replaces a file whole: a reader sees the old text or the new one.

    If it is written `by_several` processes at once, that of the last one stays.
    """
    own = f"-{uuid.uuid4().hex}" if by_several else ""
    draft = path.with_name(f".tmp-{path.name}{own}")
    draft.unlink(missing_ok=True)
    # Only a new file: by a link that somebody put there another one would be written.
    with named(path), open(draft, "x", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Names the file that is written within, which a system's word of a full disk does not.

    Raises:
        ResourceError: there is no room for it.
    """
    try:
        yield
    except OSError as error:
        if error.errno in EXHAUSTED and not isinstance(error, ResourceError):
            raise ResourceError(
                f"`{path}`: expected to write it, found: {error.strerror}; make room, "
                "then run the same command again"
            ) from error
        raise


def read_regular(path: Path) -> bytes:
    """The content of a file; a pipe or a device, which may never end, is none.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return path.read_bytes()


def _parsed(text: bytes) -> Any:
    """JSON; what is nested too deeply to be read is a `ValueError` like all that is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nesting that is too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; anything else is an `IntegrityError`."""
    content = read_regular(path)
    try:
        values = _parsed(content)
    except ValueError as error:
        raise damaged(path, "a JSON object", str(error)) from error
    if not isinstance(values, dict):
        raise damaged(path, "a JSON object", type(values).__name__)
    return values


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Objects, one a line, a torn last line left out; none where there is no file.

    Raises:
        IntegrityError: a line is none; it is named.
    """
    if not path.exists():
        return []
    lines = read_regular(path).splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    return [_object(path, number, line) for number, line in enumerate(whole, start=1)]


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = _parsed(line)
    except ValueError as error:
        raise damaged(f"{path}:{number}", "a JSON object", str(error)) from error
    if not isinstance(values, dict):
        raise damaged(f"{path}:{number}", "a JSON object", type(values).__name__)
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON with two spaces of indentation and a final newline."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    with named(path):
        path.write_text(text, encoding="utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's content; without room it is `target` that is named.

    Raises:
        ResourceError: there is no room for it.
    """
    with named(target):
        shutil.copyfile(source, target)


def sync_file(path: Path) -> FileEntry:
    """Size and hash of a file, once it is on the disk."""
    _sync(path)
    return FileEntry(path.stat().st_size, sha256_file(path))


def _verify_file(path: Path, entry: FileEntry) -> None:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise damaged(path, f"{entry.bytes} bytes", "no regular file")
        if found.st_size != entry.bytes:
            raise damaged(path, f"{entry.bytes} bytes", f"{found.st_size} bytes")
        sha256 = sha256_file(path)
    except PermissionError:
        raise
    except OSError as error:  # of a bad sector too
        raise damaged(path, f"{entry.bytes} bytes", str(error)) from error
    if sha256 != entry.sha256:
        raise damaged(path, f"SHA-256 {entry.sha256}", f"SHA-256 {sha256}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sorted(value: object) -> object:
    """Dictionaries with their keys in order, as Rust's maps write them."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
