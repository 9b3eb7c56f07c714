"""A finished run's model as one file: a seed and a mask, safetensors, or ONNX.

`command` is `onebasin export`. `seed_mask` is the format of a file with a seed and a mask, `supermask_run` makes one
from a run, and `rebuilding` turns one back into a model.
"""
