"""The report's gallery: a card for each clip, and a filter that needs no script."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape

from valor_data.errors import REASONS, Status
from valor_data.look.gallery import GalleryClip, Rejected
from valor_data.look.mel_picture import mel_picture
from valor_data.look.report_sections import counted, section
from valor_data.manifest import REJECT_CODES
from valor_data.media.preview import SOUND_TYPE

WORDS = {Status.KEPT.value: "kept", Status.DROPPED.value: "refused", Status.WAITING.value: "waiting"}

MAX_LABELS = 12

_LATER = ' loading="lazy" decoding="async"'
"""Pictures are decoded when they come into sight."""


def gallery_section(clips: Sequence[GalleryClip], seed: int) -> str:
    """The cards and the filter above them."""
    if not clips:
        return section("gallery", "Clips to see and hear", "No clip was tried yet.")
    lead = (
        f"{counted(len(clips), 'clip')} drawn with seed {seed}: kept ones at random, and refused ones of every reason. "
        "The mel picture lies below the film strip on the same seconds: low sounds at the bottom, loud is light."
    )
    cards = "".join(card(clip, number) for number, clip in enumerate(clips))
    return section(
        "gallery", "Clips to see and hear", lead, _filter(clips), f'<ul class="cards" role="list">{cards}</ul>'
    )


def filter_rules(clips: Sequence[GalleryClip]) -> str:
    """The style rules of the filter: what is not chosen is not shown."""
    return "".join(f"body:has(#show-{name}:checked) .card:not(.is-{name}){{display:none}}" for name in _choices(clips))


def _choices(clips: Sequence[GalleryClip]) -> dict[str, int]:
    """What may be chosen, with how many there are: how clips stand, then reasons."""
    standing = Counter(WORDS[clip.choice.status] for clip in clips)
    reasons = Counter(clip.choice.reason for clip in clips if clip.choice.reason)
    return {name: standing[name] for name in WORDS.values() if standing[name]} | dict(sorted(reasons.items()))


def _filter(clips: Sequence[GalleryClip]) -> str:
    def choice(name: str, number: int, checked: str = "") -> str:
        return (
            f'<label><input type="radio" name="show" id="show-{escape(name)}"{checked}>{escape(name)} '
            f"<span>({number:,})</span></label>"
        )

    others = "".join(choice(name, number) for name, number in _choices(clips).items())
    return f'<fieldset class="filter"><legend>Show</legend>{choice("all", len(clips), " checked")}{others}</fieldset>'


def card(clip: GalleryClip, number: int) -> str:
    """One clip; whatever comes from outside is escaped."""
    word = WORDS[clip.choice.status]
    classes = f"card is-{word}" + (f" is-{escape(clip.choice.reason)}" if clip.choice.reason else "")
    head = f'<h3 id="clip-{number}">{escape(clip.key)}</h3>'
    return (
        f'<li class="{classes}" aria-labelledby="clip-{number}"><div class="media">{_media(clip)}</div>'
        f"<div>{head}{_standing(clip, word)}{_captions(clip)}</div><div>{_facts(clip)}</div></li>"
    )


def _media(clip: GalleryClip) -> str:
    """Film strip, mel and sound, or why they are not there."""
    preview, parts = clip.preview, []
    if preview.jpegs:
        pictures = "".join(
            f'<li><img src="{data_uri("image/jpeg", jpeg)}" alt="Picture at {moment:.1f} s"{_LATER}></li>'
            for jpeg, moment in zip(preview.jpegs, preview.moments, strict=False)
        )
        parts.append(f'<ul class="strip" role="list" aria-label="Film strip of {escape(clip.key)}">{pictures}</ul>')
    if preview.mel is not None and preview.mel.size:
        source = data_uri("image/png", mel_picture(preview.mel))
        parts.append(
            f'<img class="mel" src="{source}" alt="{escape(mel_words(clip))}" loading="lazy" decoding="async">'
        )
    if parts and clip.seconds:
        parts.append(f'<p class="times" aria-hidden="true"><span>0 s</span><span>{clip.seconds:g} s</span></p>')
    if preview.sound:
        parts.append(
            f'<audio controls preload="metadata" aria-label="Sound of {escape(clip.key)}" '
            f'src="{data_uri(SOUND_TYPE, preview.sound)}"></audio>'
        )
    missing = [*preview.faults, *([clip.note] if clip.note else [])]
    if not parts and not missing:
        missing = ["nothing to show: no media file is here"]
    elif not preview.sound and not missing:
        missing = ["no sound to play: the media file is not here any more"]
    return "".join(parts) + "".join(f'<p class="missing">{escape(text)}</p>' for text in missing)


def mel_words(clip: GalleryClip) -> str:
    """A mel picture in words: where it is loudest, and how loud the clip is."""
    mel = clip.preview.mel
    if mel is None or not mel.size:
        return ""
    loudness = mel.astype("float32").mean(axis=1)
    share = float(loudness.argmax()) / max(1, len(loudness) - 1)
    rms = f", {clip.facts['rms_dbfs']:.0f} dBFS overall" if clip.facts.get("has_audio") else ""
    if float(loudness.max() - loudness.min()) < 0.5:
        return f"Mel picture of the sound: even from start to end{rms}"
    return f"Mel picture of the sound: loudest at {share * clip.seconds:.1f} of {clip.seconds:.1f} s{rms}"


def _standing(clip: GalleryClip, word: str) -> str:
    """How a clip stands, with the meaning of its reason, what to do, and the raw text behind it."""
    reason = clip.choice.reason
    stage = f", at {clip.choice.stage}" if reason else ""
    where = escape(f"split {clip.split}" + (f", shard {clip.shard}" if clip.shard else stage))
    named = f"{word}: {escape(reason)}" if reason else word
    parts = [f'<p class="standing"><span class="badge {word}">{named}</span> {where}</p>']
    if reason in REASONS:
        told = REASONS[reason]
        meaning, action = escape(sentence(told.meaning)), escape(sentence(told.action))
        parts.append(f'<p class="standing">{meaning} <strong>What to do:</strong> {action}</p>')
    if clip.detail:
        parts.append(f'<p class="standing"><span class="meaning" dir="auto">{escape(clip.detail)}</span></p>')
    return "".join(parts)


def sentence(text: str) -> str:
    """With a capital, and a full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _captions(clip: GalleryClip) -> str:
    if not clip.captions:
        return '<p class="none">No caption.</p>'
    is_usual = len(clip.captions) == 1 and clip.captions[0][1] == "audiovisual"
    quotes = []
    for text, role in clip.captions:
        about = "" if is_usual else f'<span class="role">{escape(role)}</span>'
        quotes.append(f'<blockquote dir="auto">{escape(text)}{about}</blockquote>')
    return "".join(quotes)


def _facts(clip: GalleryClip) -> str:
    facts, pairs = clip.facts, []
    if clip.seconds:
        pairs.append(("span", f"{clip.start:g} to {clip.start + clip.seconds:g} s of the video"))
    if clip.labels:
        more = f" and {len(clip.labels) - MAX_LABELS} more" if len(clip.labels) > MAX_LABELS else ""
        pairs.append(("labels", "; ".join(clip.labels[:MAX_LABELS]) + more))
    if facts.get("has_video"):
        size = f"{facts['width_px']} × {facts['height_px']}, {facts['video_codec']}, {facts['fps']:.3g} a second"
        still = ", still" if facts["still"] else ""
        pairs.append(("picture", f"{size}, covers {whole_percent(facts['video_coverage'])}{still}"))
    if facts.get("has_audio"):
        kind = f"{facts['audio_codec']}, {facts['sample_rate_hz']:,} Hz, {counted(facts['num_channels'], 'channel')}"
        pairs.append(("sound", f"{kind}, covers {whole_percent(facts['audio_coverage'])}"))
        levels = f"RMS {facts['rms_dbfs']:.1f} dBFS, peak {facts['peak_dbfs']:.1f} dBFS"
        pairs.append(("loudness", f"{levels}, silent {whole_percent(facts['silence_share'])}"))
    items = "".join(f'<dt>{escape(name)}</dt><dd dir="auto">{escape(value)}</dd>' for name, value in pairs)
    return f'<dl class="facts">{items}</dl>' if items else ""


def whole_percent(share: float) -> str:
    """A share of a clip."""
    return f"{share * 100:.0f}\u00a0%"


def data_uri(kind: str, data: bytes) -> str:
    """A file inside of the page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def rejected_section(rows: Sequence[Rejected], rejected: Sequence[dict[str, object]]) -> str:
    """Annotation rows that never became clips: counts by reason, and some of each in full."""
    total = sum(int(str(entry["count"])) for entry in rejected)
    if not total:
        return ""
    counts = "".join(
        f"<li><strong>{escape(str(entry['reason']))}</strong> {int(str(entry['count'])):,}: "
        f"{escape(str(entry['meaning']))}</li>"
        for entry in rejected
    )
    shown = "".join(_rejected(row) for row in rows)
    lead = f"{counted(total, 'annotation row')} could not be used; all of them are in rejects.parquet."
    return section("rejected", "Rows that never became clips", lead, f"<ul>{counts}</ul>", shown)


def _rejected(row: Rejected) -> str:
    why = escape(row.detail or REJECT_CODES.get(row.reason, ""))
    return (
        f'<div class="rejected"><h3>{escape(row.reason)}</h3><p>{escape(row.file)}, row {row.row:,}: '
        f'<span dir="auto">{why}</span></p><pre dir="auto">{escape(row.raw)}</pre></div>'
    )
