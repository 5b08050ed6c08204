"""Chat templates as model families have them (images and most of tools left out), and the tokens that they need."""

from __future__ import annotations

from pathlib import Path

FILES = sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))
TEMPLATES = {file.stem: file.read_text("utf-8") for file in FILES}
"""By name; "parts" is of nobody, and puts its control tokens together in every way that a template has."""
NO_SYSTEM = {"gemma"}
"""Those that refuse a system prompt."""

CONTROLS = (
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜end▁of▁sentence｜>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|START|>",
    "<|END|>",
    "<|USER|>",
    "<|SYSTEM|>",
    "<|CHATBOT|>",
)
ADDED = ("<think>", "</think>", "<tool_response>", "  ", "    ", "\n\n")
"""Added tokens that are no control tokens."""
