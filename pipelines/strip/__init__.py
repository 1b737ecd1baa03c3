"""The strip: one picture by which a person judges a video's shots and clips at a glance."""

from pipelines.strip.draw import draw_strip
from pipelines.strip.lanes import Lane, signal_lanes
from pipelines.strip.plan import Mark

__all__ = ["Lane", "Mark", "draw_strip", "signal_lanes"]
