"""The basis of all other packages: seeds, tensor layouts, explicit state, settings, plug-in registries, atomic files.

These files import nothing from the rest of onebasin:
seeds, layout (then norms and state, which use it), clients, settings, references, atomic_write.

Configurations are read by the others: `registry` finds named classes and imports `references`; `choices` makes a
pydantic field of a registry and imports `registry` and `settings`; `tables` reads and validates TOML tables, and
imports `choices` and `settings`. Only seeds, layout, norms and state import PyTorch.
"""
