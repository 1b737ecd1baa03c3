"""Pipelines: plans assembled from stages, and the ``clipmill`` command line."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("clipmill")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
