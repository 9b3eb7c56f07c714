"""How tensors become bytes and come back."""
