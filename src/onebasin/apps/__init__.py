"""Apps: what users start. The command, `onebasin.run` in Python, and the apps that Flower starts.

`run` starts or resumes one run: it puts together task, server, engine and run directory, and calls the round loop.
`terminal` shows a run on the terminal, `study` reads a grid of runs and `compare` runs it, `merge` merges models in
files, `list_names` lists what configurations can name. `cli` defines the command `onebasin` and loads each of these
only when it is needed; `flower` has the apps of a SuperLink and its nodes. No other package imports this one.

A new command is a function in `cli`, with its code in a file of its own.
"""
