"""What is trained in the place of a model's weights: masks, factors, anchors."""
