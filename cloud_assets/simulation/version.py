"""Which physics the simulation has: a number that changes with its source."""

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path


@lru_cache(maxsize=1)
def physics_version() -> str:
    """Hash of the simulation's source, 32 hexadecimal digits: older patches and what learnt from them are made anew."""
    digest = blake2b(digest_size=16)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
