"""A small page on this machine: drop a recording in, watch it being scored, read the result."""
