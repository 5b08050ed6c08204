"""The one walk over a model's sections, whoever reads it and whatever its family.

A model is a value: a `Program` gives the model's sections for a run of rows, in order, each a callable (reader, x) -> x. The
first one takes the rows' tokens, a wire flows from each to the next, and the last one gives the answer. The caller decides how
a section is entered, and may stop behind any of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from engine.models.config import ModelSpec
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation
from engine.rows.run import Rows

Tokens: TypeAlias = Any
"""What the first section takes. The dealer: the rows' random table indices; an evaluator: (token less index modulo the
vocabulary [rows], κ2 [rows, d_model]); in the clear: token ids [rows].
"""
Output: TypeAlias = Any
"""What the last section gives. The dealer: None, for it keeps what it reads the answer with (`Dealing.keep`); an evaluator: (3
bytes a logit, the opened alarm word); in the clear: logits [answered, vocab].
"""
Section: TypeAlias = Callable[[Any, Any], Any]  #: (reader, x) -> x: Tokens, a wire or Output, as the reader holds them
Program: TypeAlias = Callable[[ModelSpec, Rows], Sequence[Section]]

SomeReader = TypeVar("SomeReader", Dealing, Evaluation, Clear)


def walk(
    sections: Sequence[Section], tokens: Tokens, enter: Callable[[int], SomeReader]
) -> Iterator[tuple[int, SomeReader, Any]]:
    """Run each section at the reader that ``enter(number)`` returns; yield (number, reader, the section's result) after each.

    The next section is entered when the next item is asked for. A reader that nobody else holds is freed before that.
    """
    x = tokens
    for number, section in enumerate(sections):
        reader = enter(number)
        x = section(reader, x)
        yield number, reader, x
        del reader  # what it drew goes before the next section draws


def run(sections: Sequence[Section], tokens: Tokens, enter: Callable[[int], SomeReader]) -> Output:
    """Walk to the end; return what the last section gave."""
    x = tokens
    for _, _, x in walk(sections, tokens, enter):  # noqa: B007  the last one is what is asked for
        pass
    return x
