"""Hold a server at a multiple of its capacity: what it answers, how soon, and how much memory it takes."""

import argparse
import contextlib
import http.client
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    from mtl_plugins.utils.cli import image_size, positive

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The server runs in a process of its own, as serve.py starts it with --serve. Clients are on the same machine and '
        'take their share of its cores. One request in twenty is a bad upload.',
    )
    parser.add_argument('model', metavar='CHECKPOINT', help='checkpoint of a training, or an exported model')
    parser.add_argument('--size', type=image_size, default=(256, 512), metavar='HxW', help='of the images (default: 256x512)')
    parser.add_argument('--load', type=float, default=2.0, metavar='X', help='times the capacity (default: %(default)g)')
    parser.add_argument('--seconds', type=positive, default=60, help='for how long (default: %(default)s)')
    parser.add_argument('--warm-up', type=positive, default=10, help='seconds to find the capacity in (default: %(default)s)')
    parser.add_argument('--clients', type=positive, default=16, help='that find the capacity (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='OUT', help='write all numbers and where they were made to this file')
    parser.add_argument(
        '--serve', nargs=argparse.REMAINDER, default=[], metavar='OPTION', help='options of serve.py; the last one'
    )
    return parser.parse_args()


@contextlib.contextmanager
def started(model: str, options: list[str]):
    """Address and process of a server, which ends with the block."""
    from benchmarks.server_load import free_port
    from mtl_plugins.errors import UserError

    address = ('127.0.0.1', free_port())
    command = [sys.executable, str(ROOT / 'tools/deployment/serve.py'), model, *options, '--port', str(address[1])]
    # Its line for every request would fill the screen; what is wrong comes on the other stream.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while not _answers(address):
                if server.poll() is not None:
                    raise UserError(f'The server exited with status {server.returncode} before it answered.')
                time.sleep(0.2)
            yield address, server
        finally:
            server.terminate()


def _answers(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=5)
    try:
        connection.request('GET', '/health')
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main() -> int:
    args = parse_args()
    from benchmarks.results import Options, provenance, write_document
    from benchmarks.server_load import benchmark_server, print_load

    made = provenance(Options())
    with started(args.model, args.serve) as (address, server):
        sizes = dict(size=args.size, load=args.load, seconds=args.seconds, clients=args.clients, warm_up=args.warm_up)
        document = dict(provenance=made, serve=args.serve, **benchmark_server(address, server.pid, **sizes))
        alive = _answers(address)
    print_load(document)
    if args.json:
        write_document(args.json, document)
    return 0 if alive and not document['wrong'] else 1


if __name__ == '__main__':
    sys.path[:0] = [str(ROOT), str(ROOT / 'tools/analysis_tools')]
    from mtl_plugins.utils.cli import run_tool

    run_tool(main)
