"""The same job in other tools, one script each as the tool's documentation has it; see `tests.bench.bench_peers`.

Each gets the source, the target and the folder of its programs; each runs in an environment of its own.
"""
