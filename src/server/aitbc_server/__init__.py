"""The AITBC coordinator: takes inference jobs and pushes them to miners."""

__all__ = ["__version__"]
# What the distribution is built with; asking for its metadata would cost each command 40 ms.
__version__ = "0.1.0"
