"""The engine's benchmark: three processes, real links, figures beside those of its peer (`make bench`)."""
