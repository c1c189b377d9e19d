"""tracelake: a local data lake with SQL analytics for GPU communication traces."""

__version__ = "0.1.0"
