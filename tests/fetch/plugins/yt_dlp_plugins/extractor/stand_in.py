"""Stands in for YouTube: asks the origin of the tests what to do with a video, and does it with yt-dlp's own means.

yt-dlp finds it when the folder above `yt_dlp_plugins` is on `sys.path` (or in `PYTHONPATH`). Where the origin is,
the extractor argument `youtube:stand_in=http://127.0.0.1:<port>` says.
"""

from __future__ import annotations

import os
from typing import Any

from yt_dlp.extractor.youtube import YoutubeIE
from yt_dlp.utils import ExtractorError, UserNotLive


class StandInIE(YoutubeIE, plugin_name="stand-in"):  # type: ignore[misc, call-arg]
    """One request to the origin in place of YouTube's own."""

    def _real_extract(self, url: str) -> Any:
        video_id = self._match_id(url)
        (origin,) = self._configuration_arg("stand_in", ie_key="Youtube", casesense=True)
        answer = self._download_json(f"{origin}/watch/{video_id}", video_id, "Downloading player")
        if answer["kind"] == "info":
            return answer["info"]
        return self._refuse(video_id, answer["kind"], answer["text"])

    def _refuse(self, video_id: str, kind: str, text: str) -> Any:
        if kind == "index_error":
            return [][1]
        if kind == "bug":
            return 1 // 0
        if kind == "crash":
            os._exit(3)
        if kind in ("playlist", "elsewhere"):
            there = self.url_result(text)
            return there if kind == "elsewhere" else self.playlist_result([there], video_id)
        if kind in ("refused_connection", "unknown_host"):
            host = "127.0.0.1:9" if kind == "refused_connection" else "no-such-host.invalid"
            return self._download_webpage(f"http://{host}/", video_id)
        return self._raise(video_id, kind, text)

    def _raise(self, video_id: str, kind: str, text: str) -> Any:
        if kind == "geo":
            self.raise_geo_restricted(text, countries=["DE", "FR"])
        if kind == "login":
            self.raise_login_required(text)
        if kind == "no_formats":
            self.raise_no_formats(text, expected=True, video_id=video_id)
        if kind == "drm":
            self.report_drm(video_id)
        if kind == "not_live":
            raise UserNotLive(video_id=video_id)
        if kind in ("expected", "unexpected"):
            raise ExtractorError(text, expected=kind == "expected", video_id=video_id)
        raise NotImplementedError(kind)
