"""Checkpoints on disk: lazy readers, delta arithmetic, shard writer, digests, manifests.

numpy only: nothing here imports torch, and nothing in a file is ever executed.
"""
