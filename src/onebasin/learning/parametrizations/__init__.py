"""The parametrizations, one per file: masks, factors and others that are trained in the place of a model's weights."""
