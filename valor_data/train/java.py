"""The two programs behind published caption scores that run on Java: the PTB tokeniser and METEOR 1.5.

Both come as jars with pycocoevalcap. They are driven here, over pipes: pycocoevalcap's own drivers leave a temporary
file among the installed packages when they fail, and a process whose end is up to the garbage collector.
"""

from __future__ import annotations

import importlib.resources
import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from valor_data.errors import ValorDataError

HOW_TO_ADD = "install a Java runtime (Debian, Ubuntu: apt-get install default-jre-headless)"

_DEADLINE_SECONDS = 900.0
"""For all captions of a test: a hundred times what the largest needs."""

_ENDED = "it ended before it had answered; it needs 1.2 GB of memory"

_UTF_8 = "-Dfile.encoding=UTF-8"  # whatever the locale says


class JavaError(ValorDataError):
    """Java is missing, or what runs on it failed."""


def find_java() -> str | None:
    """The `java` on the path, or None."""
    return shutil.which("java")


def ptb_tokens(sentences: Sequence[str]) -> list[list[str]]:
    """The words of sentences as Stanford's PTB tokeniser finds them: lower case, without punctuation.

    What counts as punctuation is pycocoevalcap's list.

    Raises:
        JavaError: no Java, or it failed.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    if not sentences:
        return []
    command = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = "".join(f"{' '.join(sentence.split())}\n" for sentence in sentences)
    try:
        done = subprocess.run(
            [_java(), _UTF_8, "-cp", str(_jar("tokenizer", STANFORD_CORENLP_3_4_1_JAR)), *command],
            input=lines.encode(), capture_output=True, timeout=_DEADLINE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaError(f"the PTB tokeniser failed: {error}") from None
    found = done.stdout.decode(errors="replace").split("\n")[:-1]
    if done.returncode or len(found) != len(sentences):
        raise JavaError(f"the PTB tokeniser failed: {_last_line(done.stderr)}")
    return [[word for word in line.split(" ") if word and word not in PUNCTUATIONS] for line in found]


def meteor_score(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR 1.5 of a whole test, 0 to 1, as published captioning work gives it.

    Args:
        predictions: tokenised, words separated by spaces.
        references: for each prediction at least one, tokenised.

    Raises:
        JavaError: no Java, or it failed (it takes 1.2 GB of memory).
    """
    from pycocoevalcap.meteor.meteor import METEOR_JAR

    command = [_java(), _UTF_8, "-Xmx2G", "-jar", str(_jar("meteor", METEOR_JAR))]
    try:
        with subprocess.Popen(
            [*command, "-", "-", "-stdio", "-l", "en", "-norm"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            watch = threading.Timer(_DEADLINE_SECONDS, process.kill)
            watch.start()
            try:
                return _ask_meteor(process, predictions, references)
            finally:
                watch.cancel()
                process.kill()
                with suppress(OSError):  # what a dead process did not read
                    process.communicate()
    except (OSError, ValueError) as error:
        raise JavaError(f"METEOR failed: {error}") from None


def _ask_meteor(
    process: subprocess.Popen[bytes], predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    """Its protocol: statistics of each caption, then the score of all statistics."""
    statistics = [
        _answer(process, "SCORE", *(_plain(reference) for reference in given), _plain(predicted))
        for predicted, given in zip(predictions, references, strict=True)
    ]
    first = _answer(process, "EVAL", *statistics)
    others = [_line(process) for _ in statistics]  # a score for each caption, then that of all
    return float([first, *others][-1])


def _answer(process: subprocess.Popen[bytes], *parts: str) -> str:
    if process.stdin is None:
        raise ValueError("no pipe")
    try:
        process.stdin.write((" ||| ".join(parts) + "\n").encode())
        process.stdin.flush()
    except BrokenPipeError:
        raise ValueError(_ENDED) from None
    return _line(process)


def _line(process: subprocess.Popen[bytes]) -> str:
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise ValueError(_ENDED)
    return line.decode().strip()


def _plain(text: str) -> str:
    """A sentence that holds nothing of the protocol."""
    return " ".join(text.replace("|||", " ").split())


def _java() -> str:
    java = find_java()
    if java is None:
        raise JavaError(f"no java on the path: {HOW_TO_ADD}")
    return java


def _jar(folder: str, name: str) -> Path:
    return Path(str(importlib.resources.files("pycocoevalcap") / folder / name))


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
