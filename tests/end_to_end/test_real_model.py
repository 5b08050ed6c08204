"""The real model through real processes and sockets: what a person sees, and that it is the plaintext's own answer."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from app.demo.demo import Demo, demo
from engine.checkpoint.open import open_checkpoint
from engine.checkpoint.tokenizer import load_tokenizer
from engine.generate.tokenizer import ChatTokenizer
from engine.parties.plain import Plain
from engine.provision.weights import WeightSource
from tests.models import golden
from tests.models.demo_model import demo_gguf, shared_demo_model

pytestmark = pytest.mark.timeout(400)

QUESTIONS = ("Why is the sky blue?", "Write a haiku about the sea.", "What is 12 plus 30?")
TOKENS = 8  # of each answer
LOGIT_ERROR = 0.1  # largest error of a logit: 13 times the root mean square that `trine-model check` measures


@pytest.fixture(scope="module")
def parties() -> Iterator[Demo]:
    with demo(shared_demo_model()) as running:
        yield running


@pytest.fixture(scope="module")
def tokenizer(parties: Demo) -> ChatTokenizer:
    shared = parties.model
    return ChatTokenizer(load_tokenizer(shared.tokenizer), shared.chat_template, shared.spec.eos)


def greedy(logits: np.ndarray, context: Sequence[int]) -> int:
    del context
    return int(logits.argmax())


def test_the_capital_of_france(parties: Demo, tokenizer: ChatTokenizer) -> None:
    case = golden.real_case()
    prompt = tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
    assert prompt == case.chat_tokens
    with parties.open_conversation() as conversation:
        answer = list(conversation.generate(prompt, max_tokens=20, choose=greedy, stop_tokens=tokenizer.stop_ids))
        rounds = conversation.statistics
    assert tokenizer.decode([t for t in answer if t not in tokenizer.stop_ids]) == "The capital of France is Paris."
    layers = parties.model.spec.layers
    assert rounds.decode.rounds == rounds.decode.steps * (2 + 20 * layers + 4)
    assert rounds.prefill.rounds == rounds.prefill.steps * (2 + 20 * layers + 4)


def test_fed_with_the_plaintexts_tokens_the_argmax_is_the_plaintexts(parties: Demo, tokenizer: ChatTokenizer) -> None:
    spec = parties.model.spec
    weights = WeightSource(open_checkpoint(demo_gguf()))
    compared = 0
    for question in QUESTIONS:
        prompt = tokenizer.encode_chat([{"role": "user", "content": question}])
        plain = Plain(spec, weights, context=len(prompt) + TOKENS)
        want = [plain.run(prompt, answers=1)[0]]
        seen: list[np.ndarray] = []

        def choose(
            logits: np.ndarray,
            context: Sequence[int],
            want: list[np.ndarray] = want,
            seen: list[np.ndarray] = seen,
            plain: Plain = plain,
        ) -> int:
            del context
            seen.append(logits)
            token = int(want[-1].argmax())
            want.append(plain.run([token], answers=1)[0])
            return token

        with parties.open_conversation() as conversation:
            list(conversation.generate(prompt, max_tokens=TOKENS, choose=choose))
        for got, expected in zip(seen, want, strict=False):
            assert np.abs(got - expected).max() < LOGIT_ERROR
            top = np.sort(expected)[-2:]
            if top[1] - top[0] > LOGIT_ERROR:
                assert got.argmax() == expected.argmax()
                compared += 1
    assert compared >= 18
