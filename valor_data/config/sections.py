"""Every setting, declared once, with its default, its range and its meaning: one frozen section a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MODALITIES: tuple[str, ...] = ("av", "v", "a")
"""What a run holds: picture and sound, picture only, sound only."""

EXECUTORS: tuple[str, ...] = ("local", "ray")
"""Where workers run: processes of this machine, or the machines of a Ray cluster."""

INCLUDES: tuple[str, ...] = ("audio", "video")
"""Media members that may be added to each sample."""


EDITIONS: tuple[str, ...] = ("ids", "features", "media")
"""What a published set carries: no media; pictures and mel; video and sound too."""


def setting(
    default: Any,
    meaning: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Declares one setting: its default, its meaning, and the values that are right."""
    return field(
        default=default,
        metadata={"meaning": meaning, "minimum": minimum, "maximum": maximum, "choices": choices},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSection:
    """`[manifest]`: which annotation files, and how to read them."""

    files: tuple[str, ...] = setting((), "annotation files, relative to the TOML file")
    format: str = setting("", "name of the format, where it is not recognised")
    split: str = setting("", "split of every clip, where the file's name does not say it")
    join: str = setting("left", "left: captions define the clips; outer: label files too", choices=("left", "outer"))
    on_leak: str = setting("error", "what to do with a video in two splits", choices=("error", "drop"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSection:
    """`[fetch]`: where the videos are, and what to take of them."""

    source: str = setting("youtube", "youtube, a URL template with {video_id}, column, a folder, or a set")
    member: str = setting("", "of a set's samples, the member or column that is the video; empty: recognised")
    workers: int = setting(2, "videos fetched at the same time", minimum=1, maximum=64)
    copy: bool = setting(False, "copy the files of a folder source instead of using them in place")
    max_short_side_px: int = setting(360, "largest short side of the picture to ask for", minimum=1)
    pieces: str = setting("auto", "what of a video to download", choices=("auto", "whole", "section", "ranges"))
    whole_below_bytes: int = setting(8_000_000, "pieces = auto: videos up to this size come whole", minimum=0)
    max_video_seconds: float = setting(14400.0, "longest video to take", minimum=1)
    max_video_bytes: int = setting(4_000_000_000, "largest file to take", minimum=1)
    video_deadline_seconds: float = setting(1800.0, "time for all clips of one video", minimum=1)
    requests_per_hour: float = setting(
        0.0, "extraction requests an hour and address; 0: 250 from YouTube, no limit elsewhere", minimum=0
    )
    max_requests_per_hour: float = setting(
        0.0, "ceiling of its slow growth while nothing is refused; 0: a fifth above", minimum=0
    )
    burst: int = setting(5, "requests that may be made at once after a rest", minimum=1, maximum=1000)
    proxies: tuple[str, ...] = setting((), "your own proxies, each an address of its own: URL or name=URL")
    direct: bool = setting(True, "ask from this machine's own address too")
    probe_video: str = setting("jNQXAC9IVRw", "a video known to be there, asked for after a pause")
    min_success_share: float = setting(
        0.05, "stop when fewer of the last 200 videos came; 0: never", minimum=0, maximum=1
    )
    min_free_bytes: int = setting(2_000_000_000, "pause while less of the disk is free", minimum=0)
    wait: bool = setting(True, "wait while addresses pause or the disk is full; false: end the run")
    deadlink_days: float = setting(180.0, "after so long a dead link is asked for once more", minimum=0)
    cookies: str = setting("", "your own cookie file; copied for each worker, never shared")
    player_clients: tuple[str, ...] = setting((), "YouTube player clients for yt-dlp, in order")
    extractor_args: tuple[str, ...] = setting((), "further yt-dlp extractor arguments, as on its command line")
    yt_dlp_options: tuple[str, ...] = setting((), "further yt-dlp options, as on its command line")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSection:
    """`[filter]`: which clips are kept."""

    workers: int = setting(0, "processes; 0: one a core", minimum=0, maximum=1024)
    min_rms_dbfs: float = setting(-60.0, "quietest clip to keep, by its RMS level", minimum=-200, maximum=0)
    min_peak_dbfs: float = setting(-50.0, "quietest clip to keep, by its peak", minimum=-200, maximum=0)
    min_coverage: float = setting(0.5, "least share of the span that sound and picture cover", minimum=0, maximum=1)
    clip_deadline_seconds: float = setting(60.0, "time to measure one clip", minimum=0.1)
    clip_memory_bytes: int = setting(4 * 2**30, "memory that one clip may take; 0: no limit", minimum=0)
    # curation, all off by default
    licences_allowed: tuple[str, ...] = setting((), "licence fields to keep (* any text; unknown: none); empty: all")
    licences_denied: tuple[str, ...] = setting((), "licence fields to drop, written likewise")
    caption_junk: bool = setting(False, "drop captions without words, numbers, URLs, repeated characters")
    caption_min_words: int = setting(0, "least words of a caption", minimum=0)
    caption_max_words: int = setting(0, "most words of a caption; 0: any number", minimum=0)
    caption_languages: tuple[str, ...] = setting((), "languages to keep, such as en; empty: all")
    caption_certainty: float = setting(
        0.9, "how certain another language must be beside these, 0.5: any more likely", minimum=0.5, maximum=1
    )
    caption_repeats: int = setting(0, "drop captions that occur so often, but for one word; 0: none", minimum=0)
    min_picture_change: float = setting(
        0.0, "least change from picture to picture, 0 to 255; 1: no stills", minimum=0, maximum=255
    )
    min_moving_share: float = setting(0.0, "least share of the picture that changes", minimum=0, maximum=1)
    max_border_share: float = setting(1.0, "largest share of black borders", minimum=0, maximum=1)
    content: bool = setting(False, "measure pictures and sound for filters that look at them, even when none is on")
    leak: tuple[str, ...] = setting(
        (), "what training clips must not be in: manifests, annotation files, work folders; splits: val and test here"
    )
    leak_match: str = setting("span", "span: of its videos, overlapping clips; video: all", choices=("span", "video"))
    duplicates: bool = setting(False, "keep one of clips that show the same footage")
    duplicate_overlap: float = setting(
        0.5, "share of the shorter of two clips of one video that makes duplicates", minimum=0, maximum=1
    )
    max_picture_bits: int = setting(12, "bits of 64 in which alike pictures may differ", minimum=0, maximum=24)
    max_sound_error: float = setting(0.33, "share of bits in which alike sound may differ", minimum=0, maximum=0.4)
    balance: int = setting(0, "most clips of a label, in each training split; 0: any number", minimum=0)
    sample_share: float = setting(1.0, "share of the training clips to draw", minimum=0, maximum=1)
    sample_count: int = setting(0, "training clips of a split to draw; 0: all", minimum=0)
    seed: int = setting(0, "of balance and of drawing", minimum=0)
    train_splits: tuple[str, ...] = setting(("train",), "splits that leak, balance and drawing may take from")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSection:
    """`[shard]`: what a sample holds and how samples are packed."""

    workers: int = setting(0, "processes; 0: one a core", minimum=0, maximum=1024)
    max_clips: int = setting(1000, "clips of the manifest a shard", minimum=1)
    max_bytes: int = setting(
        0, "size of a shard; becomes a count, estimated from a sample; 0: max_clips counts", minimum=0
    )
    seed: int = setting(0, "seed of the order of the clips", minimum=0)
    partial: bool = setting(False, "build shards that still wait for clips")
    output: str = setting(
        "", "where shards go: a folder, or an address such as s3://bucket/set; empty: the work folder"
    )
    include: tuple[str, ...] = setting((), "media members to add to each sample", choices=INCLUDES)
    discard_media: bool = setting(False, "delete the media of a clip once its shard is finished")
    num_frames: int = setting(10, "pictures a clip", minimum=1, maximum=100)
    frame_short_side_px: int = setting(256, "short side of a picture; never enlarged", minimum=16, maximum=4096)
    jpeg_quality: int = setting(90, "JPEG quality", minimum=1, maximum=100)
    frame_snap: str = setting(
        "exact", "exact: what is on screen at each moment; key: the nearest key picture", choices=("exact", "key")
    )
    mel: str = setting("valor", "front end of the log-mel", choices=("valor", "ast"))
    clip_deadline_seconds: float = setting(120.0, "time to make one sample", minimum=0.1)
    clip_memory_bytes: int = setting(4 * 2**30, "memory that one clip may take; 0: no limit", minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteSection:
    """`[execute]`: where the workers of fetch, filter and shard run."""

    executor: str = setting("local", "local: processes here; ray: tasks on a Ray cluster", choices=EXECUTORS)
    address: str = setting("", "the Ray cluster, host:port or auto; empty: a Ray of our own on this machine")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSection:
    """`[publish]`: what a published set carries, and what its card says that no measurement can."""

    edition: str = setting("features", "ids: no media; features: pictures and mel; media: all", choices=EDITIONS)
    pretty_name: str = setting("", "the set's name as people write it; empty: the repository's")
    summary: str = setting("", "a paragraph about the set, at the top of the card")
    contact: str = setting("", "whom to ask for removal: a mail address or a page; empty: the repository's discussions")
    licence: str = setting("other", "licence of the captions and the list of clips, as the Hub names licences")
    licence_name: str = setting("", "its name, where licence is other")
    licence_link: str = setting("", "where it can be read, where licence is other")
    annotations: str = setting("", "where the captions come from and who made them, for the attribution")
    language: tuple[str, ...] = setting(("en",), "languages of the captions, ISO 639 codes")
    tags: tuple[str, ...] = setting((), "further tags of the repository")
    text: str = setting("", "your own part of the card, Markdown")
    citation: str = setting("", "BibTeX of your own set, beside that of VALOR")
    private: bool = setting(False, "only you and your organisation see the repository")
    gated: bool = setting(False, "people must ask before they may download")
    approval: str = setting("auto", "who lets them in: auto: nobody waits; manual: you", choices=("auto", "manual"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainDataSection:
    """`[[train.data]]`: a set to train on. Several are mixed by their weights."""

    shards: str = setting("", "a work folder, a folder of tars, a pattern, or an address; empty: the work folder")
    task: str = setting("", "what is learned from it; empty: train.task")
    split: str = setting("train", "of a folder, the tars of this split; empty: all")
    weight: float = setting(1.0, "how often it is drawn among several sets", minimum=1e-9)
    captions: str = setting("", "an annotation file whose captions take the place of those in the shards")
    tombstones: str = setting("", "a list of what was removed from it since; empty: the one beside the shards")
    extension: str = setting("", "a second set that `extend` made, by name or place: its members are taken instead")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainValidationSection:
    """`[train.validation]`: what the best checkpoint is chosen on."""

    shards: str = setting("", "as for train.data; empty: the first set of train.data; none: no validation")
    task: str = setting("", "what is measured; empty: train.task")
    split: str = setting("val", "of a folder, the tars of this split")
    captions: str = setting("", "an annotation file whose captions take the place of those in the shards")
    tombstones: str = setting("", "a list of what was removed from it since; empty: the one beside the shards")
    extension: str = setting("", "a second set that `extend` made, by name or place: its members are taken instead")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSection:
    """`[train]`: what is learned, from what, and how. The presets' figures are in `train/settings.py`."""

    name: str = setting("first", "of the run: runs/NAME in the work folder")
    preset: str = setting("base", "size of the model", choices=("tiny", "base", "base-swin", "large"))
    task: str = setting("pt_contra%tva%tv%ta_caption%tva%tv%ta", "task string")
    data: tuple[TrainDataSection, ...] = setting((), "sets to train on; none: the work folder")
    validation: TrainValidationSection = TrainValidationSection()
    vocabulary: str = setting("", "vocab.txt, its folder, a model on the Hub, or learn; empty: the preset's")
    init: str = setting("", "published: the preset's encoders from the Hub; or a run or checkpoint folder")
    init_text: str = setting("", "BERT: a name on the Hub or a folder")
    init_vision: str = setting("", "CLIP or Video-Swin: a name on the Hub, a folder or a file")
    init_sound: str = setting("", "AST: a name on the Hub or a folder")
    seed: int = setting(0, "of everything that is drawn", minimum=0)
    steps: int = setting(0, "steps of the optimiser; 0: as many as epochs has", minimum=0)
    epochs: int = setting(10, "passes over all sets, where steps is 0", minimum=1)
    batch_size: int = setting(64, "clips of a batch on one process", minimum=1)
    accumulate: int = setting(1, "batches of a step", minimum=1)
    lr: float = setting(0.0, "peak learning rate; 0: the preset's", minimum=0)
    lr_vision: float = setting(0.0, "that of the vision encoder; 0: the preset's", minimum=0)
    lr_new: float = setting(0.0, "that of parts no published encoder has; 0: as lr", minimum=0)
    warmup: float = setting(0.1, "share of the steps in which the rate rises", minimum=0, maximum=1)
    weight_decay: float = setting(0.01, "AdamW's", minimum=0)
    beta1: float = setting(0.9, "AdamW's", minimum=0, maximum=0.999999)
    beta2: float = setting(0.98, "AdamW's", minimum=0, maximum=0.999999)
    eps: float = setting(1e-6, "AdamW's", minimum=1e-12)
    max_grad_norm: float = setting(0.0, "longer gradients are cut to this length; 0: the preset's", minimum=0)
    precision: str = setting("auto", "auto: bf16 on a GPU, else fp32", choices=("auto", "fp32", "bf16"))
    device: str = setting("auto", "auto: the GPU where there is one", choices=("auto", "cpu", "cuda"))
    parallel: str = setting("ddp", "how several processes share the model", choices=("ddp", "fsdp"))
    compile: bool = setting(False, "torch.compile the encoders and the decoder")
    checkpoint_activations: bool = setting(False, "less memory, a third more time")
    reference_exact: bool = setting(False, "the published code's arithmetic, its mistakes included")
    workers: int = setting(2, "loader processes of each training process", minimum=0, maximum=256)
    buffer: int = setting(1000, "samples mixed at a time in a loader", minimum=1)
    resampled: bool = setting(False, "draw whole shards again and again instead of sharing exact passes")
    max_broken_share: float = setting(0.01, "more broken samples than this stop the run", minimum=0, maximum=1)
    num_frames: int = setting(0, "pictures of a clip; 0: the preset's", minimum=0, maximum=32)
    fit: str = setting("squash", "how a picture becomes square", choices=("squash", "crop"))
    augment: str = setting("none", "changes to pictures in training", choices=("none", "crop_flip"))
    num_slices: int = setting(1, "slices of a clip's mel, 512 frames each", minimum=1, maximum=32)
    mel_mean: float = setting(-4.2677393, "taken from the mel: AST's figure, see stats --mel")
    mel_std: float = setting(4.5689974, "the mel is divided by twice this", minimum=1e-6)
    max_tokens: int = setting(40, "most word pieces of a caption", minimum=1, maximum=500)
    clean_up: bool = setting(False, "captions in lower case, without punctuation, as the reference reads them")
    caption_mask: float = setting(0.6, "share of a caption's words to predict", minimum=0.01, maximum=1)
    contrastive_weight: float = setting(1.5, "weight of the similarity losses", minimum=0)
    temperature: float = setting(0.07, "temperature at the start", minimum=0.001, maximum=10)
    log_every: int = setting(10, "steps between two lines of metrics", minimum=1)
    save_every: int = setting(500, "steps between two checkpoints", minimum=1)
    validate_every: int = setting(0, "steps between two validations; 0: with each checkpoint", minimum=0)
    keep_last: int = setting(3, "checkpoints to keep besides the best", minimum=1)
    best_by: str = setting("loss", "the figure of the validation that the best checkpoint is chosen by")
    tensorboard: bool = setting(True, "write TensorBoard's files too")
    wandb: bool = setting(False, "report to Weights & Biases too")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run."""

    modalities: str = setting("av", "av: picture and sound; v: picture only; a: sound only", choices=MODALITIES)
    work: str = setting("", "the work folder, relative to the TOML file; empty: beside it")
    manifest: ManifestSection = ManifestSection()
    fetch: FetchSection = FetchSection()
    filter: FilterSection = FilterSection()
    shard: ShardSection = ShardSection()
    execute: ExecuteSection = ExecuteSection()
    publish: PublishSection = PublishSection()
    train: TrainSection = TrainSection()
