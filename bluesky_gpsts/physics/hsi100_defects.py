"""Defects of H-Si(100)."""

KINDS = (
    "missing_dimer",
    "missing_cluster",
    "dihydride",
    "dangling_bond",
    "bare_dimer",
    "lithography",
    "water",
    "contaminant",
    "unresolved",
)
"""Kinds of defects."""
