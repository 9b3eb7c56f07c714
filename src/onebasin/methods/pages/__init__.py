"""The methods that are known by name, a page each: the paper, and one choice for each question of a method."""
