"""The stages of a codec chain, a file each."""
