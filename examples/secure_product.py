"""The product of two secret vectors, by the dealer and both evaluators in this process.

python examples/secure_product.py
"""

import numpy as np

from engine.gates.product import multiply
from engine.gates.truncation import as_wire, truncate
from engine.parties.gate_trio import Input, run_gates
from engine.program.gate import Opened, Reader, Wired
from engine.ring.fixed import decode, encode

BITS = 20  # fraction bits of the inputs and of the product


def program(p: Reader, x: Opened, y: Opened) -> Wired:
    """x·y at `BITS`. Each party runs this with its own reader `p`: the dealer over masks, an evaluator over masked values."""
    z = multiply(p, as_wire(p, x), as_wire(p, y))  # an opening of x·y, at twice the fraction bits
    return truncate(p, z, 2 * BITS, BITS, "product")  # a wire of it, at `BITS`


def main() -> None:
    """Show what goes in, what an evaluator holds, what it costs, and that the product is right."""
    x, y = np.array([[1.5, -2.25, 3.0, 0.125]]), np.array([[4.0, 0.5, -1.25, 8.0]])
    ran = run_gates(program, Input(encode(x, BITS)), Input(encode(y, BITS)))
    (words,) = ran.outputs
    product = decode(words, BITS)
    print("in the clear:         ", x * y)
    print("by the three parties: ", product)
    print("an evaluator's wire:  ", ran.evaluated[0].m, "(masked: it says nothing about the product)")
    print(f"{ran.rounds} round, {sum(ran.sent[0])} bytes each way, {len(ran.material[1])} bytes dealt to the second evaluator")
    if abs(product - x * y).max() > truncate.error.allowed(x * y, 2.0**-BITS).max():
        raise SystemExit("the product is wrong")


if __name__ == "__main__":
    main()
