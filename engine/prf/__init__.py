"""Keyed counter-mode streams with domain labels."""

from engine.prf.streams import Label, Stream

__all__ = ["Label", "Stream"]
