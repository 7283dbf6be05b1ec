def with_header(dtype, size): raise NotImplementedError
def without_header(dtype, settings): raise NotImplementedError
