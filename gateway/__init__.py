"""The shell: everything that talks to a network, a disk, a clock or a process."""

from importlib.metadata import version

__version__ = version("smallfirst")
