"""The texts that come with Trine: one set for calibrating a model, another for checking it."""

from pathlib import Path

from tokenizers import Tokenizer

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"
CALIBRATION_TOKENS = 2400
CHUNK = 160


def calibration(tokenizer: Tokenizer) -> list[list[int]]:
    """The beginning of each calibration text, about `CALIBRATION_TOKENS` in all."""
    texts = _tokens(tokenizer, "calibration")
    each = max(CALIBRATION_TOKENS // max(len(texts), 1), 1)
    return [text[:each] for text in texts]


def checking(tokenizer: Tokenizer, tokens: int) -> list[list[int]]:
    """About `tokens` tokens of the check texts, taken in turn from each, at most `CHUNK` a piece."""
    texts = _tokens(tokenizer, "check")
    chunk = max(2, min(CHUNK, -(-tokens // len(texts))))
    pieces: list[list[int]] = []
    for start in range(0, max(map(len, texts)), chunk):
        for text in texts:
            piece = text[start : start + chunk][:tokens]
            if len(piece) > 1:
                pieces.append(piece)
                tokens -= len(piece)
            if tokens < 2:
                return pieces
    return pieces


def _tokens(tokenizer: Tokenizer, folder: str) -> list[list[int]]:
    files = sorted((ASSETS / folder).glob("*.txt"))
    return [tokenizer.encode(file.read_text("utf-8"), add_special_tokens=False).ids for file in files]
