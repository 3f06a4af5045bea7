"""Blue/green: two releases, one selector, and a driver that moves from one to the other or back.

`states` is what is remembered, `world` what is seen, `steps` what follows from both; `driver` does it, one write at
a time, through the ports `cluster`, `checks` and `consumers`.
"""
