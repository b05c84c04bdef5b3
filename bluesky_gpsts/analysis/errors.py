"""Errors of the analysis: each says what was wrong and what to do next."""


class AnalysisError(RuntimeError):
    """A run cannot be analysed, or a report cannot be written."""
