"""From the text after `--source` to a source."""

from __future__ import annotations

import re
from pathlib import Path

from valor_data.archives import ArchiveError
from valor_data.archives.holdings import find_holding
from valor_data.errors import ConfigError
from valor_data.fetch import Source
from valor_data.fetch.folder import FolderSource
from valor_data.storage import absolute_place


def absolute_source(text: str, base: Path | None = None) -> str:
    """The same source from any folder: a local folder's path is made absolute, everything else is left as it is.

    Args:
        text: what stands after `--source`.
        base: the folder that a relative path starts from; None: the current folder.
    """
    return text if text in ("youtube", "column") or "{" in text else absolute_place(text, base)


def open_source(text: str, member: str = "") -> Source:
    """The source a text names: `youtube`, `column`, a URL template with `{video_id}`, a set, or a folder.

    Args:
        text: what stands after `--source`.
        member: of a set's samples, the member or column that is the video; empty: recognised.

    Raises:
        ConfigError: the text names none of them, or the folder is not there.
    """
    if not text.strip():  # as a folder it would be the current one
        raise ConfigError(
            f"source {text!r}: no such folder; expected youtube, column, a URL template with {{video_id}}, "
            "or a folder of videos"
        )
    if text == "youtube":
        from valor_data.fetch.web import YouTubeSource

        return YouTubeSource()
    if text == "column":
        from valor_data.fetch.web import ColumnSource

        return ColumnSource()
    if "{" in text or "}" in text:
        unknown = [name for name in re.findall(r"\{([^}]*)\}", text) if name != "video_id"]
        if unknown or "{video_id}" not in text:
            raise ConfigError(
                f"source {text!r}: the only placeholder is {{video_id}}, once or more; "
                f"found {', '.join(f'{{{name}}}' for name in unknown) or 'an unpaired brace'}"
            )
        from valor_data.fetch.web import TemplateSource

        return TemplateSource(text)
    if text.startswith(("http://", "https://")):
        raise ConfigError(f"source {text!r}: a web address needs {{video_id}} where the id goes")
    try:
        holding = find_holding(text)
    except ArchiveError as error:
        raise ConfigError(f"source {text!r}: {error}") from error
    except ConfigError:
        holding = None  # an address that cannot be used: said in the same words as of a folder
    if holding is None:
        return FolderSource(text)
    from valor_data.fetch.archives import ArchiveSource

    return ArchiveSource(holding, member)
