"""Print what completes commands and options in a shell: eval "$(mtl completion bash)"."""

import argparse


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='bash: add the line above to ~/.bashrc. zsh: mtl completion zsh > FOLDER/_mtl, where FOLDER is one of $fpath. '
        "Needs the extra `completion`: pip install 'mtl_plugins[completion]'.",
    )
    parser.add_argument('shell', choices=['bash', 'zsh'])
    return parser


def main(args: argparse.Namespace) -> None:
    import shtab

    from mtl_plugins import cli

    parser = cli.make_parser()
    _complete_files(parser, shtab.FILE)
    print(shtab.complete(parser, args.shell))


def _complete_files(parser: argparse.ArgumentParser, files: dict[str, str]) -> None:
    """Let all values without choices be completed as files."""
    # argparse offers no other way to the actions.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                _complete_files(command, files)
        elif action.choices is None and action.nargs != 0:
            action.complete = files
