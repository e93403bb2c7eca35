"""Steps of streams as calls of kernels, prepared once for each batch size."""
