"""What can be done with any `torch.nn.Module`: call it with other tensors, read and write its weights by name."""
