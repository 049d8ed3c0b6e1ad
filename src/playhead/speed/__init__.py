"""The speed layer: what the batch layer has not covered yet, a quarter of a second behind."""
