"""Model supply: from a checkpoint or a GGUF file to calibrated metadata and packs on disk.

Nothing is imported here, because a node that only loads its pack needs neither tokenizers nor GGUF.
"""
