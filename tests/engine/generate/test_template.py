"""The sandbox is that of transformers, without its second of imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from engine.errors import InputError, ModelError
from engine.generate import template as template_module
from engine.generate.template import ChatTemplate

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

LOOPS = """{{ bos_token }}{%- set ns = namespace(first=true) -%}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}
  {%- generation -%}{{ message | tojson(indent=1) }}{%- endgeneration -%}
  {%- set ns.first = false -%}
{%- endfor -%}{{ ns.first }} {{ strftime_now('%Y') }} {{ tools is none }} {{ messages[0]['content'] | trim }}"""

LLAMA2 = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{
raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role']
== 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}{{ ' '  + message['content'] + ' ' +
eos_token }}{% endif %}{% endfor %}"""

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CONTROLS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "[INST]", "[/INST]")
QUESTION = [{"role": "user", "content": " What <b>is</b> 'é'? "}]
CHAT = [*QUESTION, {"role": "assistant", "content": "A letter."}, {"role": "user", "content": "And “ö”?"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *CHAT]


@pytest.mark.parametrize("source", [CHATML, ZEPHYR, LOOPS, LLAMA2], ids=["chatml", "zephyr", "loops", "llama2"])
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("messages", [QUESTION, CHAT, SYSTEM], ids=["question", "chat", "system"])
def test_renders_as_transformers_does(source: str, prompt: bool, messages: list[dict[str, str]]) -> None:
    if source is LLAMA2:
        messages = [message for message in messages if message["role"] != "system"]
    theirs, _ = render_jinja_template([messages], chat_template=source, add_generation_prompt=prompt, **TOKENS)
    for controls in ((), CONTROLS):
        assert ["".join(ChatTemplate(source, TOKENS, controls).render(messages, add_generation_prompt=prompt))] == theirs


FEATURES = (Path(__file__).parents[2] / "models" / "template_features.txt").read_text("utf-8").splitlines()
TALK = [
    {"role": "system", "content": "Be </s> brief"},
    {"role": "user", "content": " Hi <s>\n\n x "},
    {"role": "assistant", "content": "<think>a</think>\n\nb"},
    {"role": "user", "content": "ok"},
]


@pytest.mark.parametrize("source", FEATURES)
def test_what_templates_can_do_is_done_as_transformers_does(source: str) -> None:
    """Who wrote which letter is kept apart under all of it, and nothing of that shows."""
    theirs, _ = render_jinja_template([TALK], chat_template=source, add_generation_prompt=True, **TOKENS)
    assert ["".join(ChatTemplate(source, TOKENS, CONTROLS).render(TALK))] == theirs


def test_a_refusal_of_the_template_is_the_users_to_mend() -> None:
    with pytest.raises(InputError, match="roles must alternate"):
        ChatTemplate(LLAMA2, TOKENS).render([*QUESTION, *QUESTION])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (None, "no chat template"),
        ("x" * (template_module.MAX_TEMPLATE + 1), "longer than"),
        ("a\n{% for %}", "line 2 of the chat template"),
    ],
    ids=["none", "long", "syntax"],
)
def test_a_template_that_cannot_be_used_is_refused_when_made(source: str | None, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        ChatTemplate(source, TOKENS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].__class__.__mro__ }}",
        "{{ ''.__class__ }}{{ ''.__class__.__bases__[0].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__globals__.__builtins__ }}{{ strftime_now.__globals__['x'] }}",
        "{{ '%d' + 1 }}",
        "{{ messages[7].role.x }}",
        "{{ range(10000000) }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_template_that_tries_or_fails_anything_else_is_the_models_fault(source: str) -> None:
    with pytest.raises(ModelError, match="the chat template"):
        ChatTemplate(source, TOKENS).render(QUESTION)


def test_a_template_that_writes_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_CHARACTERS", 1000)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}xxxx{% endfor %}{% endfor %}"
    with pytest.raises(ModelError, match="without end"):
        ChatTemplate(endless, TOKENS).render(QUESTION)


def test_a_conversation_too_long_for_any_model_is_refused_before_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_CHARACTERS", 10)
    with pytest.raises(InputError, match="10 characters"):
        ChatTemplate(CHATML, TOKENS).render(QUESTION)


def test_no_message_is_no_conversation_but_an_empty_text() -> None:
    assert ChatTemplate(CHATML, TOKENS).render([], add_generation_prompt=False) == ("",)
