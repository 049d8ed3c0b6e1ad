"""The demo: the platform on real or generated data, from nothing to checked answers."""

from playhead.demo.run import DEMO_SPEC, run_demo

__all__ = ["DEMO_SPEC", "run_demo"]
