"""From the bytes of a file to samples at the file's own rate: one module a library."""
