"""Experiment trackers as readers of a run's files: training knows nothing of them."""
