"""Train ids of the 19 classes under short names, for the modules that build street scenes."""

from mtl_plugins.labels.cityscapes_classes import CLASSES

(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK,
 BUS, TRAIN, MOTORCYCLE, BICYCLE) = range(len(CLASSES))  # fmt: skip
