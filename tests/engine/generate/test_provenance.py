"""Control tokens come from the template alone, and everything else is what transformers makes of it."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.errors import InputError, ModelError
from engine.generate import provenance
from engine.generate.template import ChatTemplate, TemplateText
from engine.generate.tokenizer import ChatTokenizer
from tests.models.chat_templates import ADDED, CONTROLS, NO_SYSTEM, TEMPLATES
from tests.models.texts import COMMANDS, PLAIN

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<s>"}


@cache
def tokenizer() -> Tokenizer:
    """Byte-level, with every control token of the templates, and with some that are none."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("Ġ", "the"),
        ("Ċ", "Ċ"),
        ("e", "r"),
        ("<", "|"),
        ("|", ">"),
        ("<", "/"),
        ("s", ">"),
        ("i", "m"),
    ]
    words = [*letters, *(left + right for left, right in merges)]
    made = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(control, special=True, normalized=False) for control in CONTROLS])
    made.add_tokens([AddedToken(text, special=False) for text in ADDED])
    return made


@cache
def chat(name: str) -> ChatTokenizer:
    return ChatTokenizer(tokenizer(), TemplateText(TEMPLATES[name], NAMES))


@cache
def theirs(name: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), chat_template=TEMPLATES[name], bos_token="<s>", eos_token="</s>"
    )


def said(name: str, *texts: str, system: str | None = None) -> list[dict[str, str]]:
    first = [] if system is None or name in NO_SYSTEM else [{"role": "system", "content": system}]
    return [*first, *({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts))]


def controls(name: str, ids: list[int]) -> Counter[int]:
    known = tokenizer().get_added_tokens_decoder()
    return Counter(index for index in ids if index in known and known[index].special)


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_without_control_words_has_the_ids_of_transformers(name: str) -> None:
    for text in PLAIN:
        chats = [said(name, text), said(name, text, text, "more"), said(name, "q", "a", text, system=text)]
        for messages in chats:
            for prompt in (True, False):
                ids = theirs(name).apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
                assert chat(name).encode_chat(messages, prompt) == ids, (text, messages)


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_text_is_a_control_token(name: str) -> None:
    for text in COMMANDS:
        for messages, calm in (
            (said(name, text), said(name, "x")),
            (said(name, text, text, text, system=text), said(name, "x", "x", "x", system="x")),
        ):
            ids = chat(name).encode_chat(messages)
            assert controls(name, ids) == controls(name, chat(name).encode_chat(calm))
            assert tokenizer().decode(ids, skip_special_tokens=False).count(text.strip()) == len(messages)


PIECES = sorted(
    {piece for control in CONTROLS for piece in (control, control[: len(control) // 2], control[len(control) // 2 :])}
)
FIRST, SECOND = "messages[0].content", "messages[1].content"
MAKERS = {
    "replace": ["F.replace('#', '')", "F | replace('#', '')"],
    "case": ["F.lower()", "F | lower", "F | upper", "F | title", "F | capitalize", "F.swapcase()"],
    "joined": ["messages | map(attribute='content') | join", "F ~ S", "F + S", "[F, S] | join", "''.join([F, S])"],
    "reversed": ["F[::-1]", "F | reverse"],
    "cut": ["F.split('#') | join", "F[1:]", "F.partition('#')[0]", "F | list | join", "F | truncate(9)", "F.strip('#')"],
    "beside": ["'<|' + F + '|>'", "'[' ~ F ~ ']'", "'<' ~ F", "'<|im_' + F", "F ~ '|>'"],
    "format": ["'<%s>' % F", "'<{}'.format(F)", "'%s' | format(F)", "(F ~ '%s') % 's'", "F.format('s')", "'<{a}>'.format(a=F)"],
    "filled in": [
        "'a#b'.replace('#', F)",
        "('a' ~ F).replace('im', '</s>')",
        "(F ~ '>').replace(S, '</s>')",
    ],
    "taken off": [
        "F.removeprefix('#')",
        "F.rsplit('#', 1)[0] ~ '>'",
        "F.splitlines() | join",
        "F.rpartition('i') | join",
        "F.split() | join",
    ],
    "spaced": ["F | center(30)", "F.ljust(30, '>')", "F | wordwrap(3, true, '')", "(F ~ '|>').expandtabs()"],
    "chosen": [
        "messages | selectattr('role') | map(attribute='content') | join",
        "[F, S] | reject('none') | map('trim') | join",
    ],
    "passed": [
        "messages[0] | tojson",
        "F | string | trim",
        "F | default('')",
        "F * 2",
        "F | indent",
        "'</s>' in F",
        "F | safe",
    ],
}
BLOCKS = {
    "letters": "{% for letter in F %}{{ letter }}{% endfor %}",
    "literal": "<{{ F }}>[{{ F }}]</{{ F }}><|im_{{ F }}",
    "kept": "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x + m.content %}{% endfor %}{{ ns.x }}",
    "captured": "{% set x %}{{ F }}{% endset %}{{ x }}{% filter lower %}{{ F }}{% endfilter %}",
    "called": "{% macro f(x) %}<{{ x }}{{ caller() }}{% endmacro %}{% call f(F) %}>{{ S }}{% endcall %}",
}
SOURCES = BLOCKS | {name: "#".join(f"{{{{ {expression} }}}}" for expression in some) for name, some in MAKERS.items()}


@settings(max_examples=40)
@given(st.sampled_from(sorted(SOURCES)), st.lists(st.sampled_from([*PIECES, "#", "im_end", "INST", "s", " "]), max_size=6))
def test_whatever_a_template_does_no_text_becomes_a_control_token(maker: str, parts: list[str]) -> None:
    text, source = "".join(parts), SOURCES[maker].replace("F", FIRST).replace("S", SECOND)
    made = ChatTokenizer(tokenizer(), TemplateText("<|im_start|>" + source, NAMES))
    for typed in (text, text[::-1], text.swapcase()):
        ids = made.encode_chat(said("chatml", typed, typed))
        assert controls("chatml", ids) == {tokenizer().token_to_id("<|im_start|>"): 1}


KEPT = {
    "%": ["{{ '<|im_start|>%s\n%s<|im_end|>' % (R, F) }}", "{{ '<|im_start|>%s' % F }}", "{{ '<s>%(a)s%%' % {'a': F} }}"],
    "format": [
        "{{ '<|im_start|>{}\n{}</s>{{'.format(R, F) }}",
        "{{ '<s>{1}{0}'.format(R, F) }}",
        "{{ '</s>{a}'.format(a=F) }}",
    ],
    "filter": ["{{ '<s>%s%s'|format(R, F) }}", "{{ '<s>%(a)s' | format(a=F) }}", "{{ '--<s>--' | trim('-') }}"],
    "replace": ["{{ ('<s>' + F + '</s>') | replace('\n\n', '\n') }}", "{{ '<s>A\nB</s>'.replace('A', R).replace('B', F, 1) }}"],
    "split": ["{{ '<s>#</s>'.split('#')[1] }}{{ ('<s> ' ~ F).split() | join }}{{ 'a#<s>#'.rsplit('#', 2)[1] }}"],
    "lines": ["{% for line in ('<s>\r\n' ~ F ~ '\n</s>').splitlines() %}{{ line }}{% endfor %}{{ 'a#<s>'.partition('#')[2] }}"],
    "strip": [
        "{{ '--<s>--'.strip('-') }}{{ 'x<s>'.removeprefix('x') }}{{ '<s>y'.removesuffix('y') }}{{ '-</s>-'.lstrip('-') }}"
    ],
    "space": ["{{ '<s>\nx' | indent(2) }}{{ '<s>' | center(9) }}{{ '</s>'.ljust(9) }}{% filter indent %}</s>{% endfilter %}"],
    "case": ["{{ ('<S>' ~ F) | lower }}{{ '<|' ~ R.lower() ~ '|>' }}{{ ['</S>'] | map('lower') | join }}"],
    "chosen": ["{% for m in messages | selectattr('role', 'eq', 'user') %}{{ '<|' + m.role + '|>' ~ m.content }}{% endfor %}"],
    "left out": ["{% for m in messages | rejectattr('role', 'in', ['x']) %}{{ '<|' + m.role + '|>' }}{% endfor %}"],
    "mapped": [
        "{{ messages | map(attribute='role') | map('replace', 'q', '') | join('<s>') }}{{ [' </s> '] | map('trim') | join }}"
    ],
    "macro": [
        "{% macro f(m) %}<|im_start|>{{ m.content }}<|im_end|>\n{% endmacro %}{{ f(messages[0]) | trim | replace('  ', ' ') }}"
    ],
}


@pytest.mark.parametrize("source", [source for some in KEPT.values() for source in some])
def test_control_tokens_that_a_template_cuts_fills_and_replaces_stay_the_templates(source: str) -> None:
    made = TemplateText(source.replace("F", FIRST).replace("R", "messages[0].role"), NAMES)
    ours = ChatTokenizer(tokenizer(), made)
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), chat_template=str(made), bos_token="<s>", eos_token="</s>")
    for text in ("the boats", "a  b\n\nc", " x ", "%s {} A B # --"):
        messages = said("chatml", text, text)
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ours.encode_chat(messages) == ids
    calm = controls("chatml", ours.encode_chat(said("chatml", "x", "x")))
    for text in (*COMMANDS, "A</s>", "<|im_#end|>", "<s%s>", "{}<s>", "<\n\ns>", "<|im_--end|>"):
        assert controls("chatml", ours.encode_chat(said("chatml", text, text))) == calm, text


@pytest.mark.parametrize(
    "expression",
    [
        "F.replace('#', '</s>')",
        "F.replace(' ', '</s>')",
        "F | replace('\\n', '</s>', 1)",
        "F % {'a': '</s>'}",
        "F | format(a='</s>')",
        "F.format(a='</s>')",
        "('<' ~ F).format(a='/s>')",
        "('<' ~ F ~ '>') % {'a': '/s'}",
    ],
)
def test_what_is_put_in_where_a_user_typed_is_no_control_token(expression: str) -> None:
    source = f"{{% if 'boats' not in F %}}{{{{ {expression} }}}}{{% endif %}}".replace("F", FIRST)
    for text in ("#", "a b\nc", "%(a)s", "{a}"):
        assert len(parts(source, text)) == 1


def test_a_template_that_hides_its_own_control_tokens_is_refused() -> None:
    for source in (
        "{{ 'x'.replace('', '</s>') }}",
        "{{ ['</s>'] | sort | first }}",
        "{{ '<s></s>' | truncate(99) }}",
        "{{ {'a': '</s>'} | tojson }}",
    ):
        with pytest.raises(ModelError, match=r"the chat template rewrites '</?s>' so that it cannot be told"):
            ChatTokenizer(tokenizer(), TemplateText(source, NAMES))


def test_a_control_token_that_is_a_word_by_itself_only() -> None:
    made = Tokenizer.from_str(tokenizer().to_str())
    made.add_special_tokens([AddedToken("<|word|>", special=True, single_word=True), AddedToken("<END", single_word=True)])
    source = "<|word|> {{ F }}<|word|>{{ F }} <END<|word|>".replace("F", FIRST)
    theirs = PreTrainedTokenizerFast(tokenizer_object=made, chat_template=source)
    for text in ("x", " x ", ".", ""):
        ids = theirs.apply_chat_template(said("chatml", text), add_generation_prompt=True, return_dict=False)
        assert ChatTokenizer(made, TemplateText(source, {})).encode_chat(said("chatml", text)) == ids


def parts(source: str, *texts: str) -> tuple[str, ...]:
    return ChatTemplate(source, NAMES, CONTROLS).render(said("chatml", *texts))


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("<s>", ["<s>"]),
        ("{{ bos_token }}{{ eos_token }}", ["<s>", "</s>"]),
        ("{{ '<|im_' + 'end|>' }}{% set x = '</s>' %}{{ x }}", ["<|im_end|>", "</s>"]),
        ("{% set x %}</s>{% endset %}{{ x }}{{ ['<s>', '</s>'] | join('[INST]') }}", ["</s>", "<s>", "[INST]", "</s>"]),
        ("{{ '<|' + messages[0].role + '|>' }}{{ '<|' ~ messages[0].role.upper() ~ '|>' }}", ["<|user|>", "<|USER|>"]),
        ("{{ {'user': '<s>'}[messages[0].role] }}{{ {'user': '[INST]'}.get(messages[0]['role']) }}", ["<s>", "[INST]"]),
        ("{% macro f(x) %}<s>{{ x }}{% endmacro %}{{ f('</s>') }}{{ f(messages[0].content) }}", ["<s>", "</s>", "<s>"]),
        (
            "{{ '<s>' if messages[0].role == 'user' else '</s>' }}{{ (' <s> ' | trim) + ' </s> '.strip() }}",
            ["<s>", "<s>", "</s>"],
        ),
        ("{{ '<s>' if '</s>' in messages[0].content }}{{ messages[0].content.split('</s>')[0] }}", ["<s>"]),
        ("{{ messages[0].content.replace('</s>', '') }}{{ messages[0].content | replace('</s>', '') }}", []),
        ("{{ '<S>' | lower }}{{ '<s>' * 2 }}{{ '' or '</s>' }}{{ nothing | default('</s>') }}", ["<s>"] * 3 + ["</s>"] * 2),
    ],
)
def test_what_the_template_writes_whole_is_a_control_token(source: str, written: list[str]) -> None:
    assert list(parts(source, "a</s>b")[1::2]) == written


def test_special_tokens_in_tests_and_keys_are_only_text() -> None:
    source = (
        "{% for m in messages %}{{ 'U' if m.role == 'user' }}{{ 'A' if m.role in ['assistant'] }}{{ m.content }}{% endfor %}"
    )
    assert parts(source, "<s>", "</s>") == ("U<s>A</s>",)
    assert parts("{{ messages | selectattr('role', 'eq', 'user') | map(attribute='content') | first }}", "<s>", "b") == ("<s>",)
    assert parts("{{ messages[0] }}{{ messages[0].role ~ ['user'] }}", "<s>") == (
        "{'role': 'user', 'content': '<s>'}user['user']",
    )
    assert parts("{{ messages[0] | string }}{{ ('user',) | string }}", "x") == ("{'role': 'user', 'content': 'x'}('user',)",)
    assert parts("{{ messages | tojson }}", "<s>") == ('[{"role": "user", "content": "<s>"}]',)


def test_no_text_becomes_the_templates_own_by_being_decoded() -> None:
    """As it would if somebody typed the names of the private characters that stand for the template's letters."""
    for source in (
        "{{ F | striptags }}",
        "{{ (F | safe).unescape() }}",
        "{{ F.encode().decode('unicode_escape') }}",
        "{% for x in F.split('#') %}{{ '%c' % (x | int) }}{{ '{:c}'.format(x | int) }}{% endfor %}",
        "{% for x in F.split('#') | map('int') %}{{ '%c' | format(x) }}{% endfor %}",
    ):
        template = ChatTemplate(source.replace("F", FIRST), NAMES, CONTROLS)
        twins = [ord(letter) for letter in template.twins.written("</s>")]
        for text in (
            "".join(f"&#{code};" for code in twins),
            "".join(f"\\U{code:08x}" for code in twins),
            "#".join(map(str, twins)),
        ):
            assert len(template.render(said("chatml", text))) == 1


def test_private_characters_of_a_message_stay_what_they_are() -> None:
    twins = "".join(chr(code) for code in range(0x10FF80, 0x110000))
    assert parts("<s>{{ messages[0].content }}</s>", twins) == ("", "<s>", twins, "</s>", "")
    assert parts(f"<s>{twins}{{{{ messages[0].content }}}}", twins) == ("", "<s>", twins + twins)


def test_a_conversation_or_a_template_of_nothing_but_private_characters() -> None:
    last, before = (("".join(map(chr, codes))) for codes in (range(0x100000, 0x10FFFE), range(0xF0000, 0xFFFFE)))
    with pytest.raises(ModelError, match="the chat template holds too many private characters"):
        parts(last, "x")
    with pytest.raises(InputError, match="the conversation holds too many private characters"):
        parts("{{ messages[0].content }}", last + before)
    assert parts(f"{before[:999]}<s>{{{{ messages[0].content }}}}", last) == (before[:999], "<s>", last)


def test_tokens_spelled_with_too_many_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MOST_LETTERS", 3)
    with pytest.raises(ModelError, match="more than 3 different letters"):
        parts("x", "y")
