"""Which words go with a clip, and files that bring other words."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from valor_data.clip import Caption, Clip, Question
from valor_data.errors import ConfigError, ManifestError
from valor_data.manifest import build_manifest, write_manifest
from valor_data.manifest.overrides import Overrides
from valor_data.train.captions import TextSettings, caption_rows, question_rows

CAPTIONS = (Caption("A dog barks."), Caption("A dog.", "visual"), Caption("Barking!", "audio"), Caption("It's loud."))
QUESTIONS = (
    Question("q1", "What is heard?", ("a dog", "dog", "a dog")),
    Question("", "Where is it?", ("outside",)),
    Question("q3", "Why?", ()),
)


def test_training_draws_one_caption_and_knows_all() -> None:
    seen = Counter()
    for seed in range(200):
        (row,) = caption_rows(CAPTIONS, TextSettings(), np.random.default_rng(seed))
        seen[row.text] += 1
        assert row.references == tuple(caption.text for caption in CAPTIONS)
    assert seen.keys() == {caption.text for caption in CAPTIONS} and min(seen.values()) > 25


def test_an_evaluation_takes_the_first_or_all() -> None:
    assert [row.text for row in caption_rows(CAPTIONS, TextSettings(), None)] == ["A dog barks."]
    rows = caption_rows(CAPTIONS, TextSettings(evaluate="all"), None)
    assert [row.text for row in rows] == [caption.text for caption in CAPTIONS]
    assert [row.text for row in caption_rows((), TextSettings(), None)] == [""]


def test_roles_are_chosen_in_the_order_given() -> None:
    settings = TextSettings(roles=("audio", "audiovisual"), evaluate="all", clean_up=True)
    assert [row.text for row in caption_rows(CAPTIONS, settings, None)] == ["barking", "a dog barks", "its loud"]


def test_a_clip_without_a_caption_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match=r"^no caption of role audio or visual$"):
        caption_rows(CAPTIONS[:1], TextSettings(roles=("audio", "visual")), np.random.default_rng(0))


def test_questions_of_an_evaluation_have_a_row_each() -> None:
    rows = question_rows("key", QUESTIONS, TextSettings(), None)
    assert [(row.question, row.text, row.question_key) for row in rows] == [
        ("What is heard?", "a dog", "q1"),
        ("Where is it?", "outside", "key#1"),
        ("Why?", "", "q3"),
    ]
    assert rows[0].references == ("a dog", "dog", "a dog")


def test_questions_in_training_are_drawn_with_an_answer() -> None:
    drawn = [question_rows("key", QUESTIONS, TextSettings(), np.random.default_rng(seed))[0] for seed in range(100)]
    assert {(row.question, row.text) for row in drawn} == {
        ("What is heard?", "a dog"), ("What is heard?", "dog"), ("Where is it?", "outside")
    }  # fmt: skip
    frequent = TextSettings(answer="frequent", clean_up=True)
    drawn = [question_rows("key", QUESTIONS, frequent, np.random.default_rng(seed))[0] for seed in range(100)]
    assert {(row.question, row.text) for row in drawn} == {("what is heard", "a dog"), ("where is it", "outside")}
    with pytest.raises(ValueError, match="no question with an answer"):
        question_rows("key", QUESTIONS[2:], TextSettings(), np.random.default_rng(0))


CLIP = Clip("ab_c-d_00e", 30.0, 40.0, captions=CAPTIONS[:3], questions=QUESTIONS[:1])
KEY = "ab_c-d_00e_00030000_00040000"
NEW = (Caption("Another."),)


def write(path: Path, tree: Any) -> Path:
    path.write_text(json.dumps(tree))
    return path


def as_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def as_csv(path: Path, *rows: dict[str, Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_parquet(path: Path, *rows: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def as_manifest(path: Path, *rows: dict[str, Any]) -> Path:
    write_manifest(build_manifest([as_csv(path.with_suffix(".csv"), *rows)]), path)
    return path


SPAN = {"video_id": "ab_c-d_00e", "start": 30, "end": 40, "caption": "Another."}
BY_KEY = {"key": KEY, "caption": "Another."}


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: as_csv(folder / "a.csv", SPAN),
        lambda folder: as_csv(folder / "a.csv", BY_KEY),
        lambda folder: as_parquet(folder / "a.parquet", SPAN),
        lambda folder: as_parquet(folder / "a.parquet", BY_KEY),
        lambda folder: as_manifest(folder / "a.parquet", SPAN),
        lambda folder: write(folder / "a.json", [SPAN]),
        lambda folder: write(folder / "a.json", [BY_KEY]),
        lambda folder: write(folder / "a.json", {KEY: ["Another."]}),
        lambda folder: write(folder / "a.json", [{"video_id": "ab_c-d_00e_30.000_40.000", "desc": "Another."}]),
        lambda folder: as_lines(folder / "a.jsonl", BY_KEY, {**BY_KEY, "key": f"-{KEY}"}),
        lambda folder: as_lines(folder / "a.jsonl", SPAN, {**SPAN, "start": 0}),
    ],
)
def test_files_that_bring_captions(tmp_path: Path, make: Any) -> None:
    overrides = Overrides.read(make(tmp_path))
    assert overrides.captions_of(CLIP) == NEW + CAPTIONS[1:3], "captions of other roles stay"
    assert overrides.questions_of(CLIP) == QUESTIONS[:1]
    assert overrides.captions_of(Clip("another", 0.0, 1.0, captions=CAPTIONS)) == CAPTIONS


def test_a_role_is_overridden_by_itself(tmp_path: Path) -> None:
    rows = [{**BY_KEY, "role": role, "caption": text} for role, text in (("audio", "One."), ("audio", "Two."))]
    found = Overrides.read(as_csv(tmp_path / "a.csv", *rows)).captions_of(CLIP)
    assert found == (Caption("One.", "audio"), Caption("Two.", "audio"), *CAPTIONS[:2])


def test_questions_take_the_place_of_the_old(tmp_path: Path) -> None:
    asked = {**BY_KEY, "questions": [{"question": "How?", "answers": ["so"], "question_id": "n"}]}
    overrides = Overrides.read(write(tmp_path / "a.json", [asked]))
    assert overrides.questions_of(CLIP) == (Question("n", "How?", ("so",)),)


def test_whole_videos_are_found_by_their_id(tmp_path: Path) -> None:
    overrides = Overrides.read(write(tmp_path / "a.json", {"video7": ["Another."]}))
    assert overrides.captions_of(Clip("video7", 0.0, 9.5, captions=CAPTIONS[:1])) == NEW


def test_a_file_without_words(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a\.csv.*neither captions nor questions"):
        Overrides.read(as_csv(tmp_path / "a.csv", {"video_id": "a", "start": 0, "end": 1}))
    with pytest.raises(ManifestError, match=r"none\.csv"):
        Overrides.read(tmp_path / "none.csv")


def test_wrong_settings_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        TextSettings(max_tokens=0, max_answer_tokens=0, roles=("loud",), evaluate="some", answer="any")
    assert len(caught.value.problems) == 5
