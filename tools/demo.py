"""`mtl demo` from a clone."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from mtl_plugins.cli import main

    main(['demo', *sys.argv[1:]])
