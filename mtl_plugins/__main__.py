"""``python -m mtl_plugins`` is the command ``mtl``."""

from mtl_plugins.cli import main

if __name__ == '__main__':
    main()
