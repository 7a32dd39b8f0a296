"""Downloads chosen samples of a public TACO data set, each once.

Only the byte ranges of the samples that were asked for travel. Every sample lands in its own file under its final name
when complete, so an interrupted download goes on where it stopped, and a finished one needs no network any more.
"""

import json
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_assets.datasets.parallel_checks import with_progress
from cloud_assets.datasets.tortilla import read_tables
from cloud_assets.errors import SourceUnreachable
from cloud_assets.storage import atomic_file

if TYPE_CHECKING:
    import pandas as pd
    from fsspec import AbstractFileSystem

PUBLIC_INDEX = "https://huggingface.co/datasets/tacofoundation/main/raw/main/tacos.json"
"""The list behind tacoreader's ``tacofoundation:`` names: name -> addresses of the parts."""

_TABLE = "samples.parquet"
_CONNECT_SECONDS, _READ_SECONDS = 5, 60
"""Without network the answer comes at once instead of after retries."""
_ATTEMPTS = 4
_THREADS = 8


@dataclass(frozen=True)
class ByteRange:
    """One sample of a TACO file."""

    name: str
    source: str
    """Local path or http(s) address."""
    offset: int
    length: int


def public_table(name: str, place: Path) -> "pd.DataFrame":
    """The table of contents of a public data set; kept in ``place``, so that it is fetched once.

    Args:
        name: Its name in the public index, such as "cloudsen12-l1c".
        place: Folder of the localised samples.

    Returns:
        One row a sample, as :func:`cloud_assets.datasets.tortilla.read_tables`.

    Raises:
        SourceUnreachable: There is no network, or the index does not list the data set.
        InvalidData: A part's table cannot be read.
    """
    import pandas as pd

    kept = place / _TABLE
    if kept.is_file():
        return pd.read_parquet(kept)
    try:
        addresses = json.loads(_file_system(PUBLIC_INDEX).cat_file(PUBLIC_INDEX))[name]
    except _failures() as error:
        raise SourceUnreachable(f"The public index of TACO data sets does not give {name}: {_short(error)}.") from error
    table = read_tables([addresses] if isinstance(addresses, str) else sorted(addresses))
    plain = table[[column for column in table.columns if not column.startswith("internal:")]]
    with atomic_file(kept) as temporary:
        plain.to_parquet(temporary)
    return table


def localised_path(name: str, place: Path) -> Path:
    """File of a localised sample; a name that is no safe file name is hashed."""
    safe = name if re.fullmatch(r"[\w.\-]{1,100}", name) else blake2b(name.encode(), digest_size=16).hexdigest()
    return place / f"{safe}.tortilla"


def localise(samples: Sequence[ByteRange], place: Path, progress: bool) -> None:
    """Downloads the samples that are not there yet.

    Args:
        samples: What to download.
        place: Folder to put them in.
        progress: Whether to show a progress bar.

    Raises:
        SourceUnreachable: Some could not be downloaded; the others are kept, and the next call goes on from there.
    """
    left = [sample for sample in samples if not _is_there(localised_path(sample.name, place), sample.length)]
    if not left:
        return
    place.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    stop = threading.Event()

    def fetch(sample: ByteRange) -> None:
        if stop.is_set():
            return
        try:
            with atomic_file(localised_path(sample.name, place)) as temporary:
                temporary.write_bytes(read_range(sample))
        except SourceUnreachable as error:
            failures.append(str(error))
            if len(failures) >= _THREADS:  # the network is gone: do not try thousands of samples in vain
                stop.set()

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="download") as pool:
        try:
            for _ in with_progress(pool.map(fetch, left), len(left), "download", progress, "samples"):
                pass
        except BaseException:
            stop.set()
            raise
    if failures:
        missing = sum(not _is_there(localised_path(sample.name, place), sample.length) for sample in samples)
        raise SourceUnreachable(
            f"{missing} of {len(samples)} samples could not be downloaded to {place} ({failures[0]}). Run it again "
            "when the network is back: it goes on where it stopped."
        )


def read_range(sample: ByteRange) -> bytes:
    """Reads the bytes of a sample from a local file or over http.

    Raises:
        SourceUnreachable: They cannot be had, or not all of them.
    """
    file_system = _file_system(sample.source)
    reason = ""
    for attempt in range(_ATTEMPTS):
        time.sleep(attempt**2)
        try:
            # With a size the server is not asked for it, and refused if it sends more than the range.
            with file_system.open(sample.source, cache_type="none", size=sample.offset + sample.length) as stream:
                stream.seek(sample.offset)
                data: bytes = stream.read(sample.length)
        except _failures() as error:
            reason = _short(error)
            if isinstance(error, FileNotFoundError | ValueError):  # another attempt would end alike
                break
            continue
        if len(data) == sample.length:
            return data
        raise SourceUnreachable(f"{sample.source} is truncated: it ends inside sample {sample.name}.")
    raise SourceUnreachable(f"{sample.name} from {sample.source}: {reason}")


def _is_there(path: Path, length: int) -> bool:
    return path.is_file() and path.stat().st_size == length


def _file_system(source: str) -> "AbstractFileSystem":
    import aiohttp
    import fsspec

    if not source.startswith(("http://", "https://")):
        return fsspec.filesystem("file")
    timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    # Proxies are those of the environment.
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})


def _failures() -> tuple[type[Exception], ...]:
    """What fsspec raises where a source cannot be read."""
    import aiohttp

    return OSError, aiohttp.ClientError, TimeoutError, ValueError, KeyError


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__} {text[:200]}".strip()
