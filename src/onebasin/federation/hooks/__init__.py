"""Hooks: what choices of a method add to a round, at the server and at the clients, one file each.

`hook.Hook` is the base class; its methods are the points of a round at which a hook can act. The hooks are
control_variates (SCAFFOLD), personal_masks (FedMask), privacy, norm_bound and attack. An objective, an aggregation rule
or a settings class names its hook by reference (`exchange = "package.module:Name"`), so that neither server nor client
knows any by name.

A new hook is a class derived from `Hook`, and a reference to it in the choice that needs it.
"""
