"""Is a video still at its source? Asked without bringing it: an extraction, a HEAD, a look into the listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yt_dlp.networking import Request

from valor_data.config import FetchSection
from valor_data.errors import ClipError
from valor_data.fetch import ClipRequest, Location
from valor_data.fetch.folder import FolderLocation
from valor_data.fetch.reasons import reason_of
from valor_data.fetch.web import UrlLocation, open_downloader, stay_on_host

TRIED_AGAIN = frozenset({"gone", "forbidden", "extractor", "server_error"})
"""What a server may answer to a HEAD that it does not know: then the first byte is asked for, as a download would."""


def check_location(
    location: Location, clips: Sequence[ClipRequest], into: Path, settings: FetchSection
) -> Mapping[int, ClipError]:
    """Asks whether the media of a video's clips are still there.

    Args:
        location: of the video.
        clips: the clips, all of the same video.
        into: an empty folder.
        settings: network settings.

    Returns:
        For clips that are not there: why.

    Raises:
        ClipError: the same reason for every clip; nothing may be there, or nobody can tell now.
    """
    if isinstance(location, FolderLocation):
        lost = (clip for clip in clips if clip.clip_id not in location.files)
        return {clip.clip_id: ClipError("missing", f"no file for {clip.identity}") for clip in lost}
    if isinstance(location, UrlLocation):
        _ask_server(location, into, settings)
    else:
        location.probe(into, settings)
    return {}


def _ask_server(location: UrlLocation, into: Path, settings: FetchSection) -> None:
    """A HEAD; where that is refused, a GET of which one byte is read."""
    with open_downloader(into, settings) as downloader:
        stay_on_host(downloader)
        try:
            downloader.urlopen(Request(location.url, method="HEAD")).close()
        except Exception as error:
            refusal = reason_of(error)
            if refusal.reason not in TRIED_AGAIN:
                raise refusal from error
        else:
            return
        try:
            answer = downloader.urlopen(Request(location.url, headers={"Range": "bytes=0-0"}))
        except Exception as error:
            raise reason_of(error) from error
        with answer:
            if not answer.read(1):
                raise ClipError("empty", "the server answered with no bytes")
