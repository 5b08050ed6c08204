"""What an evaluator prepares ahead of time for a section of a block of rows: the dealt words, and its halves of products."""

import numpy as np

from engine.host.process import give_back, long_lived
from engine.prf import Stream
from engine.program.codec import unpacked
from engine.program.plan import Plan
from engine.program.streams import draw_fixed, draw_keyed
from engine.program.weights import Weights
from engine.ring.fixed import Ring
from engine.rows.run import Rows
from engine.wire import Secret, SlotKey

_TOGETHER = 4  # rows whose memory is given back at once: of one, a section has a tenth of a huge page


class PreparedMaterial(Secret):
    """One section of a block of rows as an evaluator holds it, ready for the rounds: what it received, and its halves of
    products. What else its stream gives is drawn when rows are computed: no memory for it waits, and it is read while the
    processor's cache has it.
    """

    def __init__(self, plan: Plan, role: int, section: int, rows: Rows, stream: Stream) -> None:
        self.plan, self.rows = plan, rows
        self.arrays: dict[SlotKey, Ring] = {}
        self.held: list[Ring] = []  #: what the fixed slots among them are views of, each [rows, words]
        self.section, self._drawn, self._stream = section, plan.drawn[role - 1], stream
        self._asked = self._spent = 0  # rows
        self._bounds: dict[SlotKey, Ring] = {}

    def add(self, key: SlotKey, words: Ring) -> None:
        """A slot that is held: [rows, words], or flat."""
        self.arrays[key] = words
        if self.plan.slots[key].keyed:
            self._bounds[key] = self.plan.slots[key].offsets(self.rows)

    @property
    def nbytes(self) -> int:
        """Memory that the prepared arrays hold."""
        return sum(array.nbytes for array in self.arrays.values())

    def spend(self, rows: int) -> None:
        """The first `rows` rows will not be asked for again: most of their memory is given back, of a few at a time."""
        if rows < min(self._spent + _TOGETHER, self.rows.count) or rows == self._spent:
            return
        for array in self.held:
            give_back(array[:rows], self._spent * array[:1].nbytes)
        self._spent = rows

    def part(self, start: int, stop: int) -> dict[SlotKey, Ring]:
        """Each slot's words for rows start … stop - 1: [rows, words], or flat where they grow with the keys.

        Raises:
            RuntimeError: a row was asked for before; what masks its openings is used once.
        """
        if start < self._asked:  # a wall of its own: it must not ask the book of rows, which may be at fault
            raise RuntimeError("a row's material is asked for twice")
        self._asked = stop
        rows, drawn, bounds = self.rows.part(start, stop), self._drawn, self._bounds
        buffer = np.empty((rows.count, drawn.online_words), np.int64)
        draw_fixed(buffer, self._stream, self.section, rows)
        part = {
            key: array[bounds[key][start] : bounds[key][stop]] if key in bounds else array[start:stop]
            for key, array in self.arrays.items()
        }
        part.update({key: buffer[:, words] for key, words in drawn.online.items()})
        part.update(draw_keyed(drawn, self._stream, self.section, rows))
        return part


def prepare(
    role: int,
    plan: Plan,
    section: int,
    rows: Rows,
    stream: Stream,
    dealt: bytes | memoryview,
    weights: Weights,
) -> PreparedMaterial:
    """An evaluator's work ahead of time: read the dealt material, and make κ - λ·m_W of each matrix.

    `dealt` has been checked against ``plan.dealt_bytes``; it is kept if it is writable.
    """
    material = PreparedMaterial(plan, role, section, rows, stream)
    drawn = plan.drawn[role - 1]
    words = drawn.words - drawn.online_words
    buffer = long_lived(8 * rows.count * words).view(np.int64).reshape(rows.count, words)
    draw_fixed(buffer, stream, section, rows, drawn.online_words)
    for key, place in drawn.ahead.items():
        material.add(key, buffer[:, place.start - drawn.online_words : place.stop - drawn.online_words])
    data = np.frombuffer(dealt, np.uint8)
    if not data.flags.writeable or data.ctypes.data % 8:
        data, given = long_lived(data.size), data  # kernels are compiled for aligned, writable words
        data[:] = given
    a_row, places = (plan.both_words, plan.both) if role == 1 else (plan.dealt_words, plan.dealt)
    at_keyed = a_row * 8 * rows.count
    fixed = data[:at_keyed].view(np.int64).reshape(rows.count, a_row)
    material.held = [buffer, fixed]
    for key, slot in plan.slots.items():
        if slot.kind.drawn_by(role):
            continue
        if not slot.keyed:
            material.add(key, _read_fixed(fixed, places[key], slot.row_words(), slot.width))
            continue
        words = int(slot.offsets(rows)[-1])
        material.add(key, unpacked(data[at_keyed : at_keyed + words * slot.width], words, slot.width))
        at_keyed += words * slot.width
    for product in plan.products:
        kappa = material.arrays[product.slot]
        out = np.array(kappa, order="C")
        weights.subtract(product.weight, np.ascontiguousarray(material.arrays[product.lam]), out)
        kappa[:] = out
    return material


def _read_fixed(dealt: Ring, at: int, words: int, width: int) -> Ring:
    if width == 8:
        return dealt[:, at : at + words]
    rows = dealt.shape[0]
    data = np.ascontiguousarray(dealt.view(np.uint8)[:, 8 * at : 8 * at + width * words])
    return unpacked(data.reshape(-1), rows * words, width).reshape(rows, words)
