"""The secure computation of Trine: three parties, one answer.

The rooms, from the ground up: `ring`, `prf`, `wire`, `gates`, `functions`, `models` and `parties`
compute; `link` and `session` carry; `provision` prepares a model; `generate` turns logits into
text. Nothing in here knows Qt, a server or the disk layout of a node, and nothing happens at
import.
"""
