"""The demo: both layers on real or generated data, from nothing to a checked answer."""

from playhead.demo.run import DEMO_SPEC, run_demo

__all__ = ["DEMO_SPEC", "run_demo"]
