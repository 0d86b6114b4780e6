"""Labelled images to judge networks on, and the one definition of how they are fed to a network.

A data set is written NAME:SPLIT, e.g. `digits:test` or `cifar10:train`; `folder:PATH` reads pictures, `npz:PATH` a
NumPy archive, and `random:SEED` makes images of noise, without labels. Images stay uint8 until `normalise` feeds
them to a network. How each is read stands in a file of its own; `download` brings those that may be passed on.
"""

from rc_deploy.data.places import DATA_VARIABLE
from rc_deploy.data.sets import ImageSet, normalise
from rc_deploy.data.sources import RANDOM_IMAGES, files_of, load

__all__ = ["DATA_VARIABLE", "RANDOM_IMAGES", "ImageSet", "files_of", "load", "normalise"]
