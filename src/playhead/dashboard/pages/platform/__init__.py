"""The page Platform."""
