"""Exploration: pictures of what a model does."""
