"""The command, and what Python users call: run, compare, merge, and the apps of Flower."""
