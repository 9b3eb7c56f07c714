"""Methods: what a federated method is, as settings that can be checked before anything runs.

`method.Method` is the table `method` of a configuration; its docstring explains every key. Each part of it has a file
of its own, with its settings and `needs`, which yields a sentence for every choice that does not go with it:
`aggregation_rule` and `aggregation/`, `codec_settings`, `neuron_order`, `probes`, `scoring`, `norm_bound` and
`privacy_settings`. `method` imports all of these, `page` imports `method`, and the pages import `page`.

A new method is a file in `pages/`, a new aggregation rule one in `aggregation/`: a class with `step`, and with `merge`
if it needs every model of a round. Code outside the package is named ``package.module:Name``.
"""
