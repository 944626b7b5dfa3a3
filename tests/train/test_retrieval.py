"""Retrieval against a slow plain rendering; ties, several captions, dual softmax, and two processes as one."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluating import SIZES, TASK, captioned, data_of, make_sets, measured, model_of, told
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import write_set

from valor_data.clip import certificate
from valor_data.errors import ConfigError, ShardError, ValorDataError
from valor_data.train import ranking
from valor_data.train.evaluate import EvalSettings, evaluate, evaluate_fully
from valor_data.train.ranking import (
    Matrix,
    column_places,
    dual_softmax_of_columns,
    dual_softmax_of_rows,
    row_places,
    summary,
)
from valor_data.train.retrieval import direction_names, first_rows, similarities
from valor_data.train.similarity import Tokens
from valor_data.train.tasks import parse_tasks

HERE = Path(__file__).parent


def plain_places(scores: Sequence[Sequence[float]], rows: Sequence[int], columns: Sequence[int]) -> list[int]:
    """One row after another, one column after another."""
    found = []
    for row, owner in enumerate(rows):
        right = [scores[row][k] for k, other in enumerate(columns) if other == owner]
        if right:
            wrong = [scores[row][k] for k, other in enumerate(columns) if other != owner]
            found.append(1 + sum(score >= max(right) for score in wrong))
    return found


def turned(scores: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*scores, strict=True)]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[int]]:
    """Few different scores, so that ties are many; clips with several captions, with none, and with none of their
    own on the other side."""
    rows = draw(st.lists(st.integers(0, 4), min_size=1, max_size=9))
    columns = draw(st.lists(st.integers(0, 5), min_size=1, max_size=7))
    score = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])
    scores = draw(st.lists(st.lists(score, min_size=len(columns), max_size=len(columns)),
                           min_size=len(rows), max_size=len(rows)))  # fmt: skip
    return scores, rows, columns


def matrix_of(scores: Sequence[Sequence[float]], rows: Sequence[int], columns: Sequence[int]) -> Matrix:
    return Matrix(torch.tensor(scores), torch.tensor(rows), torch.tensor(columns))


@given(matrices(), st.sampled_from([1, 7, 1 << 22]))
def test_places_are_those_of_the_plain_rendering(case: tuple[Any, Any, Any], block: int) -> None:
    scores, rows, columns = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_BLOCK_NUMBERS", block)
        matrix = matrix_of(*case)
        assert row_places(matrix) == plain_places(scores, rows, columns)
        assert column_places(matrix) == plain_places(turned(scores), columns, rows)


@given(matrices(), st.sampled_from([1.0, 14.3, 100.0]))
@settings(max_examples=60)
def test_dual_softmax_is_the_formula(case: tuple[Any, Any, Any], scale: float) -> None:
    """S · softmax(S/τ over the queries) · their number: over rows where rows ask, over columns where columns ask."""
    scores, rows, columns = case
    matrix, whole = matrix_of(*case), torch.tensor(scores, dtype=torch.float64)
    by_rows = dual_softmax_of_rows(matrix, scale)(matrix.scores)
    torch.testing.assert_close(by_rows, whole * (whole * scale).softmax(0) * len(rows))
    by_columns = dual_softmax_of_columns(matrix, scale)(matrix.scores)
    torch.testing.assert_close(by_columns, whole * (whole * scale).softmax(1) * len(columns))
    expected = plain_places(by_columns.tolist(), rows, columns)
    assert row_places(matrix, dual_softmax_of_columns(matrix, scale)) == expected


def test_dual_softmax_takes_away_an_item_that_answers_everything() -> None:
    """Column 0 is everybody's first; it belongs to row 0, which likes it most."""
    matrix = matrix_of([[0.9, 0.1, 0.1], [0.8, 0.7, 0.1], [0.8, 0.1, 0.7]], [0, 1, 2], [0, 1, 2])
    assert row_places(matrix) == [1, 2, 2]
    assert row_places(matrix, dual_softmax_of_rows(matrix, 14.3)) == [1, 1, 1]


def test_a_model_that_says_the_same_of_everything_finds_nothing() -> None:
    matrix = matrix_of([[0.3] * 20] * 20, range(20), range(20))
    found = summary(row_places(matrix))
    assert (found["r1"], found["r5"], found["r10"]) == (0.0, 0.0, 0.0)
    assert found["median_rank"] == found["mean_rank"] == 20
    assert summary(column_places(matrix)) == found


def test_any_of_a_clip_s_captions_will_do() -> None:
    """Clip 0 has two captions; the clip finds the better one, and each of them asks for itself."""
    matrix = matrix_of([[0.9, 0.1], [0.1, 0.8], [0.2, 0.7]], [0, 0, 1], [0, 1])
    assert row_places(matrix) == [1, 2, 1]
    assert column_places(matrix) == [1, 2]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_summary(places: list[int]) -> None:
    found = summary(places)
    assert found["r5"] == pytest.approx(100 * len([p for p in places if p <= 5]) / len(places))
    assert found["mean_r"] == pytest.approx((found["r1"] + found["r5"] + found["r10"]) / 3)
    assert found["median_rank"] == statistics.median(places)
    assert found["mean_rank"] == pytest.approx(statistics.fmean(places))


def test_directions_have_names() -> None:
    assert direction_names("tva") == ("text_to_clip", "clip_to_text")
    assert direction_names("vta") == ("v_to_ta", "ta_to_v")


def test_first_rows() -> None:
    assert first_rows(["b", "b", "a", "c", "a"]) == [0, 2, 3]


LARGE = """
import resource, torch
from evaluating import model_of
from test_retrieval import Matrix, column_places, dual_softmax_of_rows, row_places, similarities, tokens
generator = torch.Generator().manual_seed(0)
rows, columns = {"t": tokens(10_000, 4, generator)}, {"v": tokens(10_000, 2, generator)}
model = model_of()
similarities({"t": rows["t"][:8]}, {"v": columns["v"][:8]}, "tv", model)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
matrix = Matrix(similarities(rows, columns, "tv", model), torch.arange(10_000), torch.arange(10_000))
places = row_places(matrix, dual_softmax_of_rows(matrix, 14.3)) + column_places(matrix)
print(len(places), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_by_ten_thousand_in_bounded_memory() -> None:
    """The matrix is 400 MB; all that is computed on the way takes no more than that. (Every dot product: 3 GB.)"""
    answer = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    num_places, more_bytes = map(int, answer.stdout.split())
    assert num_places == 20_000
    assert more_bytes < 800e6


def test_similarities_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = {"t": tokens(11, 5, generator)}
    columns = {"v": tokens(7, 3, generator), "a": tokens(7, 2, generator)}
    whole = similarities(rows, columns, "tva", model_of())
    monkeypatch.setattr("valor_data.train.retrieval.ROWS_AT_ONCE", 4)
    torch.testing.assert_close(similarities(rows, columns, "tva", model_of()), whole)


def tokens(clips: int, each: int, generator: torch.Generator) -> Tokens:
    features = torch.nn.functional.normalize(torch.randn(clips, each, 16, generator=generator), dim=-1)
    return Tokens(features, torch.randn(clips, each, generator=generator))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    make_sets(folder)
    return folder


@pytest.mark.timeout(120)
def test_two_processes_are_as_one(sets: Path) -> None:
    """Clips that cannot be shared evenly, one that both are given, groups of all kinds; each has the same scores."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
    answer = subprocess.run(
        [sys.executable, str(HERE / "evaluating.py"), str(sets)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    both = [json.loads((sets / f"rank_{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1]
    assert both[0]["refusal"] == "the first cannot"
    for name in SIZES:
        alone = json.loads(json.dumps(told(measured(sets / name))))
        assert both[0][name]["scores"] == pytest.approx(alone["scores"])
        assert {part: both[0][name][part] for part in alone if part != "scores"} == {
            part: alone[part] for part in alone if part != "scores"
        }


def test_every_clip_and_caption_counts_once(sets: Path) -> None:
    """11 of 13 clips have captions, 21 in all, whether or not the loader gives a row for each."""
    tasks = parse_tasks("ret%tva%va")
    found = evaluate_fully(model_of(), data_of(sets / "several", tasks.text), tasks)
    assert found.num_clips == {"retrieval/tva": 11, "retrieval/va": 13}
    assert len(found.keys) == 13
    assert found.notes == ("2 clips without a caption left out",)
    rows = evaluate_fully(
        model_of(), data_of(sets / "several", tasks.text, evaluate="all"), tasks, EvalSettings(every_caption=False)
    )
    assert rows.scores == pytest.approx(found.scores)
    firsts = evaluate_fully(model_of(), data_of(sets / "several", tasks.text), tasks, EvalSettings(every_caption=False))
    assert firsts.scores != pytest.approx(found.scores)
    num_captions = sum(len(captioned(number).captions) for number in range(13))
    share = found.scores["retrieval/tva/text_to_clip/r5"] / 100 * num_captions
    assert share == pytest.approx(round(share))
    assert found.scores["retrieval/tva/r5"] == found.scores["retrieval/tva/text_to_clip/r5"]


def test_the_certificate_is_that_of_the_keys(sets: Path) -> None:
    import hashlib

    found = evaluate_fully(model_of(), data_of(sets / "several", "ret%va"), parse_tasks("ret%va"))
    keys = sorted(captioned(number).key or "" for number in range(13))
    assert found.certificate == hashlib.sha256("".join(f"{key}\n" for key in keys).encode()).hexdigest()


def test_a_clip_without_sound_is_asked_for_by_its_picture_alone(tmp_path: Path) -> None:
    """It stays among the clips of T-AV, and is out of those that T-A compares; no caption is written from nothing."""

    def silent(number: int, members: dict[str, bytes]) -> dict[str, bytes]:
        if number % 4 == 0:
            details = json.loads(members["json"])
            members["json"] = json.dumps({**details, "audio_spans": [[0.0, 0.0]]}).encode()
        return members

    shards = write_set(tmp_path, [12], change=silent)
    tasks = parse_tasks("ret%tva%ta_cap%ta%tva")
    found = evaluate_fully(
        model_of(), data_of(shards, tasks.text), tasks, EvalSettings(num_beams=1, max_words=2, tokenizer="plain")
    )
    assert found.num_clips == {"retrieval/tva": 12, "retrieval/ta": 9, "caption/ta": 9, "caption/tva": 12}


def test_a_diverged_model_is_refused_and_not_praised(sets: Path) -> None:
    """What is no number is greater than nothing: each query would stand first."""
    model = model_of()
    with torch.no_grad():
        model.contrast.project["t"].weight.fill_(torch.nan)
    with pytest.raises(ValorDataError, match=r"similarities are no numbers; the checkpoint's weights are damaged"):
        evaluate(model, data_of(sets / "several", "ret%tva"), parse_tasks("ret%tva"))


def test_only_the_clips_that_are_asked_for(sets: Path) -> None:
    """The scores of a subset are those of a set that holds no more; its certificate says which it was."""
    whole = measured(sets / "several")
    wanted = frozenset(sorted(whole.keys)[::2])
    settings = EvalSettings(dsl=True, num_beams=1, max_words=4, tokenizer="plain")
    data = data_of(sets / "several", only=wanted)
    found = evaluate_fully(model_of(), data, parse_tasks(TASK), settings)
    assert set(found.keys) == wanted
    assert found.certificate == certificate(wanted) != whole.certificate
    assert found.predictions["caption/tva"] == {
        key: text for key, text in whole.predictions["caption/tva"].items() if key in wanted
    }
    assert found.num_clips["caption/tva"] < whole.num_clips["caption/tva"]
    nobody = data_of(sets / "several", only=frozenset(["x_00000000_00001000"]))
    with pytest.raises(ShardError, match="no clip can be used"):
        evaluate_fully(model_of(), nobody, parse_tasks(TASK), settings)


def test_a_task_with_nothing_to_measure(sets: Path) -> None:
    tasks = parse_tasks("mlm%tv")
    with pytest.raises(ConfigError, match="nothing to measure; expected ret%"):
        evaluate(model_of(), data_of(sets / "several", tasks.text), tasks)


def test_the_task_of_all_groups_is_one(sets: Path) -> None:
    assert set(parse_tasks(TASK).contrastive) == {"tva", "tv", "ta", "va", "vta", "atv"}
