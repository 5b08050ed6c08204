"""The standalone remote party: `trine-node` holds one share of a model and computes sessions with one other node."""
