"""Masked autoencoders on a Ray cluster: from a bucket to an evaluated encoder."""

__version__ = "0.1.0"
