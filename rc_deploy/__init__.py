"""rc-deploy: ResCNet/GCLU checkpoints to fast inference engines, with proof that they compute the same thing.

Data flows one way: checkpoint -> graph -> engine -> evidence. Each stage is one module with one public
function: `rc_deploy.export.export`, `rc_deploy.engine.build`, `rc_deploy.validate.validate`,
`rc_deploy.bench.bench`. Nothing heavy is imported before it is used.
"""

__version__ = "0.1.0"
