"""When a step is given up: its wrap alarm rose every time.

By chance a token's words wrap once in 2^12 tokens or less, so a step that is hit three times in a row is no accident: a value
has left a window (`engine.functions.tables`), what was read there is huge, and it wraps each time. The alarm does not say
where: the dealer knows its own indicator bits, not the openings, and 16 bits of XOR name nothing among millions of words. So
what is named is the window that calibration found fullest, as the likeliest.
"""

from engine.models.config import ModelSpec

MOST_REDONE = 3  #: a step's third alarm ends it
NAMES = {
    "score": "attention scores",
    "exp": "attention scores less their row's maximum",
    "max": "attention scores' row maxima",
    "narrow": "queries or keys",
    "silu": "arguments of SiLU",
    "logit": "logits",
    "reciprocal": "sums of the softmax",
    "word": "truncated words",
}


def place(name: str) -> str:
    """The words for a window: "layer 3's attention scores" for "3.score"."""
    layer, _, window = name.rpartition(".")
    what = NAMES.get(window, window.replace("_", " "))
    return f"layer {layer}'s {what}" if layer else f"the {what}"


def given_up(spec: ModelSpec) -> str:
    """What a person is told, as far as that can be known."""
    likely = f": most likely {place(spec.tightest)}" if spec.tightest else ""
    return (
        f"the wrap alarm rose {MOST_REDONE} times in a row in one step, so a value has left the window of its look-up{likely}. "
        "This text is beyond what the model was calibrated for"
    )
