"""Named failures: what went wrong, where, and the mend.

Two families. A :class:`ClipmillError` stops the command and is meant for the person who typed it.
A :class:`MediaError` belongs to one input: the engine turns it into a row of the ``errors`` table
and goes on. Codes are stable, lower case and part of the public data.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Every code that can stand in the ``errors`` table, with its meaning."""

    NOT_FOUND = "not_found"  # the URI does not exist
    NOT_READABLE = "not_readable"  # permission or path problem
    NETWORK_ERROR = "network_error"  # the remote store failed
    EMPTY_FILE = "empty_file"  # 0 bytes
    NOT_A_VIDEO = "not_a_video"  # no container that FFmpeg knows
    NO_VIDEO_STREAM = "no_video_stream"  # audio only, or cover art
    UNSUPPORTED_CODEC = "unsupported_codec"  # a stream without a decoder here
    NO_FRAMES = "no_frames"  # a video stream of which no frame decodes
    DECODE_FAILED = "decode_failed"  # a decode that worked before fails now
    ENCODE_FAILED = "encode_failed"  # the encoder or muxer refused
    NO_KEYFRAME = "no_keyframe"  # stream copy found no keyframe inside the clip
    DECODER_CRASHED = "decoder_crashed"  # the worker died on this input, repeatedly
    TIMED_OUT = "timed_out"  # no progress within run.stall_timeout_s
    OUT_OF_MEMORY = "out_of_memory"  # above run.memory_limit_bytes
    MISSING_INPUT = "missing_input"  # a row that a stage needs is not there
    INTERNAL_ERROR = "internal_error"  # an unexpected exception: a bug in a stage
    CAPTION_BACKEND = "caption_backend"  # the captioner's server failed
    CAPTION_BUDGET = "caption_budget"  # the run's budget of calls or money is spent
    CAPTION_INVALID = "caption_invalid"  # no usable answer after all attempts
    CAPTION_GATE = "caption_gate"  # the captioner failed a check of its integrity


RETRYABLE = frozenset(
    {
        ErrorCode.NOT_FOUND,
        ErrorCode.NOT_READABLE,
        ErrorCode.NETWORK_ERROR,
        ErrorCode.DECODER_CRASHED,
        ErrorCode.TIMED_OUT,
        ErrorCode.OUT_OF_MEMORY,
        ErrorCode.MISSING_INPUT,
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.CAPTION_BACKEND,
        ErrorCode.CAPTION_BUDGET,
        ErrorCode.CAPTION_GATE,
    }
)
"""Codes that the next run tries again; every other code is final under its fingerprint."""


class ClipmillError(Exception):
    """A failure of the whole command: says what, where and the mend.

    Args:
        what: One sentence, lower case start, no trailing full stop.
        where: File, table, stage or key concerned.
        mend: What the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        text = what if not where else f"{where}: {what}"
        super().__init__(text if not mend else f"{text}\n  mend: {mend}")


class ConfigError(ClipmillError):
    """A configuration key or value that cannot be used."""


class PlanError(ClipmillError):
    """Stages that do not fit together, found before any work."""


class CatalogError(ClipmillError):
    """A dataset root that cannot be used as asked."""


class DamagedError(CatalogError):
    """A file of a dataset root that is there, and whose content makes no sense.

    One that is missing, or that its store would not give, is none.
    """


class BudgetError(ClipmillError):
    """More unexpected failures than ``run.max_internal_errors``."""


class GateError(ClipmillError):
    """Captions that do not belong to their clips, over the whole run."""


class MediaError(Exception):
    """A failure of one input, to become one row of ``errors``.

    Args:
        code: An :class:`ErrorCode` (a user's own stage may use its own lower-case code).
        message: One sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = str(code), message
        super().__init__(f"{code}: {message}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        """Survive pickling: exceptions with two arguments do not by default."""
        return MediaError, (self.code, self.message)

    @property
    def retryable(self) -> bool:
        """True when the next run should try again."""
        return self.code in RETRYABLE
