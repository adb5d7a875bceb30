"""TEMPORARY STUB, overwrite me."""


class SyntheticReader:
    def __init__(self, raw, source, *, synthetic): ...
