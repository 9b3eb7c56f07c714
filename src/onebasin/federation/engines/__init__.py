"""The engines, one per file: where clients run. The file's name is the name in configurations (`engine.kind`).

single: one after the other in this process
pool: in worker processes of this machine, each of which uses `single`
flower: on machines of their own, through a SuperLink; the apps that Flower starts are in `apps/flower`

Each file has the settings, derived from `engine.EngineSettings`, whose `open` returns an `engine.Engine`. A new engine
is such a file, or ``package.module:Name``. All engines give equal messages and equal weights, bit for bit.
"""
