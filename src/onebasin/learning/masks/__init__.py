"""What parametrizations by masks share: layers that can be masked, score masks, straight-through gradients."""
