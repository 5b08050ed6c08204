"""Who runs a program: the dealer, an evaluator, and the reader in the clear."""
