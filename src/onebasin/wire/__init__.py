"""The bytes between server and client: the message format, entropy coding, and the ledger that counts all bytes.

`error` has the errors of all decoders, and the other files import nothing else of onebasin but these:
numbers (integers of variable length), permutations, entropy (the range coder): `error`;
message (envelope and sections): `error`, `numbers`;
ledger (bytes by round, client, direction and kind): `error`, `message`;
gaussian_levels (quantiser levels of the normal distribution): nothing.
No file here imports PyTorch: arrays are NumPy's. docs/wire-format.md describes the format byte by byte.
"""
