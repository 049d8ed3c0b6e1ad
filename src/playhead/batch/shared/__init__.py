"""A batch run's work divided among processes, which may be on other machines."""
