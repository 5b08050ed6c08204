"""What runs a program of gates: plans, and the three readers (the dealer's, an evaluator's, the one in the clear)."""
