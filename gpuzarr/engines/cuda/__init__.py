"""The CUDA engine: bytes to device memory, batched nvCOMP, our kernels, results in CuPy arrays."""
