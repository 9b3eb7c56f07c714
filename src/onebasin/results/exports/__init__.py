"""A finished run's model as one file: a seed and a mask, safetensors, ONNX; and the way back from the first."""
