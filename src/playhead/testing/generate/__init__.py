"""A data set of any size: six files with the shapes, proportions and dirt of the real one.

Popular titles and busy users are few, days follow seasons and weekdays, and playback is worse
for some pairs of device and quality, so that views over it have something to show.
"""

from playhead.testing.generate.spec import GenerateSpec
from playhead.testing.generate.writing import generate

__all__ = ["GenerateSpec", "generate"]
