"""Compile the kernels that most tests use, a minute's work where the cache has none of them: `python -m tests.kernels`."""

from __future__ import annotations

from tests.privacy.session import Session
from tests.privacy.small import small


def main() -> None:
    """Run two rows through the three parties in this process."""
    session = Session(small())
    session.deal(2)
    session.step([1, 2])


if __name__ == "__main__":
    main()
