"""The objectives that a client can minimise, one per file; the file's name is the name in configurations."""
