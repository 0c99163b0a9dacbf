"""A picture of your own after each validation: predicted over true depth."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mtl_plugins.engine.pictures import Picture
from mtl_plugins.registry import PICTURES
from mtl_plugins.visualization.plots import to_array


@PICTURES.register_module()
class DepthScatter(Picture):
    """Picture of how often each predicted depth meets each true one: ``depth_scatter``. A perfect model draws the diagonal.

    Args:
        interval: Draw at every so many validations; 0 never.
    """

    def __init__(self, *, interval: int = 1) -> None:
        super().__init__(interval=interval)
        self.edges = np.geomspace(1, 300, 101)
        self.counts = 0

    def see_validation(self, runner, batch, samples) -> None:
        for sample in samples:
            label, prediction = (sample.get(name).data.cpu().numpy().ravel() for name in ('gt_depth_map', 'pred_depth_map'))
            known = label > 0
            self.counts = self.counts + np.histogram2d(label[known], prediction[known], (self.edges, self.edges))[0]

    def draw(self, runner):
        figure = Figure()
        axes = figure.subplots()
        axes.pcolormesh(self.edges, self.edges, self.counts.T, norm=LogNorm())
        axes.set(xscale='log', yscale='log', xlabel='label (m)', ylabel='prediction (m)')
        self.counts = 0
        yield 'depth_scatter', to_array(figure)
