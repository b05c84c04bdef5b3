"""Trained models on disk, whatever they judge: weights, and a card that says what they are."""

from bluesky_gpsts.models.card import Card, Model, ModelError, check_name

__all__ = ["Card", "Model", "ModelError", "check_name"]
