"""The index of a file of either kind: a fragmented mp4 or a WebM."""

from __future__ import annotations

from valor_data.media.fragments import FragmentIndex, IndexRefused, MoreBytes
from valor_data.media.fragments_mp4 import check_fragments, read_mp4_index
from valor_data.media.fragments_webm import check_clusters, read_webm_index


def read_index(head: bytes, size_bytes: int, tail: tuple[int, bytes] | None = None) -> FragmentIndex | MoreBytes:
    """Reads the index of a file from its first bytes.

    Args:
        head: the file's bytes from 0 on, as far as they are known.
        size_bytes: length of the whole file.
        tail: another run of its bytes and where it begins, when `MoreBytes` asked for one behind the head.

    Returns:
        The index; or which bytes are missing. Bytes that begin where `head` ends are to be added to it.
        The head then reaches into the first fragment, far enough to tell its first moment.

    Raises:
        IndexRefused: no fragmented mp4 and no WebM, no index, or an index that contradicts itself or the file.
    """
    if size_bytes < len(head):
        raise IndexRefused(f"{len(head)} bytes of a file that is said to have {size_bytes}")
    if head.startswith(b"\x1aE\xdf\xa3"):
        return read_webm_index(head, size_bytes, tail)
    return read_mp4_index(head, size_bytes)


def check_run(index: FragmentIndex, body: bytes) -> None:
    """Refuses bytes that are not a run of whole fragments: the index has lied about where they are.

    Raises:
        IndexRefused: the bytes do not begin or end with a fragment, hold something else, or refer to
            places in the whole file.
    """
    if index.container == "webm":
        check_clusters(body)
    else:
        check_fragments(body)
