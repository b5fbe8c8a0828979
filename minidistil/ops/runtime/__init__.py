"""How kernels are compiled, cached and launched, and the memory that they use."""
