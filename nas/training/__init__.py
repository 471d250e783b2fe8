"""Loss, label assignment and the one training loop that supernets and single detectors share."""
