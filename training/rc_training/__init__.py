"""Networks, data sets, recipes and the training loop behind `rc-deploy train`.

Depends on rc_deploy, never the other way round: the networks and the command reach rc_deploy through the
entry-point groups `rc_deploy.models` and `rc_deploy.commands`. Importing this package imports nothing heavy.
"""
