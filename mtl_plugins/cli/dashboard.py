"""Show the runs below some folders in the browser: table, curves and latest pictures, refreshed while trainings run."""

import argparse
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Reads files only, and answers this machine only: on a server, forward the port with ssh -L PORT:127.0.0.1:PORT.',
    )
    parser.add_argument(
        'folders', nargs='+', type=Path, metavar='FOLDER', help='work dirs, or folders that hold some at any depth'
    )
    parser.add_argument('--port', type=int, default=8765, help='0 takes a free one (default: %(default)s)')
    parser.add_argument('--every', type=float, default=5.0, metavar='SECONDS', help='how often it looks (default: %(default)s)')
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.every > 0:
        parser.error(f'--every should be positive. Found {args.every:g}')
    if not 0 <= args.port < 65536:
        parser.error(f'--port should be in 0..65535. Found {args.port}')


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.lab.report.dashboard import LOOPBACK, Dashboard, make_server

    dashboard = Dashboard(args.folders, args.every)
    dashboard.state()
    server = make_server(dashboard, args.port)
    print(f'http://{LOOPBACK}:{server.server_address[1]}/  (Ctrl-C ends it)', flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
