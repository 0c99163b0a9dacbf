"""List the configs of this package, or print one with everything that it inherits and every change of the command line."""

import argparse

from mtl_plugins.cli.arguments import TRAINING, config_options


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='mtl config', description=__doc__)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    one = commands.add_parser('list', help='names and first lines of the configs')
    one.add_argument('words', nargs='*', metavar='WORD', help='only those whose name or first line has these words')
    one = commands.add_parser('print', parents=[config_options(shared=TRAINING)], help='the resolved config')
    one.add_argument('config', metavar='NAME', help='config file or name')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.config.load import CONFIGS, list_configs, load_config, parse_options

    if args.command == 'list':
        for path in list_configs():
            first = (CONFIGS / path).read_text(encoding='utf-8').partition('\n')[0].lstrip('# ')
            if all(word.lower() in f'{path} {first}'.lower() for word in args.words):
                print(f'{path}\n    {first}')
        return
    config = load_config(args.config, parse_options(args.cfg_options), args.data_root)
    from mtl_plugins.config.options import set_settings

    set_settings(config, **{name: getattr(args, name) for name in TRAINING})
    print(config.pretty_text)
