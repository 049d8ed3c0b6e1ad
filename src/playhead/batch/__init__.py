"""The batch layer: files in, quality measured, topics cleaned, days recomputed, events replayed."""
