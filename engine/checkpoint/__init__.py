"""Reading a checkpoint: Hugging Face directories and GGUF files, their tokenizers and templates.

Nothing is imported here, because each reader needs libraries that the others do not.
"""
