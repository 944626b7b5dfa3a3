"""Captions, answers and any file: what is written, what it is compared with, and what is said where Java is missing."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_sets import make_clip, write_set

from valor_data.clip import Caption, Clip, Question
from valor_data.config import ShardSection, TrainDataSection, TrainSection
from valor_data.errors import ConfigError
from valor_data.ledger import Outcome
from valor_data.media.mel import MelSettings
from valor_data.shard.sample import SampleRequest, SampleSettings, make_members
from valor_data.shard.tar import TarFile
from valor_data.train.caption_scores import plain_tokens, score_captions
from valor_data.train.checkpoint import Trained
from valor_data.train.data import DataSet, EvaluationData, LoaderSettings
from valor_data.train.describe import batch_of, describe_files
from valor_data.train.evaluate import EvalSettings, evaluate_fully
from valor_data.train.intake import Request, take
from valor_data.train.java import HOW_TO_ADD, JavaError, find_java, meteor_score, ptb_tokens
from valor_data.train.loop import train
from valor_data.train.pictures import PictureSettings
from valor_data.train.settings import completed, doubts, loader_settings
from valor_data.train.tasks import parse_tasks
from valor_data.train.text import Vocabulary
from valor_data.train.written import Line, answer_worth, is_right

REFERENCES = {
    "a": ["a red ball bounces while a low hum sounds"],
    "b": ["slow beeps are heard as a green square spins", "a green square turns and slow beeps play"],
    "c": ["a dog barks in the park"],
    "d": ["people sing on a stage to loud music"],
}


def needs_java() -> None:
    if find_java() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Java: {HOW_TO_ADD}")


def test_perfect_captions_score_as_perfect() -> None:
    found = score_captions({key: texts[0] for key, texts in REFERENCES.items()}, REFERENCES, tokenizer="plain")
    assert found.scores["bleu4"] == pytest.approx(100.0, abs=0.01)
    assert found.scores["rouge_l"] == pytest.approx(100.0)
    assert found.scores["cider"] > 400
    assert found.num_clips == 4


def test_bleu_by_hand() -> None:
    """Four words, three of them right, in one run of three: 3/4, 2/3, 1/2, and no four words in a row."""
    found = score_captions({"a": "the cat sat here", "b": "x y z w"}, {"a": ["the cat sat there"], "b": ["x y z w"]},
                           tokenizer="plain")  # fmt: skip
    assert found.scores["bleu1"] == pytest.approx(100 * 7 / 8)
    assert found.scores["bleu2"] == pytest.approx(100 * (7 / 8 * 5 / 6) ** 0.5)


def test_without_java_what_can_be_given_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = score_captions({key: texts[0] for key, texts in REFERENCES.items()}, REFERENCES)
    assert set(found.scores) == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"}
    assert found.tokenizer == "plain"
    assert "apt-get install default-jre-headless" in found.notes[0]
    with pytest.raises(JavaError, match="no java on the path"):
        ptb_tokens(["a b"])
    with pytest.raises(JavaError, match="no java on the path"):
        score_captions({"a": "b"}, {"a": ["b"]}, tokenizer="ptb")


def test_with_java() -> None:
    needs_java()
    words = ptb_tokens(["The man's dog doesn't stop - ever!", "", "A well-known T-shirt."])
    assert words[0] == ["the", "man", "'s", "dog", "does", "n't", "stop", "ever"]
    assert words[1] == []
    written = {"a": "a red ball bounces", "b": "a green square spins", "c": "a dog", "d": ""}
    found = score_captions(written, REFERENCES)
    assert found.tokenizer == "ptb" and found.notes == ()
    assert list(found.scores) == ["bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider"]
    assert 10 < found.scores["meteor"] < 60
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    assert not children.exists() or not any("java" in comm_of(pid) for pid in children.read_text().split())


def comm_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def test_java_that_fails_costs_what_runs_on_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `java` that is there and ends at once, as where memory is short."""
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'Could not reserve enough space' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = score_captions({key: texts[0] for key, texts in REFERENCES.items()}, REFERENCES)
    assert found.tokenizer == "plain" and "meteor" not in found.scores
    assert "Could not reserve enough space" in found.notes[0]
    with pytest.raises(JavaError, match=r"METEOR failed: .*1\.2 GB of memory"):
        meteor_score(["a"] * 2_000, [["b " * 50]] * 2_000)


def test_scores_by_hand() -> None:
    """Two clips are perfect. In clip a three words are shared, in order, of 4 written and 5 given, and one pair."""
    written = {"a": "a cat sat down", "b": "one two three four", "c": "five six seven eight"}
    references = {"a": ["a cat then sat there"], "b": ["one two three four"], "c": ["five six seven eight"]}
    found = score_captions(written, references, tokenizer="plain").scores
    precision, recall = 3 / 4, 3 / 5
    rouge = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert found["rouge_l"] == pytest.approx(100 * (rouge + 2) / 3)
    # of clip a: its words' cosine, weighed alike (each is in one clip), 3 of √4·√5; pairs: 1 of 3 and 4; lengths
    # differ by one word, σ 6; longer runs share nothing. Ten times the mean over 1 to 4 words.
    likeness = 10 / 4 * (3 / (4 * 5) ** 0.5 + 1 / (3 * 4) ** 0.5) * math.exp(-1 / 72)
    assert found["cider"] == pytest.approx(100 * (likeness + 10 + 10) / 3)


def test_captions_that_cannot_be_scored() -> None:
    with pytest.raises(ConfigError, match="no clip has a caption to compare with: give some with --captions"):
        score_captions({"a": "b"}, {"a": [" ", "..."]}, tokenizer="plain")
    with pytest.raises(ConfigError, match="tokenizer 'coco': expected one of auto, ptb, plain"):
        score_captions({"a": "b"}, REFERENCES, tokenizer="coco")
    found = score_captions({"a": "a red ball"}, REFERENCES, tokenizer="plain")
    assert found.scores["cider"] == 0 and "with one clip it is 0" in found.notes[0]


@pytest.mark.parametrize("text", ["It's 3.5 km, isn't it?", "A T-shirt - blue.", "«Été» à la mer"])
def test_plain_words_are_near_to_java_s(text: str) -> None:
    needs_java()
    assert plain_tokens(text) == ptb_tokens([text])[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learned nothing, over its own words."""
    from train.test_loop import QUICK

    folder = tmp_path_factory.mktemp("run")
    shards = write_set(folder / "set", [12, 12], clip_of=asked)
    section = replace(QUICK, steps=1, data=(TrainDataSection(shards=str(shards), split=""),))
    train(section, folder)
    return folder


def asked(number: int) -> Clip:
    texts = [Caption(f"clip {number} is seen"), Caption(f"clip {number} is heard")]
    return make_clip(number, texts, [Question(f"q{number}", "what number is it ?", (f"{number % 3}", "none"))])


def loaded(run: Path) -> Trained:
    from valor_data.train.checkpoint import load_model

    return load_model(run / "runs" / "first")


def data_of(run: Path, task: str, vocabulary: Vocabulary) -> EvaluationData:
    settings = LoaderSettings(batch_size=8, workers=0, pictures=PictureSettings(count=2, size_px=64))
    return EvaluationData(DataSet(shards=run / "set", task=task, split=""), settings, vocabulary)


def test_every_clip_is_written_about_once_and_compared_with_all_its_captions(run: Path) -> None:
    model, vocabulary, _ = loaded(run)
    data = data_of(run, "cap%tva%tv", vocabulary)
    found = evaluate_fully(model, data, parse_tasks("cap%tva%tv"), EvalSettings(num_beams=2, tokenizer="plain"))
    assert len(found.keys) == 24
    assert found.num_clips == {"caption/tva": 24, "caption/tv": 24}
    assert set(found.predictions["caption/tva"]) == set(found.keys)
    assert {"caption/tva/bleu4", "caption/tva/cider", "caption/tv/rouge_l"} <= set(found.scores)
    assert len(found.certificate) == 64


def test_answers(run: Path) -> None:
    model, vocabulary, _ = loaded(run)
    found = evaluate_fully(model, data_of(run, "qa%tva", vocabulary), parse_tasks("qa%tva"))
    assert len(found.keys) == 24 and not any("#" in key for key in found.keys)  # clips, not questions
    assert set(found.predictions["qa/tva"]) == {f"{make_clip(number).key}#q{number}" for number in range(24)}
    assert 0 <= found.scores["qa/tva/accuracy"] <= 100
    lines = {"1": Line("None", ("none", "2")), "2": Line("two", ("2",)), "3": Line("x", ())}
    assert answer_worth(lines, vocabulary)["accuracy"] == 50.0


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [("None", "none", True), ("t - shirt", "T-shirt", True), ("café", "cafe", True), ("two", "too", False),
     ("", "", False), ("[UNK]", "漢", False), ("漢", "漢", False), ("one", "one two", False)],
)  # fmt: skip
def test_an_answer_is_right_word_for_word(answer: str, reference: str, right: bool) -> None:
    """Case, accents and the space around a hyphen are beyond BERT's vocabulary; what it cannot spell is no answer."""
    vocabulary = Vocabulary.learn(["none t-shirt cafe two too one [unk]"] * 2, 200)
    assert is_right(Line(answer, (reference,)), vocabulary) is right


def test_questions_without_any_answer(run: Path) -> None:
    with pytest.raises(ConfigError, match="no question has an answer to compare with"):
        answer_worth({"1": Line("x", ())}, loaded(run).vocabulary)


def test_ids_that_are_the_clip_s_own_do_not_run_together(run: Path, tmp_path: Path) -> None:
    """Every clip has a question named 1."""
    shards = write_set(tmp_path, [5], clip_of=lambda n: make_clip(n, (), [Question("1", "what ?", ("none",))]))
    model, vocabulary, _ = loaded(run)
    settings = LoaderSettings(batch_size=2, workers=0, pictures=PictureSettings(count=2, size_px=64))
    data = EvaluationData(DataSet(shards=shards, task="qa%tva", split=""), settings, vocabulary)
    found = evaluate_fully(model, data, parse_tasks("qa%tva"))
    assert found.num_clips == {"qa/tva": 5} and len(found.predictions["qa/tva"]) == 5


def test_any_file_is_described(run: Path, shared: Path) -> None:
    media = shared / "media"
    files = [
        media / "audible/chrome.mp4", media / "no_audio/bikes.mp4", media / "audio_only/test-pod.m4a",
        media / "silent/sample_15fps_720p_1s.mp4", media / "hostile/derived_html_named.mp4", media / "nothing.mp4",
        media / "audio_only/sample_audio_only_15s.mp4",
    ]  # fmt: skip
    found = describe_files(files, run / "runs" / "first", span=(0.0, 1.0), num_beams=1)
    assert [one.caption is not None for one in found] == [True, True, True, True, False, False, False]
    assert [one.note for one in found[:4]] == [
        "",
        "from the picture alone: there is no sound",
        "from the sound alone: there is no picture",
        "from the picture alone: the sound is silent",
    ]
    assert [one.problem.split(":")[0] for one in found[4:6]] == ["not_media", "missing"]
    assert found[6].problem == "no_video: no picture track; silent: -150 dBFS"


def test_what_of_a_file_is_described(run: Path, shared: Path) -> None:
    audible, checkpoint = [shared / "media/audible/chrome.mp4"], run / "runs" / "first"
    whole = describe_files(audible, checkpoint, span=(25.0, None), num_beams=1)[0]
    assert (whole.start, round(whole.end, 1)) == (25.0, 30.0)  # ten seconds on, or the end
    deaf = describe_files(audible, checkpoint, span=(0.0, 1.0), modalities="v", num_beams=1)[0]
    assert deaf.caption is not None and deaf.note == ""
    late = describe_files(audible, checkpoint, span=(40.0, None))[0]
    assert late.problem == "short: the file ends at 30.0 s, the span begins at 40"
    long = describe_files(audible, checkpoint, span=(0.0, 4000.0))[0]
    assert long.problem == "too_long: 4000 s were asked for; at most 600 can be told"
    with pytest.raises(ConfigError, match="the end must come after the start") as refusal:
        describe_files(audible, checkpoint, span=(3.0, 2.0), modalities="va")
    assert "--modalities va: expected one of av, v, a" in str(refusal.value)


def test_a_file_is_seen_as_a_shard_of_it_is(run: Path, shared: Path, tmp_path: Path) -> None:
    """The batch of a file is the loader's of a shard that `shard` made of it, to the last bit."""
    path, clip = shared / "media/audible/mp4parser_v2.mp4", Clip("mp4parser_v", 1.0, 7.0, captions=(Caption("x"),))
    settings = SampleSettings.of(ShardSection(), "av")
    made = make_members(
        SampleRequest(1, clip, path, 0.0, None, "{}", ""), settings, lambda facts: Outcome.kept(), tmp_path
    )
    (tmp_path / "shards").mkdir()
    with TarFile(tmp_path / "shards" / "test-000000.tar") as tar:
        tar.add_sample(clip.key or "", made.members or {})
    trained = loaded(run)
    loader = replace(loader_settings(completed(trained.settings, ""), trained.model.config), workers=0)
    data = EvaluationData(DataSet(shards=tmp_path, task="cap%tva", split="test"), loader, trained.vocabulary)
    expected = next(iter(data)).batch
    taken = take(Request(path, 1.0, 7.0, "av", MelSettings.valor()))
    assert taken.features is not None
    batch = batch_of(taken.features, "av", (1.0, 7.0), trained)
    for name in ("frames", "mel", "mel_valid", "has_sound"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name


@pytest.mark.timeout(180)
def test_hostile_files_end_in_a_line_each(run: Path, shared: Path) -> None:
    """In a process of their own; nothing is left behind."""
    files = sorted((shared / "media" / "hostile").iterdir())
    before = set(Path(tempfile.gettempdir()).glob("valor-data-*"))
    found = describe_files(files, run / "runs" / "first", span=(0.0, 2.0), num_beams=1, isolated=True)
    assert [Path(one.file) for one in found] == files
    assert all((one.caption is None) == bool(one.problem) for one in found)
    problems = {Path(one.file).name: one.problem.split(":")[0] for one in found}
    assert problems["derived_html_named.mp4"] == "not_media"
    assert problems["derived_zero_byte.mp4"] == "empty"
    assert problems["prog_8s_enc_dashinit.mp4"] == "undecodable"
    assert set(Path(tempfile.gettempdir()).glob("valor-data-*")) <= before | set(
        Path(tempfile.gettempdir()).glob("valor-data-test-*")
    )


@pytest.mark.timeout(120)
def test_the_commands(run: Path, shared: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "valor_data"]
    at = ["--data", str(run / "set"), "--split", "", "--workers", "0", "--device", "cpu"]
    out = tmp_path / "results.json"
    done = subprocess.run(
        [*program, "eval", str(run / "runs/first"), *at, "--task", "ret%tva%ta", "--dsl", "-o", str(out)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tva, dsl, text to clip" in done.stdout and "R@1" in done.stdout
    tree = json.loads(out.read_text())
    assert tree["num_clips"] == {"retrieval/tva": 24, "retrieval/ta": 24}
    wrong = subprocess.run([*program, "eval", str(tmp_path), *at, "--task", "ret%tva"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "no model here; expected a run's folder" in wrong.stderr
    shutil.copy(shared / "media/audible/chrome.mp4", tmp_path / "-odd name.mp4")
    said = subprocess.run(
        [*program, "caption", "--checkpoint", str(run / "runs/first"), "--json", "--", str(tmp_path / "-odd name.mp4")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)[0]["problem"] == ""


def test_what_was_never_learned_is_a_guess_and_said_so() -> None:
    section = TrainSection(task="pt_contra%tva")
    (line,) = doubts(section, "cap%tva")
    assert line.startswith("the model was trained for pt_contra%tva, never to write captions: these are guesses; ")
    assert doubts(section, "ret%tv") == () == doubts(TrainSection(), "pt_contra%tva_caption%tv")
    assert [line.split("never ")[1].split(":")[0] for line in doubts(TrainSection(), "qa%tva")] == [
        "to answer questions"
    ]
    assert doubts(replace(section, init="runs/pretrained"), "cap%tva") == (), "it may have learned it before"
    mixed = replace(section, data=(TrainDataSection(shards="a"), TrainDataSection(shards="b", task="cap%tv")))
    assert doubts(mixed, "cap%tv") == ()


def test_the_model_is_left_as_it_was(run: Path) -> None:
    model, vocabulary, _ = loaded(run)
    model.train()
    evaluate_fully(model, data_of(run, "ret%tva", vocabulary), parse_tasks("ret%tva"))
    assert model.training and all(isinstance(p, torch.nn.Parameter) for p in model.parameters())
