"""Rows: runs of them, and the book that says which were announced, used and discarded. Pure: no lock, no I/O."""
