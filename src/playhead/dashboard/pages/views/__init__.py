"""The pages Views and SQL."""
