"""The AITBC coordinator: takes inference jobs and pushes them to miners."""

from importlib.metadata import version

__all__ = ["__version__"]
__version__ = version("aitbc-coordinator")
