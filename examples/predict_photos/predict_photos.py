"""Predict photographs with a trained model, from Python: python examples/predict_photos/predict_photos.py CHECKPOINT PHOTOS"""

import argparse

import numpy as np

from mtl_plugins.apis.inference import MultiTaskInferencer, Prediction


def describe(prediction: Prediction) -> str:
    """One line on a photograph: of each class map the largest class, of anything else the median."""
    parts = []
    for name, values in prediction.values.items():
        kind = prediction.labels[name]
        if kind.is_class_map:
            shares = np.bincount(values.ravel(), minlength=len(kind.classes)) / values.size
            parts.append(f'{name}: {100 * shares.max():.0f} % {kind.classes[shares.argmax()]}')
        elif values.ndim == 2:
            parts.append(f'{name}: median {np.median(values):.3g}{" m" if kind.is_depth else ""}')
    return f'{prediction.name} ({values.shape[1]}x{values.shape[0]}): {", ".join(parts)}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint')
    parser.add_argument('photos', help='image, folder, pattern, list of paths, video or camera:0')
    args = parser.parse_args()
    inferencer = MultiTaskInferencer(args.checkpoint, batch_size=2)
    # A generator: the next photographs are read while these are looked at, and no more.
    for prediction in inferencer.stream(args.photos, on_error=lambda sentence: print(f'left out: {sentence}')):
        print(describe(prediction))


if __name__ == '__main__':
    main()
