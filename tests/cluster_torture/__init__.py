"""The torture harness of a cluster: servers and parts are killed while events flow.

`plan` says what is killed, from a seed alone; `life` runs a plan on servers of its own. What
clients send, and what must be there in the end, are those of `live_torture`.
"""
