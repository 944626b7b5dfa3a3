"""What can go wrong: the exception tree, and the one list of reason codes.

An exception stops a command and is shown to the person as one line. A reason is what a stage says of a
clip that it did not keep; it is stored in the ledger, counted in every report and never raised past the
clip it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


def hide_passwords(text: str) -> str:
    """The text with `***` in place of the name and password of every URL: for what is logged or kept."""
    return re.sub(r"(?<=://)[^\s/@]+@", "***@", text)


def hide_queries(text: str) -> str:
    """The text without what follows `?` in its URLs: that of a store's address may be a key."""
    return re.sub(r"(https?://[^\s?]+)\?[^\s'\"]+", r"\1", text)


class ValorDataError(Exception):
    """Anything this package refuses to do. The message says what was found, what is right and what to do."""

    exit_code = 1


class ConfigError(ValorDataError):
    """One or more settings are wrong; all problems are reported at once.

    Args:
        problems: one line for each problem, naming the setting, the value found and what would be right.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class ManifestError(ValorDataError):
    """An annotation file or a manifest cannot be used.

    Args:
        message: what is wrong, what would be right, what to do.
        file: the file at fault, where one is.
        row: its row, counted from 1 as an editor counts lines, where one is.
        column: the column or field at fault, where one is.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, row: int | None = None, column: str | None = None
    ) -> None:
        self.file, self.row, self.column = file, row, column
        parts = [str(file)] if file is not None else []
        if row is not None:
            parts.append(f"row {row}")
        if column is not None:
            parts.append(f"column {column!r}")
        where = ", ".join(parts)
        super().__init__(f"{where}: {message}" if where else message)


class ShardError(ValorDataError):
    """A shard, its sidecars or the shard plan do not hold together."""


class PublishError(ValorDataError):
    """A set cannot be published as it is, or the Hub did not take it; the same command goes on where it stopped."""


class ClipError(ValorDataError):
    """One clip cannot be used. Workers catch it and turn it into an outcome; it never stops a run.

    Args:
        reason: a code of `REASONS`.
        detail: the raw text behind the code (an error message, a measured value).
        retry_after_seconds: how long the server asked to wait, where it did.
    """

    def __init__(self, reason: str, detail: str = "", retry_after_seconds: float | None = None) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason code {reason!r}; known codes: {', '.join(REASONS)}")
        self.reason, self.detail, self.retry_after_seconds = reason, detail, retry_after_seconds
        super().__init__(f"{reason}: {detail}" if detail else reason)

    def __reduce__(self) -> tuple[type[ClipError], tuple[str, str, float | None]]:
        return (ClipError, (self.reason, self.detail, self.retry_after_seconds))


class Status(StrEnum):
    """What a stage made of a clip."""

    KEPT = "kept"
    DROPPED = "dropped"  # a reason, final
    WAITING = "waiting"  # a reason, try again later


class ReasonClass(StrEnum):
    """Who is to blame, and so what happens next."""

    FINAL = "final"  # the clip: it is dropped and not asked for again
    WAITING = "waiting"  # the clip, for now: the next run tries again
    ADDRESS = "address"  # the network address we ask from: no clip is blamed
    HOST = "host"  # this machine: disk, memory, permissions
    CONFIGURATION = "configuration"  # the set-up: nothing will work before it is mended


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable code with its class, what it means and what to do about it."""

    code: str
    reason_class: ReasonClass
    meaning: str
    action: str

    @property
    def status(self) -> Status:
        """`dropped` for a final reason, `waiting` for every other class."""
        return Status.DROPPED if self.reason_class is ReasonClass.FINAL else Status.WAITING

    @property
    def blames_clip(self) -> bool:
        """Whether it was an attempt of the clip's: not the network address, this machine or the set-up failed."""
        return self.reason_class in (ReasonClass.FINAL, ReasonClass.WAITING)


_F, _W = ReasonClass.FINAL, ReasonClass.WAITING
_A, _H, _C = ReasonClass.ADDRESS, ReasonClass.HOST, ReasonClass.CONFIGURATION

REASONS: dict[str, Reason] = {
    r.code: r
    for r in (
        # fetch: the video itself
        Reason("gone", _F, "the video is no longer there (removed, closed account, 404 or 410)", "nothing; it is lost"),
        Reason("private", _F, "the uploader made the video private", "nothing; it is lost unless made public again"),
        Reason("copyright", _F, "taken down after a copyright or terms-of-service claim", "nothing; it is lost"),
        Reason("geo", _F, "not shown in this address's country", "fetch from an address in another country"),
        Reason("age", _F, "age-restricted: it needs an account", "skipped by policy"),
        Reason("members", _F, "for members, subscribers or buyers only", "skipped by policy"),
        Reason("drm", _F, "copy-protected", "nothing; it is lost"),
        Reason("live", _F, "a live stream or a premiere, not a finished upload", "nothing"),
        Reason("too_long", _F, "the video is longer than fetch.max_video_seconds", "raise the limit to take it"),
        Reason(
            "not_media",
            _F,
            "what came is not one media file (a page, a playlist, another host)",
            "check the URL template",
        ),
        Reason("empty", _F, "the server answered with no bytes", "check the source"),
        Reason("format_missing", _F, "no format within the limits is offered", "raise fetch.max_short_side_px"),
        Reason(
            "wrong_duration",
            _F,
            "the file's length does not fit what its name says it is",
            "name clips <id>_<start>_<end>, whole videos <id>",
        ),
        Reason(
            "duplicate",
            _F,
            "the manifest lists this span of the video already",
            "nothing, or take one of the two rows out of the annotations",
        ),
        Reason("removed", _F, "taken out of the data set on request or no longer in the manifest", "nothing"),
        # fetch: for now
        Reason("missing", _W, "no file of that name in the folder source", "add the file and run fetch again"),
        Reason("gone_once", _W, "reported gone once; believed after a second sighting", "run fetch again in a day"),
        Reason("server_error", _W, "the server failed (5xx)", "run fetch again"),
        Reason("network", _W, "the connection failed, timed out or broke off", "run fetch again"),
        Reason("forbidden", _W, "the server refused the media (403)", "run fetch again"),
        Reason("extractor", _W, "yt-dlp failed in a way that has no code yet", "update yt-dlp; read the detail"),
        Reason(
            "interrupted", _W, "the run, or a worker, was stopped before this clip was done", "run the command again"
        ),
        # fetch: not the clip's fault
        Reason("bot_check", _A, "the site asks to prove that this is no robot", "pause this address for hours"),
        Reason("session_limited", _A, "the site limits this session for up to an hour", "pause this address"),
        Reason("rate_limited", _A, "too many requests (429)", "pause this address as the answer says"),
        Reason("ip_blocked", _A, "the site blocks this address", "use another address"),
        Reason("disk", _H, "this machine could not write the file", "free space, check permissions, run again"),
        Reason(
            "js_runtime", _C, "yt-dlp finds no JavaScript runtime for YouTube", "pip install 'yt-dlp[default,deno]'"
        ),
        Reason("configuration", _C, "the set-up is wrong", "read the detail"),
        # filter, in the order of precedence
        Reason("undecodable", _F, "the media cannot be decoded (damaged, encrypted, unknown codec)", "nothing"),
        Reason("no_video", _F, "no moving picture (a cover picture is no video)", "nothing, or modalities = a"),
        Reason("no_audio", _F, "no sound track", "nothing, or modalities = v"),
        Reason(
            "short",
            _F,
            "less of the sound or the picture is there than filter.min_coverage asks",
            "lower filter.min_coverage",
        ),
        Reason("silent", _F, "the sound is below filter.min_rms_dbfs or filter.min_peak_dbfs", "lower the threshold"),
        # filter, curation: about a clip or about the whole set, all off by default
        Reason("licence", _F, "filter.licences_allowed and licences_denied exclude its licence", "change the lists"),
        Reason("caption_junk", _F, "no caption is a sentence (a number, a URL …)", "filter.caption_junk = false"),
        Reason("caption_length", _F, "no caption has as many words as asked", "move filter.caption_min_words or max"),
        Reason("caption_language", _F, "no caption is in filter.caption_languages", "add the language to the list"),
        Reason(
            "caption_template", _F, "all captions occur again and again, but for a word", "raise filter.caption_repeats"
        ),
        Reason("still", _F, "the picture changes less than filter.min_picture_change", "lower the threshold"),
        Reason("visualiser", _F, "less of the picture moves than filter.min_moving_share asks", "lower the threshold"),
        Reason("letterbox", _F, "more black borders than filter.max_border_share", "raise the threshold"),
        Reason("leak", _F, "a train clip that is in a set of filter.leak", "nothing; take the set off the list"),
        Reason("near_duplicate", _F, "the same footage as a clip that is kept", "filter.duplicates = false"),
        Reason("unbalanced", _F, "one of its labels has filter.balance clips already", "raise filter.balance"),
        Reason("not_sampled", _F, "not drawn by filter.sample_share or sample_count", "raise the share or the count"),
        # any stage: the worker
        Reason("timeout", _F, "the clip took longer than its deadline", "raise the deadline"),
        Reason("crashed", _F, "the decoder crashed or ran out of memory on this clip", "nothing"),
        Reason("too_large", _F, "more pixels, frames or memory than the limits allow", "raise the limits"),
    )
}

CURATION: tuple[str, ...] = (
    "licence",
    "caption_junk",
    "caption_length",
    "caption_language",
    "caption_template",
    "still",
    "visualiser",
    "letterbox",
    "leak",
    "near_duplicate",
    "unbalanced",
    "not_sampled",
)
"""The refusals of curation in their order: what is cheap to see and hard to argue with first, drawing last."""

PRECEDENCE: tuple[str, ...] = ("undecodable", "no_video", "no_audio", "short", "silent", *CURATION)
"""When several refusals fit a clip, the first of these is its reason."""
