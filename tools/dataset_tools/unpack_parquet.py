"""`mtl data unpack-parquet` from a clone."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from mtl_plugins.cli import main

    main(['data', 'unpack-parquet', *sys.argv[1:]])
