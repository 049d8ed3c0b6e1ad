"""The torture harness: real processes, killed again and again, and nothing lost or doubled.

`plan` says what happens, from a seed alone; `world` holds the events; `work` is what the
processes do; `life` runs a plan and kills; `truth` recomputes plainly what must be there.
"""
