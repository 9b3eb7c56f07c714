"""The files of a run: its directory, its checkpoints, its summary, and what is made of them.

`run_directory` writes the directory of one run, round by round; `checkpoint` saves and loads the state from which a
run is resumed; `summary` computes `summary.json`; `trackers` sends the numbers to TensorBoard or MLflow.
`records` reads a run directory, or a result file with the same content, without PyTorch: reports use nothing else.
`model_files` reads models and probe inputs from files, and `exports` writes a finished run's model as one file (a seed
and a mask, safetensors or ONNX) and loads the first of these.
"""
