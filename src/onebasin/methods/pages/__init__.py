"""The methods that configurations can name, one page per file.

A page has the paper in its docstring, and defines `PAGE`: the settings of the method, a line for `onebasin list
methods`, and the settings of training and federation that the paper uses. Deviations from the paper are stated.
"""
