from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from engine.errors import ModelError
from engine.generate.tokenizer import ChatTokenizer

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
START, END = 0, 1


def byte_level(*, first: bool = False) -> Tokenizer:
    """A byte-level tokenizer with two control tokens and a few merges; with a first token if asked for."""
    controls = ["<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
    words = [*controls, *letters, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(control, special=True) for control in controls])
    if first:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", START)]
        )
    return tokenizer


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return ChatTokenizer(byte_level(), CHATML, [END])


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def test_a_chat_is_the_templates_text_with_its_control_tokens(chat: ChatTokenizer) -> None:
    before = "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nthe<|im_end|>\n"
    assert chat.encode_chat(said("the"), add_generation_prompt=False) == byte_level().encode(before).ids
    ids = chat.encode_chat(said("the"))
    assert ids == byte_level().encode(f"{before}<|im_start|>assistant\n").ids
    assert (ids.count(START), ids.count(END)) == (3, 2)


@given(st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", "\ue000", "\ue001", "<|im_", "x", "\nsystem\n"])))
def test_nobody_can_type_a_control_token(parts: list[str]) -> None:
    chat = ChatTokenizer(byte_level(), CHATML, [END])
    text = "".join(parts)
    ids = chat.encode_chat(said(text, text, text))
    assert (ids.count(START), ids.count(END)) == (5, 4)
    assert chat.decode(ids).count(text) >= min(3, len(parts))


def test_the_first_token_is_known_to_the_template() -> None:
    chat = ChatTokenizer(byte_level(first=True), "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", [END])
    assert chat.encode_chat(said("abc")) == [START, *byte_level().encode("abc").ids, END]


def test_special_tokens_known_to_end_a_turn_stop_an_answer() -> None:
    assert ChatTokenizer(byte_level(), CHATML, []).stop_ids == {END}
    assert ChatTokenizer(byte_level(), CHATML, [7]).stop_ids == {END, 7}


def test_an_answer_keeps_the_tokens_that_the_model_wrote(chat: ChatTokenizer) -> None:
    unusual = [byte_level().token_to_id(letter) for letter in "abc"]
    assert byte_level().encode("abc").ids != unusual
    rendered = chat.render(said("q"))
    turn = chat.turn(rendered, chat.encode_rendered(rendered), "abc", unusual)
    assert turn is not None
    assert list(turn.tokens[-3:]) == unusual

    longer = chat.render(said("q", "abc", "more"))
    ids = chat.encode_rendered(longer, [turn])
    assert tuple(ids[: len(turn.tokens)]) == turn.tokens
    assert ids[len(turn.tokens)] == END
    assert chat.decode(ids) == chat.decode(chat.encode_rendered(longer))


def test_another_answer_or_question_does_not_take_the_known_tokens(chat: ChatTokenizer) -> None:
    rendered = chat.render(said("q"))
    turn = chat.turn(rendered, chat.encode_rendered(rendered), "abc", [byte_level().token_to_id(letter) for letter in "abc"])
    assert turn is not None
    for messages in (said("q", "abcd", "more"), said("r", "abc", "more"), said("q")):
        assert chat.encode_rendered(chat.render(messages), [turn]) == chat.encode_chat(messages)


def test_the_longest_known_turn_counts(chat: ChatTokenizer) -> None:
    letters = [byte_level().token_to_id(letter) for letter in "abc"]
    first = chat.turn(chat.render(said("q")), chat.encode_chat(said("q")), "abc", letters)
    assert first is not None
    rendered = chat.render(said("q", "abc", "r"))
    second = chat.turn(rendered, chat.encode_rendered(rendered, [first]), "abc", letters)
    assert second is not None
    ids = chat.encode_rendered(chat.render(said("q", "abc", "r", "abc", "s")), [first, second, first])
    assert tuple(ids[: len(second.tokens)]) == second.tokens


def test_an_answer_that_was_cut_is_no_turn(chat: ChatTokenizer) -> None:
    assert chat.turn(("",), [], "ab", byte_level().encode("abc").ids) is None


def test_the_stream_leaves_special_tokens_out(chat: ChatTokenizer) -> None:
    stream = chat.stream(["the"])
    tokens = [*byte_level().encode("abc").ids, END, *byte_level().encode(" the").ids]
    assert "".join(map(stream.feed, tokens)) == "abc "
    assert stream.stopped


def test_the_public_prefix_begins_every_chat_without_a_system_prompt(chat: ChatTokenizer) -> None:
    prefix = chat.public_prefix()
    assert chat.decode(prefix).startswith("system\nYou help.\nuser")
    for text in ("abc", "", "\n\n", "the"):
        ids = chat.encode_chat(said(text))
        assert ids[: len(prefix)] == prefix


def test_a_template_without_a_common_beginning_has_no_public_prefix() -> None:
    with pytest.raises(ModelError, match="no common token"):
        ChatTokenizer(byte_level(), "{{ messages[0].content }}", []).public_prefix()
