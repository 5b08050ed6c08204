"""Numba kernels over arrays of ring elements, each beside the numpy expression that it must equal."""
