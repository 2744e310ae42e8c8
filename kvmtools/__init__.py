"""kvmtools: does the memory management of this running i386 kernel look the way it must?"""

__version__ = "0.1.0"
