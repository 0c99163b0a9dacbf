"""Score a submission archive against labels."""

import argparse
import json
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Exit status: 0 scored, 1 the archive or the labels are not valid (one sentence on stderr), 2 wrong usage.',
    )
    parser.add_argument('archive', metavar='ZIP', help='submission archive; it is read in memory and never extracted')
    parser.add_argument(
        '--labels',
        required=True,
        metavar='ROOT',
        help='folder with semseg/<index>.png and/or depth/<index>.png for each test image',
    )
    parser.add_argument('--json', metavar='OUT', help='write all scores to this file, as one flat JSON object')
    return parser


def main(args: argparse.Namespace) -> None:
    from mtl_plugins.errors import UserError
    from mtl_plugins.evaluation.scores import print_metrics
    from mtl_plugins.records.record import read_record_file
    from mtl_plugins.records.recording import change_record
    from mtl_plugins.submission.grader import grade_submission
    from mtl_plugins.utils.files import save_text

    scores = grade_submission(args.archive, args.labels)
    if args.json:
        save_text(Path(args.json), json.dumps(scores, indent=2, allow_nan=False) + '\n')
    print_metrics(scores)
    archive = Path(args.archive)
    try:
        is_of_run = read_record_file(archive.parent).get('archive') == archive.name
    except UserError:
        is_of_run = False
    if is_of_run:
        try:
            change_record(archive.parent, lambda record: record.update(graded=scores))
            print('Noted in the record of the run.')
        except UserError as error:
            print(f'Not noted in the record of the run: {error}')
