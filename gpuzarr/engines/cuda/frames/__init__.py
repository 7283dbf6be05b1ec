"""Walking compressed frames on the host, whole batches at a time, before the GPU sees them."""
