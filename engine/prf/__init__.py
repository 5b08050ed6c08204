"""Keyed counter-mode streams with domain labels."""

from engine.prf.streams import FAST, Label, Stream

__all__ = ["FAST", "Label", "Stream"]
