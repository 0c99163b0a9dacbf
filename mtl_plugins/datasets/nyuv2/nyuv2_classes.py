"""The 40 and 13 classes of NYU Depth V2, and which of the 40 belong to which of the 13."""

# In the order of Gupta et al. (CVPR 2013, `classMapping40.mat`), whose numbers start at 1.
# fmt: off
CLASSES_40 = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf', 'picture', 'counter', 'blinds',
    'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes', 'ceiling', 'books', 'refrigerator',
    'television', 'paper', 'towel', 'shower curtain', 'box', 'whiteboard', 'person', 'night stand', 'toilet', 'sink', 'lamp',
    'bathtub', 'bag', 'other structure', 'other furniture', 'other prop',
)

# In the order of Couprie et al. (arXiv 1301.3572, `class13Mapping.mat`), whose numbers start at 1.
CLASSES_13 = (
    'bed', 'books', 'ceiling', 'chair', 'floor', 'furniture', 'objects', 'picture', 'sofa', 'table', 'tv', 'wall', 'window',
)

# `class13Mapping.mat`, from 0: the class of 13 of each of the 40.
CLASS_13_OF_40 = (
    11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4, 6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 5, 6,
)
# fmt: on
