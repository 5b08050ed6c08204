"""Keyed counter-mode streams with domain labels."""

from engine.prf.streams import FAST, Label, Stream, require_apart

__all__ = ["FAST", "Label", "Stream", "require_apart"]
