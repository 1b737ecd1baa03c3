"""Files beside a video: which of them are its subtitles or transcripts, and their bytes.

Only names that begin with that of the video are looked at, in its own folder.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curation.captions.subtitles import SUBTITLE_FORMATS, DamagedError
from curation.errors import ErrorCode, MediaError

MAX_FILE_BYTES = 32 * 2**20
"""A transcript with word times of a whole day is smaller."""
LANGUAGE = re.compile(r"[a-z]{2,3}([-_][a-z0-9]{2,8})*", re.IGNORECASE)
FLAGS = frozenset({"forced", "sdh", "cc", "default", "orig", "auto"})
PREFIX_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Stores that list the keys with a prefix; a folder there may hold millions of others."""
WEB = ("http://", "https://")
GONE = frozenset({401, 403, 404, 410})
"""Answers of web servers to a guess at a file that is not there (or not for us)."""
THREE_LETTERS = {
    **{"eng": "en", "ger": "de", "deu": "de", "fre": "fr", "fra": "fr", "spa": "es", "ita": "it"},
    **{"por": "pt", "dut": "nl", "nld": "nl", "rus": "ru", "ukr": "uk", "pol": "pl", "cze": "cs"},
    **{"ces": "cs", "chi": "zh", "zho": "zh", "jpn": "ja", "kor": "ko", "ara": "ar", "hin": "hi"},
    **{"tur": "tr", "swe": "sv", "dan": "da", "nor": "no", "nob": "nb", "fin": "fi", "gre": "el"},
    **{"ell": "el", "heb": "he", "hun": "hu", "rum": "ro", "ron": "ro", "vie": "vi", "tha": "th"},
    **{"ind": "id", "per": "fa", "fas": "fa", "bul": "bg", "hrv": "hr", "srp": "sr", "slk": "sk"},
}
"""ISO 639-2, as containers name languages, to ISO 639-1, as people do."""


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A file that by its name holds the words of a video.

    Attributes:
        name: Its name.
        uri: Where it is.
        suffix: Its ending, lower case: one of subtitles, or ``.json``.
        language: As its name tells; None: it does not.
        forced: Only the lines in a foreign language.
    """

    name: str
    uri: str
    suffix: str
    language: str | None = None
    forced: bool = False


class Finder:
    """Finds sidecars; remembers the last local folder, because videos share folders."""

    def __init__(self) -> None:
        self._listed: tuple[object, list[str]] = (None, [])

    def find(self, uri: str, languages: Sequence[str] = ()) -> list[Sidecar]:
        """The sidecars of a source, by name.

        Args:
            uri: The source.
            languages: What to guess on web servers, whose folders cannot be listed.

        Raises:
            MediaError: The store does not answer (``network_error``).
        """
        folder, name, ending = _divided(uri)
        stem = PurePosixPath(name).stem
        if not stem:
            return []
        try:
            names = self._names(f"{folder}/" if folder else ".", stem, languages)
        except (FileNotFoundError, PermissionError):
            return []
        except Exception as exc:  # each remote store raises a family of its own
            raise MediaError(ErrorCode.NETWORK_ERROR, f"{type(exc).__name__}: {exc}") from exc
        found = []
        for beside in names:
            told = _told(beside, stem, names)
            if told is not None:
                place = f"{folder.rstrip('/')}/{beside}{ending}" if folder else beside
                suffix = PurePosixPath(beside).suffix.lower()
                found.append(
                    Sidecar(name=beside, uri=place, suffix=suffix, language=told[0], forced=told[1])
                )
        return found

    def _names(self, folder: str, stem: str, languages: Sequence[str]) -> list[str]:
        """Names in a folder that begin with that of the video; on the web, guesses."""
        fs, path = fsspec.core.url_to_fs(folder)
        if isinstance(fs, LocalFileSystem):
            key = path, os.stat(path).st_mtime_ns
            if self._listed[0] != key:
                self._listed = key, sorted(os.listdir(path))
            names = self._listed[1]
            return _beginning(names, f"{stem}.")
        if folder.startswith(WEB):
            middles = ["", *(f".{code}" for code in languages)]
            guesses = [f"{stem}{m}{s}" for m in middles for s in (".srt", ".vtt")]
            return [*guesses, f"{stem}.json"]
        base = path.strip("/")
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        if protocols & PREFIX_STORES:
            paths = fs.find(path.rstrip("/"), prefix=f"{stem}.")
        else:
            paths = fs.ls(path, detail=False)
        split = (str(p).strip("/").rpartition("/") for p in paths)
        return _beginning(sorted(name for head, _, name in split if head == base), f"{stem}.")


def read_small(uri: str) -> bytes | None:
    """The content of a small file; None when there is none.

    Raises:
        DamagedError: It is too large, or may not be read.
        MediaError: The store does not answer; the next run tries again.
    """
    try:
        fs, path = fsspec.core.url_to_fs(uri)
        if isinstance(fs, LocalFileSystem) and not os.path.isfile(path):
            return None
        if uri.startswith(WEB):  # opening it would take any failure for a missing file
            data = cast(bytes, fs.cat_file(path, start=0, end=MAX_FILE_BYTES + 1))
        else:
            with fs.open(path, "rb") as source:
                data = cast(bytes, source.read(MAX_FILE_BYTES + 1))
    except FileNotFoundError:
        return None
    except PermissionError as exc:
        raise DamagedError("may not be read") from exc
    except Exception as exc:
        if getattr(exc, "status", None) in GONE:
            return None
        raise MediaError(ErrorCode.NETWORK_ERROR, f"{type(exc).__name__}: {exc}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise DamagedError(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def rank_language(language: str | None, wanted: Sequence[str]) -> int:
    """Where a language stands: wanted ones in order, then an unknown one, then all others.

    ``en`` matches ``eng`` and ``en-GB``; ``en-GB`` matches itself alone. Nothing wanted: all equal.
    """
    if not wanted:
        return 0
    spoken = _normal(language)
    if spoken is None:
        return len(wanted)
    codes = (_normal(code) for code in wanted)
    matches = (i for i, code in enumerate(codes) if code in (spoken, spoken.partition("-")[0]))
    return next(matches, len(wanted) + 1)


def _beginning(names: list[str], prefix: str) -> list[str]:
    """Those of some sorted names that begin so."""
    found = []
    for name in names[bisect_left(names, prefix) :]:
        if not name.startswith(prefix):
            break
        found.append(name)
    return found


def _divided(uri: str) -> tuple[str, str, str]:
    """Folder, name, and what follows the path of a web address."""
    if not uri.startswith(WEB):
        folder, _, name = uri.rpartition("/")
        return folder or ("/" if uri.startswith("/") else ""), name, ""
    parts = urlsplit(uri)
    folder, _, name = parts.path.rpartition("/")
    ending = f"?{parts.query}" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc, folder, "", "")), name, ending


def _told(name: str, stem: str, names: list[str]) -> tuple[str | None, bool] | None:
    """Language and forcedness of a file by its name; None when it is not one of this video's."""
    pure = PurePosixPath(name)
    suffix = pure.suffix.lower()
    middle = pure.stem[len(stem) :].strip(".")
    if suffix not in SUBTITLE_FORMATS and not (suffix == ".json" and not middle):
        return None
    language, forced = None, False
    for tag in middle.split(".") if middle else ():
        if language is None and tag.lower() not in FLAGS and LANGUAGE.fullmatch(tag):
            language = tag
        elif tag.lower() in FLAGS | {"hi"}:  # after a language: for the hearing impaired
            forced |= tag.lower() == "forced"
        else:
            return None
    texts = {*SUBTITLE_FORMATS, ".json", ".txt"}
    if middle and any(
        n.startswith(f"{pure.stem}.") and PurePosixPath(n).suffix.lower() not in texts
        for n in names
    ):
        return None  # beside NAME.cut.mp4, NAME.cut.srt is that video's
    return language, forced


def _normal(language: str | None) -> str | None:
    """``en`` for ``eng``, ``EN``; ``pt-br`` for ``pt_BR``."""
    if language is None:
        return None
    code = language.lower().replace("_", "-")
    head, _, rest = code.partition("-")
    head = THREE_LETTERS.get(head, head)
    return f"{head}-{rest}" if rest else head
