"""A decoder layer between an embedding and an answer: by the three parties, and in the clear beside it.

python examples/decoder_layer.py
"""

import numpy as np
from small_model import small_model

from engine.parties.plain import Plain
from engine.parties.trio import Trio
from engine.rows.run import Rows

PROMPT = [3, 14, 15, 92, 65]
ALLOWED = 0.02  # between the logits, whose standard deviation is about 1


def main() -> None:
    """Show what the layer costs and how near the logits are."""
    model = small_model()
    spec, prefix = model.spec, len(model.spec.prefix)
    parties = Trio(spec, model.seeds, model.packs, prefix=prefix, context=spec.context)
    secure = parties.step(PROMPT)[0]
    clear = Plain(spec, model.weights.__getitem__).run([*spec.prefix, *PROMPT], answers=1)[0]

    layer, row = parties.dealer.plans[1], Rows(1, prefix, 1)  # sections: embedding, the layer, answer
    print(f"the layer: {len(layer.rounds)} rounds, whatever the number of tokens")
    print(f"dealt for its first token: {layer.dealt_bytes(row, 1)} bytes to E1, {layer.dealt_bytes(row, 2)} bytes to E2")
    print(f"most likely next token: {secure.argmax()} by the three parties, {clear.argmax()} in the clear")
    difference = float(abs(secure - clear).max())
    print(f"logits of a standard deviation of {np.std(clear):.2f} differ by {difference:.4f} at most")
    if difference > ALLOWED:
        raise SystemExit("the logits are wrong")


if __name__ == "__main__":
    main()
