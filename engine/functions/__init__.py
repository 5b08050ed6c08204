"""Tables of the smooth functions a decoder needs, with their windows and errors."""
