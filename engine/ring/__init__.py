"""Z_2^64 as ``int64`` arrays in two's complement: fixed point and the numba kernels."""
