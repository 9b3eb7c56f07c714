"""Operations on any `torch.nn.Module`: call it with other tensors, and read and write its weights by name."""
