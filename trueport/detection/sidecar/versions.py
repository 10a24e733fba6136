"""How a model's version in the repository names the model itself."""


def version_number(sha256: str) -> int:
    """The version a model goes by: the first 15 hex digits of its hash, below 2**60 as Triton needs it.

    So an answer, which carries its model's version, names the very model that gave it.
    """
    return int(sha256[:15], 16)
