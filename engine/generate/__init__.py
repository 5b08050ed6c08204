"""From logits to words: sampling, streaming text, chat templates. Runs at the client, on clear values.

Nothing is imported here: sampling needs no tokenizer, and a tokenizer no sampling.
"""
