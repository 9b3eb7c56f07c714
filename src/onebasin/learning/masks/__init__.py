"""Parts that several parametrizations share: maskable layers, masks from scores, straight-through gradients."""
