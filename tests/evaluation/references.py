"""The definitions of the metrics, written out one by one in float64: slow and obvious. Random maps with the awkward cases."""

import math

import numpy as np

NUM_CLASSES = 19


def reference_semseg(labels, predictions) -> dict[str, float]:
    """IoU of each class (key: class id) over a list of maps, then ``mean_iou`` and ``nan_mean_iou``."""
    iou, present, accuracies, weighted = {}, [], [], 0
    labelled = sum(int((label != 255).sum()) for label in labels)
    right = sum(int((label == prediction).sum()) for label, prediction in zip(labels, predictions, strict=True))
    for class_id in range(NUM_CLASSES):
        true_positive = false_positive = false_negative = 0
        for label, prediction in zip(labels, predictions, strict=True):
            counted = label != 255
            is_label, is_prediction = (label == class_id) & counted, (prediction == class_id) & counted
            true_positive += int((is_label & is_prediction).sum())
            false_positive += int((~is_label & is_prediction).sum())
            false_negative += int((is_label & ~is_prediction).sum())
        union = true_positive + false_positive + false_negative
        iou[class_id] = 100 * true_positive / max(union, 1e-12)
        if union:
            present.append(iou[class_id])
        if of_class := sum(int((label == class_id).sum()) for label in labels):
            accuracies.append(100 * true_positive / of_class)
            weighted += of_class * iou[class_id]
    return iou | {
        'mean_iou': sum(iou.values()) / NUM_CLASSES,
        'nan_mean_iou': sum(present) / len(present) if present else math.nan,
        'pixel_accuracy': 100 * right / labelled,
        'mean_accuracy': sum(accuracies) / len(accuracies),
        'fw_iou': weighted / labelled,
    }


def reference_depth_image(label, prediction) -> dict[str, float]:
    valid = label > 0
    gt = np.maximum(label[valid].astype(np.float64), 0.01)
    pred = np.maximum(prediction[valid].astype(np.float64), 0.01)
    e = np.log(gt) - np.log(pred)
    a = np.abs(gt - pred)
    inverse = 1 / gt - 1 / pred
    errors = dict(
        si_log_rmse=100 * math.sqrt(max(np.mean(e**2) - np.mean(e) ** 2, 0)),
        log_rmse=math.sqrt(np.mean(e**2)),
        log_mae=np.mean(np.abs(e)),
        mae=np.mean(a),
        rmse=math.sqrt(np.mean(a**2)),
        rel=np.mean(a / gt),
        rel_squared=np.mean(a**2 / gt**2),
        inv_mae=np.mean(np.abs(inverse)),
        inv_rmse=math.sqrt(np.mean(inverse**2)),
        sq_rel=np.mean(a**2 / gt),
        log10=np.mean(np.abs(np.log10(gt) - np.log10(pred))),
    )
    for k in (1, 2, 3):
        errors[f'delta{k}'] = 100 * np.mean((gt / pred > 1 / 1.25**k) & (gt / pred < 1.25**k))
    return errors


def reference_depth(labels, predictions) -> dict[str, float]:
    """Mean over the images that have a valid pixel."""
    images = [reference_depth_image(g, p) for g, p in zip(labels, predictions, strict=True) if (g > 0).any()]
    return {name: math.fsum(image[name] for image in images) / len(images) for name in images[0]}


def reference_align(gt, pred, alignment):
    """The predicted pixels after the fit to the valid ones of an image."""
    gt, pred = np.float64(gt), np.float64(pred)
    if alignment == 'median':
        return pred * np.median(gt) / np.median(pred)
    if alignment == 'log':
        return np.exp(np.polyval(np.polyfit(np.log(pred), np.log(gt), 1), np.log(pred)))
    return np.polyval(np.polyfit(pred, gt, 1), pred)


def random_semseg_maps(rng, count=5, size=(23, 31), classes=range(0, 17)):
    """Labels with ignored pixels (one image of nothing else); with the default ``classes``, 17 and 18 occur nowhere."""
    labels = [rng.choice([*classes, 255], size=size).astype(np.uint8) for _ in range(count)]
    labels[-1][:] = 255
    predictions = [
        np.where(rng.random(size) < 0.6, np.where(label == 255, 0, label), rng.choice(list(classes), size=size)).astype(np.uint8)
        for label in labels
    ]
    return labels, predictions


def random_depth_maps(rng, count=5, size=(23, 31)):
    """Metres: an image without valid pixel, one with a single one, predictions of 0 and below, ratios of exactly 1.25."""
    labels = [np.exp(rng.uniform(np.log(4), np.log(300), size)).astype(np.float32) for _ in range(count)]
    for label in labels:
        label[rng.random(size) < 0.3] = 0
    labels[1][:] = 0
    labels[2][:] = 0
    labels[2][3, 5] = 17.0
    labels[3][0, :4] = [5, 4, 25, 16]
    predictions = [(np.where(g > 0, g, 30) * np.exp(rng.normal(0, 0.3, size))).astype(np.float32) for g in labels]
    predictions[0][0, :3] = [0.0, -3.0, 1e-6]
    labels[0][0, :3] = 10
    predictions[3][0, :4] = [4, 5, 16, 25]
    return labels, predictions
