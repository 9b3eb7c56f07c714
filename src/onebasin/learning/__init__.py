"""Learning: what one client does with its data. Nothing here knows of rounds, messages or a server.

`load_task.load_task` returns a `task.Task`: data, partition and model. `local_training.train_locally` trains a model on
a client's examples; `metrics.evaluate` scores it.

Each file imports only files that stand before it in this list:
data and models: data, models, metrics
layers and masks: masks, pretrained, features, parametrization, parametrizations
task: task, load_task, seed_and_mask
training: optimizers, objective, objectives, local_training, reuse

A new objective is a file in `objectives/`, a new parametrization one in `parametrizations/`. For a new data set or
model see `data/load.py` and `models/__init__.py`. Code outside the package is named ``package.module:Name``.
"""
