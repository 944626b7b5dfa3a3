"""VALOR: three encoders and a decoder that share one space, and what they are trained on.

model = Valor(preset("base"))
losses = model(batch, parse_tasks("pt_contra%tva%tv%ta_caption%tva%tv%ta"), generator)
losses["loss"].backward()

tokens = model.embed(batch)                            # for retrieval
score_matrix(tokens, tokens, "tva")                    # similarity.py
captions = model.generate(batch, "tva", num_beams=3)   # ids without start and end

B  clips   T  text tokens   P  prompt tokens   F  frames   S  slices of sound   N  tokens of a frame or slice
W  width
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from valor_data.errors import ConfigError

from .batch import Batch
from .generate import Search, generate
from .heads import Contrast, ModalityTokens
from .language import Clip, Language
from .losses import contrastive_losses, num_ranks, word_loss
from .masking import NOT_PREDICTED, PAD, Masked, mask_tokens
from .presets import ModelConfig
from .recompute import recompute
from .similarity import Tokens
from .sound import Sound
from .tasks import Tasks
from .vision import ClipVision, make_vision

PROMPTS = {
    "contrastive": "project language in common space",
    "caption": "describe the video with natural language",
    "mlm%tv": "predict masked tokens with visual cues",
    "mlm%ta": "predict masked tokens with audio cues",
    "mlm%tva": "predict masked tokens with visual and audio cues",
    "qa": "answer the question",
}
"""The sentence of each task, appended to its text where `ModelConfig.prompts` is on (the reference's words)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoders made of a batch.

    Attributes:
        video: [B, F, N, W of vision].
        audio: [B, S, N, W of sound].
        audio_valid: [B, S, N], bool: tokens that hold sound of the clip; None: all count.
        has_sound: [B], bool: the other clips have no part in groups with `a`; None: all have.
    """

    video: Tensor | None = None
    audio: Tensor | None = None
    audio_valid: Tensor | None = None
    has_sound: Tensor | None = None


class Valor(nn.Module):
    """The model. Freshly made its weights are random; `initialise.py` and `convert.py` fill them.

    Args:
        config: sizes and choices.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.language.width
        self.language = Language(config.language)
        self.vision = make_vision(config.vision, corner_bias=config.reference_exact)
        self.sound = Sound(config.sound)
        self.look = ModalityTokens(config.vision.out_width, width, config.max_frames)
        self.listen = ModalityTokens(config.sound.width, width, config.max_frames)
        self.contrast = Contrast(config)
        self.prompt_ids: dict[str, list[int]] = {}

    def set_prompts(self, encode: Callable[[str], Sequence[int]]) -> None:
        """Tokenises the prompts, once, before a model with prompts is used.

        Args:
            encode: from a sentence to ids, start and end marks included.
        """
        self.prompt_ids = {task: list(encode(text)) for task, text in PROMPTS.items()}

    def forward(
        self,
        batch: Batch,
        tasks: Tasks,
        generator: torch.Generator | None = None,
        masked: Mapping[str, Masked] | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            batch: clips with what the tasks need.
            tasks: what to learn.
            generator: where masking takes its randomness from.
            masked: texts already masked, by `caption`, `mlm` or `qa`, instead of a draw.

        Returns:
            `loss`, to be minimised, and its parts: `contrastive/tva`, `caption/tv`, … (unweighted; means over the
            groups of a task are what `loss` adds up). With several ranks, word losses are this rank's part: the mean
            over ranks is the loss.

        Raises:
            ConfigError: the batch lacks what a task needs, or is of another size than the model.
        """
        _check(batch, tasks)
        encoded = self.encode(batch, tasks.modalities)
        parts: dict[str, Tensor] = {}
        if tasks.contrastive:
            parts |= self._contrastive(batch, encoded, tasks.contrastive)
        for task, text in self.mask(batch, tasks, generator, masked).items():
            parts |= self._words(task, text, batch, encoded, getattr(tasks, task))
        return {"loss": self.total(parts), **parts}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """What is minimised, from its parts: α · mean of contrastive + the mean of every other task."""
        by_task: dict[str, list[Tensor]] = {}
        for name, loss in parts.items():
            by_task.setdefault(name.split("/")[0], []).append(loss)
        means = {task: torch.stack(losses).mean() for task, losses in by_task.items()}
        if "contrastive" in means:
            means["contrastive"] = means["contrastive"] * self.config.contrastive_weight
        return torch.stack(list(means.values())).sum()

    def encode(self, batch: Batch, modalities: str = "va") -> Encoded:
        """Frames and sound through their encoders, once for all tasks and groups.

        Args:
            batch: what it lacks is left out.
            modalities: letters of what to encode.
        """
        video = audio = valid = has_sound = None
        if "v" in modalities and batch.frames is not None:
            video = self.vision(self.vision.normalise(batch.frames))
        if "a" in modalities and batch.mel is not None:
            if not self.config.reference_exact:
                has_sound = batch.has_sound
                valid = self._audio_valid(batch)
            audio = self.sound(batch.mel, valid)
        return Encoded(video, audio, valid, has_sound)

    def _audio_valid(self, batch: Batch) -> Tensor | None:
        """[B, S, N] of the tokens that hold sound."""
        if batch.mel is None or (batch.mel_valid is None and batch.has_sound is None):
            return None
        frames = batch.mel_valid
        if frames is None:
            frames = torch.ones_like(batch.mel[:, :, 0], dtype=torch.bool)
        if batch.has_sound is not None:
            frames = frames & batch.has_sound[:, None, None]
        return self.sound.token_valid(frames)

    def embed(self, batch: Batch) -> dict[str, Tokens]:
        """Everything the batch has, ready for `similarity.score_matrix`: `t` captions, `v` frames, `a` sound.

        A clip without sound is compared by its frames alone in groups with both.
        """
        return self._embed(batch, self.encode(batch), "tva")

    def _embed(self, batch: Batch, encoded: Encoded, letters: str) -> dict[str, Tokens]:
        gradient = 1 / num_ranks() if self.config.reference_exact else 1.0
        found: dict[str, Tokens] = {}
        if "t" in letters and batch.captions is not None:
            ids = batch.captions
            hidden = self.language(ids, "both", prompt=self._prompt("contrastive", ids))[:, : ids.shape[1]]
            found["t"] = self.contrast("t", hidden, ids != PAD, gradient)
        if "v" in letters and encoded.video is not None:
            found["v"] = self.contrast("v", self.vision.pool(encoded.video), None, gradient)
        if "a" in letters and encoded.audio is not None:
            valid = None if encoded.audio_valid is None else encoded.audio_valid[:, :, 0]
            found["a"] = self.contrast("a", encoded.audio[:, :, 0], valid, gradient)
        return found

    def _contrastive(self, batch: Batch, encoded: Encoded, groups: Sequence[str]) -> dict[str, Tensor]:
        tokens = self._embed(batch, encoded, "".join(groups))
        found = contrastive_losses(
            tokens, groups, self.contrast.scale(), encoded.has_sound, zero_padding=self.config.reference_exact
        )
        return {f"contrastive/{group}": loss for group, loss in found.items()}

    def _words(
        self, task: str, text: Masked, batch: Batch, encoded: Encoded, groups: Iterable[str]
    ) -> dict[str, Tensor]:
        """Loss of guessing the hidden words, for each group: one mask, one decoder pass a group."""
        clips = self.clips(encoded, groups)
        losses = {}
        for group, clip in clips.items():
            prompt = self.text_prompt(task, group, text.ids, batch.questions)
            hidden = self.language(text.ids, "both" if task == "mlm" else "causal", clip, prompt)
            labels = text.labels
            if "a" in group and encoded.has_sound is not None:
                labels = torch.where(encoded.has_sound[:, None], labels, NOT_PREDICTED)
            losses[f"{task}/{group}"] = word_loss(
                hidden[:, : labels.shape[1]], labels, self.language.scores, not self.config.reference_exact
            )
        return losses

    def clips(self, encoded: Encoded, groups: Iterable[str]) -> dict[str, Clip]:
        """What the decoder looks at, for each group: video tokens, then audio tokens."""
        video = None if encoded.video is None else self.look(encoded.video)
        audio = None if encoded.audio is None else self.listen(encoded.audio)
        valid = None if encoded.audio_valid is None else encoded.audio_valid.flatten(1)
        found = {}
        for group in groups:
            parts = [t for letter, t in (("v", video), ("a", audio)) if letter in group and t is not None]
            mask = valid if "a" in group else None
            if mask is not None and "v" in group and video is not None:
                mask = torch.cat((mask.new_ones(video.shape[:2]), mask), 1)
            found[group] = Clip(torch.cat(parts, 1), mask)
        return found

    def text_prompt(self, task: str, group: str, ids: Tensor, questions: Tensor | None) -> Tensor | None:
        """What stands behind a text: the question, or the task's sentence, or both, or nothing: [B, P] or [P]."""
        if task != "qa":
            return self._prompt(f"mlm%{group}" if task == "mlm" else task, ids)
        if questions is None:
            raise ConfigError("task qa: the batch has no questions; its samples need questions and answers")
        sentence = self._prompt("qa", ids)
        if sentence is None:
            return questions
        words = sentence[1:-1].expand(questions.shape[0], -1)
        return torch.cat((questions[:, :1], words, questions[:, 1:]), 1)

    def _prompt(self, task: str, like: Tensor) -> Tensor | None:
        if not self.config.prompts:
            return None
        if not self.prompt_ids:
            raise ConfigError("the model has prompts and they are not tokenised yet: call set_prompts first")
        return torch.tensor(self.prompt_ids[task], device=like.device)

    def mask(
        self,
        batch: Batch,
        tasks: Tasks,
        generator: torch.Generator | None = None,
        masked: Mapping[str, Masked] | None = None,
    ) -> dict[str, Masked]:
        """Texts with gaps, for each task that guesses words: those already masked, the others drawn.

        Arguments as for `forward`.
        """
        config, found = self.config, {}
        shares = {"caption": config.caption_mask, "mlm": config.mlm_mask, "qa": config.answer_mask}
        for task, share in shares.items():
            if not getattr(tasks, task):
                continue
            if batch.captions is None:
                raise ConfigError("the batch has no captions")
            ready = (masked or {}).get(task)
            found[task] = ready or mask_tokens(batch.captions, share, config.language.vocabulary, generator)
        return found

    @torch.no_grad()
    def generate(
        self, batch: Batch, group: str, *, task: str = "caption", num_beams: int = 3, max_tokens: int = 30
    ) -> list[list[int]]:
        """Captions, or answers to the batch's questions: ids up to, without, the end mark.

        Args:
            batch: clips; for `qa` with questions.
            group: `tva`, `tv` or `ta`: what to look at. A clip without sound is described by its frames alone.
            task: `caption` or `qa`.
            num_beams: 1 is greedy. VALOR: 3 for captions, 1 for answers.
            max_tokens: VALOR: 30 for captions.
        """
        _check(batch, Tasks(group, caption=(group,)), captions=False)
        was_training = self.training
        self.eval()
        try:
            clip = self.clips(self.encode(batch, group), (group,))[group]
            prompt = self.text_prompt(task, group, clip.tokens, batch.questions)
            return generate(self.language, clip, prompt, Search(num_beams=num_beams, max_tokens=max_tokens)).ids
        finally:
            self.train(was_training)

    def checkpoint_activations(self, on: bool = True) -> None:
        """Trades time for memory: what is inside the encoders' and the decoder's layers is computed twice."""
        for part in (self.language, self.vision, self.sound):
            recompute(part.layers, on)

    def layers(self) -> list[nn.Module]:
        """The blocks that the encoders and the decoder are made of, for sharding or compiling them one by one."""
        vision = self.vision
        if isinstance(vision, ClipVision):
            seen = list(vision.clip.encoder.layers)
        else:
            seen = [block for stage in vision.swin.features if isinstance(stage, nn.Sequential) for block in stage]
        return [*seen, *self.sound.ast.layers, *self.language.bert.encoder.layer]

    def decayed(self) -> set[str]:
        """Names of the parameters that weight decay is for.

        Ours: the matrices of linear layers and convolutions. The reference: all but those whose name has `bias` or
        `LayerNorm.` in it, which leaves out BERT's norms only.
        """
        if self.config.reference_exact:
            return {name for name, _ in self.named_parameters() if "bias" not in name and "LayerNorm." not in name}
        kinds = (nn.Linear, nn.Conv2d, nn.Conv3d)
        return {f"{name}.weight" for name, module in self.named_modules() if isinstance(module, kinds)}

    def unused(self, tasks: Tasks) -> set[str]:
        """Names of the parameters that no loss of these tasks depends on (for DDP, which waits for all others)."""
        words, compared = "".join(tasks.caption + tasks.mlm + tasks.qa), "".join(tasks.contrastive)
        reached = {
            "vision.": tasks.needs_video,
            "sound.": tasks.needs_audio,
            "look.": "v" in words,
            "listen.": "a" in words,
            "language.": "t" in words + compared,
            "language.head.": bool(words),
            "contrast.": bool(compared),
        }
        reached |= {f"contrast.{part}.{one}.": one in compared for part in ("project", "weigh") for one in "tva"}
        away = tuple(prefix for prefix, is_reached in reached.items() if not is_reached)
        names = [name for name, _ in self.named_parameters()]
        return {name for name in names if name.startswith(away) or (not words and ".crossattention." in name)}


def _check(batch: Batch, tasks: Tasks, captions: bool = True) -> None:
    """Raises ConfigError where the batch lacks what a task needs, naming all of it."""
    lacks = []
    if captions and "t" in tasks.modalities and batch.captions is None:
        lacks.append("captions")
    if tasks.needs_video and batch.frames is None:
        lacks.append("frames")
    if tasks.needs_audio and batch.mel is None:
        lacks.append("mel")
    if lacks:
        raise ConfigError(
            f"task {tasks.text!r} needs {' and '.join(lacks)}, which these samples have not: choose groups without "
            f"{' and '.join({'frames': 'v', 'mel': 'a', 'captions': 't'}[name] for name in lacks)}, or other shards"
        )
