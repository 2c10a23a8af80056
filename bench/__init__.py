"""Side-by-side runs: the same load with no proxy, through haproxy, and through the sidecar with everything on.

`python -m bench` measures and prints the table; `python -m bench profile SCENARIO` shows where the sidecar's time goes.

    prepared.py   the messages of every scenario, built once       load.py     the load process
    upstream.py   the responder process that stands for OpenD      disk.py     what one fdatasync costs here
    paths.py      starts and stops upstream, haproxy and sidecar   profiled.py the sidecar under cProfile, all threads
    scenarios.py  what is run, and how a ratio is made of it       report.py   the table and the JSON

Nothing here is imported by the product, and nothing but loopback is used.
"""
