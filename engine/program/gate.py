"""What a gate is: three sides of one operation, of which each reader runs its own, and how exact its value is."""

from collections.abc import Callable
from typing import Any, TypeAlias

from engine.program.bound import EXACT, ErrorBound
from engine.program.clear import Clear
from engine.program.dealing import Dealing
from engine.program.evaluation import Evaluation

Reader: TypeAlias = Dealing | Evaluation | Clear  #: who runs a program
Wired: TypeAlias = Any  #: a wire ⟦x⟧ as the reader holds it: `Mask`, `Wire`, or x itself (`Real`)
Opened: TypeAlias = Any  #: an opening of z as the reader holds it: `Rho`, `Opening`, or z itself (`Real`)


class Gate:
    """A gate as a program calls it: the reader's own side of it runs. All three take the same arguments."""

    __slots__ = ("__name__", "error", "sides")

    def __init__(
        self,
        name: str,
        deal: Callable[..., Any],
        evaluate: Callable[..., Any],
        clear: Callable[..., Any],
        error: ErrorBound = EXACT,
    ) -> None:
        self.__name__ = name
        self.sides = (deal, evaluate, clear)
        self.error = error

    def __call__(self, p: Reader, *args: Any, **kwargs: Any) -> Any:
        """Run this reader's side."""
        p.gate += 1
        return self.sides[p.reader](p, *args, **kwargs)
