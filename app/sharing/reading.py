"""What a checkpoint makes of text, found out in a process of its own that has limits.

A chat template is a program, and the rules of a tokenizer can make one letter as long as they like. Both come from
whoever made the checkpoint, and neither library takes a bound of time or memory; so what they do with Trine's texts is
asked of a child, and the checkpoint is opened by this process only after the child got through.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.checkpoint.checkpoint import ModelText
from engine.checkpoint.huggingface_text import prepare
from engine.checkpoint.tokenizer import parsed_tokenizer
from engine.errors import ModelError, TrineError
from engine.generate.template import TemplateText

__all__ = ["LIMITS", "ReadLimits", "ReadText", "read_calibration", "read_checking"]


@dataclass(frozen=True)
class ReadLimits:
    """What a child may take; the largest vocabularies in use need a tenth of it."""

    seconds: int = 30  #: of processor time
    memory: int = 4 << 30  #: bytes


LIMITS = ReadLimits()
NO_MEMORY = 3  #: exit code


@dataclass(frozen=True)
class ReadText:
    """What the model's owner shares of the texts, and how the model reads any."""

    texts: list[list[int]]  #: for calibration, or to check
    prefix: list[int]  #: with which every conversation begins
    eos: list[int]  #: tokens that end an answer
    model: ModelText  #: its tokenizer and its template, for `open_checkpoint`


def read_calibration(path: Path, limits: ReadLimits = LIMITS) -> ReadText:
    """Calibration texts, public prefix and ends of answers; `ModelError` if the checkpoint has none that can be had."""
    return _asked(path, limits, "calibration")


def read_checking(path: Path, tokens: int, limits: ReadLimits = LIMITS) -> ReadText:
    """About so many tokens of the check texts; `ModelError` likewise."""
    return _asked(path, limits, str(tokens))


def _asked(path: Path, limits: ReadLimits, what: str) -> ReadText:
    words = [os.fspath(path), what, str(limits.seconds), str(limits.memory)]
    with TemporaryDirectory(prefix="trine-") as made:  # a child that is ended at its limits clears nothing away
        child = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "app.sharing.reading", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the libraries say there where their panics come from
            check=False,
            env={**os.environ, "TMPDIR": made},
        )
    if child.returncode == 1:
        raise RuntimeError("app.sharing.reading failed")
    if child.returncode:
        room = f"{limits.seconds} s or {limits.memory >> 20} MB"
        raise ModelError(f"its tokenizer or its chat template takes more than {room} for a few texts", path)
    answer: dict[str, Any] = json.loads(child.stdout)
    if "error" in answer:
        raise ModelError(answer["error"])
    template = None if answer["template"] is None else TemplateText(answer["template"], answer["tokens"])
    return ReadText(
        answer["texts"], answer["prefix"], answer["eos"], ModelText(parsed_tokenizer(answer["tokenizer"], path), template)
    )


def _answer(path: Path, what: str) -> dict[str, object]:
    from app.sharing import texts
    from engine.checkpoint.open import open_checkpoint
    from engine.generate.tokenizer import ChatTokenizer

    checkpoint = open_checkpoint(path)
    template = checkpoint.chat_template
    answer: dict[str, object] = {
        "tokenizer": checkpoint.tokenizer.to_str(),
        "template": template,
        "tokens": {} if template is None else template.tokens,
    }
    if what != "calibration":
        return answer | {"texts": texts.checking(checkpoint.tokenizer, int(what)), "prefix": [], "eos": []}
    chat = ChatTokenizer(checkpoint.tokenizer, template, checkpoint.shape.eos_ids)
    pieces = texts.calibration(checkpoint.tokenizer)
    if sum(map(len, pieces)) < texts.CALIBRATION_TOKENS // 4:
        raise ModelError(f"the tokenizer makes only {sum(map(len, pieces))} tokens of the calibration texts", path)
    return answer | {"texts": pieces, "prefix": chat.public_prefix(), "eos": sorted(chat.stop_ids)}


def main() -> None:
    """The child: one JSON object on stdout; any other end is the parent's to explain.

    The libraries, which print there what they make of a file, are given another place for it.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    path, what, seconds, memory = Path(sys.argv[1]), *sys.argv[2:]
    if os.path.isdir(path):  # which raises nothing
        prepare()
    limit = int(time.process_time()) + 1 + int(seconds)  # to import the libraries is none of the checkpoint's doing
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))  # not AS: a mapped checkpoint is no harm
    try:
        answer = _answer(path, what)
    except TrineError as error:
        placed = getattr(error, "path", None) is not None
        answer = {"error": str(error) if placed else f"{path}: {error}"}
    except MemoryError:
        sys.exit(NO_MEMORY)
    except BaseException as error:  # whatever the libraries raise; a panic in Rust is a BaseException
        what = " ".join(str(error).split())[:160]
        answer = {"error": f"{path}: its tokenizer or its chat template fails ({what})"}
    with answers:
        answers.write(json.dumps(answer))


if __name__ == "__main__":
    main()
