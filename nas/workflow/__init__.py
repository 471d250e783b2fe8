"""The steps of the main job, each usable alone: train a supernet, search, train what was chosen."""
