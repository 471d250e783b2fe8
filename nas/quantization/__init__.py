"""Trained detectors in int8: calibrated, fine-tuned, selective; each checked and evaluated in the runtime that will
serve it."""
