"""How far a gate's value may be from the exact one: stated beside the gate, used by its test, printed in docs/gates.md."""

from dataclasses import dataclass

from engine.ring.fixed import Real


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """The sum of its terms; without any, the gate is exact in the ring.

    `units` of the value's last place, `relative` to the value's size, `absolute` in the value's own unit. `besides` names what
    comes on top and is no number of the gate's: its table's fit, or what happens with a known probability.
    """

    units: float = 0
    relative: float = 0
    absolute: float = 0
    besides: str = ""

    def allowed(self, exact: Real, unit: float) -> Real:
        """The largest error of each value, given the exact values and the size of the last place; `besides` not counted."""
        return self.units * unit + self.relative * abs(exact) + self.absolute

    def __str__(self) -> str:
        units = f"{self.units:g} unit{'s' if self.units != 1 else ''}" if self.units else ""
        relative = f"{self.relative:.2g} of the value" if self.relative else ""
        absolute = f"{self.absolute:g}" if self.absolute else ""
        return " + ".join(term for term in (absolute, relative, units, self.besides) if term) or "exact"


EXACT = ErrorBound()
