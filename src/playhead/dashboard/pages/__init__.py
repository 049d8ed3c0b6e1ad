"""The pages, each by its `SPEC`."""
