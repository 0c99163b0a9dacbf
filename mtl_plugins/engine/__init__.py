"""Runner, loops, hooks and pictures, which importing this registers."""

from mtl_plugins.engine import hooks, log_processor, loops, optim_wrapper, pictures, runner
