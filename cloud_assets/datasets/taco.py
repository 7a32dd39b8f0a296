"""TACO version 1: one big file of samples, each of them a small archive ("tortilla") of rasters; read in parts.

A file begins with a magic number and the position of its footer, a Parquet table that lists name, offset and length of
each item. The outer table comes through tacoreader; the inner ones are read from bytes that are at hand anyway.
Format: https://tacofoundation.github.io (version 1 specification).

Of a public file only the byte ranges of the samples that were asked for travel. Every sample lands in its own file
under its final name when complete, so an interrupted download goes on where it stopped, a finished one offline.
"""

import io
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

from cloud_assets.errors import InvalidData, SourceUnreachable
from cloud_assets.progress import progress_bar
from cloud_assets.storage import atomic_file

if TYPE_CHECKING:
    import pandas as pd
    from fsspec import AbstractFileSystem

ID, SPLIT, OFFSET, LENGTH, SOURCE = "tortilla:id", "tortilla:data_split", "tortilla:offset", "tortilla:length", "source"
"""Columns of :func:`read_tables`; ``source`` is the file or address that offset and length refer to."""
PUBLIC_INDEX = "https://huggingface.co/datasets/tacofoundation/main/raw/main/tacos.json"
"""The list behind tacoreader's ``tacofoundation:`` names: name -> addresses of the parts."""
PART = re.compile(r"(?P<stem>.+)\.(?P<number>\d{4})\.part\.taco")
"""Name of one of the files that a data set was split into."""

_MAGIC = (b"#y", b"WX")
_TABLE = "samples.parquet"
_CONNECT_SECONDS, _READ_SECONDS = 5, 60  # without network the answer comes at once instead of after retries
_ATTEMPTS = 4
_THREADS = 8


@dataclass(frozen=True)
class ByteRange:
    """One sample of a TACO file."""

    name: str
    source: str  # local path or http(s) address
    offset: int
    length: int


def read_tables(sources: Sequence[str]) -> "pd.DataFrame":
    """Reads the tables of contents of TACO files, local or at http(s) addresses.

    tacoreader itself would leave out a part that cannot be read and only print so.

    Returns:
        One row a sample, with the file's own columns and ``source``, sorted by id.

    Raises:
        InvalidData: A file is truncated, cannot be reached, or is no TACO.
    """
    import pandas as pd
    import tacoreader.v1

    tables = []
    for source in sources:
        try:
            table = pd.DataFrame(tacoreader.v1.load(source))
        except Exception as error:  # whatever the reader's network and Parquet layers raise
            raise InvalidData(
                f"{source} cannot be read as a TACO file ({type(error).__name__}: {error}). If it is truncated, "
                "download it again; its last bytes hold the table of contents."
            ) from error
        tables.append(table.assign(**{SOURCE: source}))
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(ID, kind="stable", ignore_index=True)


def inner_files(sample: bytes, name: str) -> list[tuple[int, int]]:
    """(offset, length) of each file inside a sample, counted from its beginning, in the order of its table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer, length = (int.from_bytes(sample[start : start + 8], "little") for start in (2, 10))
    if sample[:2] not in _MAGIC or footer + length > len(sample):
        raise InvalidData(f"{name} is cut off or no TACO file: it has no table of contents. Download it again.")
    try:
        table = pq.read_table(io.BytesIO(sample[footer : footer + length]), columns=[OFFSET, LENGTH])
    except pa.ArrowException as error:
        raise InvalidData(f"{name} has a damaged table of contents ({error}). Download it again.") from error
    return list(zip(table[OFFSET].to_pylist(), table[LENGTH].to_pylist(), strict=True))


def missing_parts(files: Sequence[Path]) -> list[str]:
    """Names of the parts that lie before the last one of a multi-part file and are not there."""
    numbers: dict[str, set[int]] = {}
    for file in files:
        if match := PART.fullmatch(file.name):
            numbers.setdefault(match["stem"], set()).add(int(match["number"]))
    return [
        f"{stem}.{number:04d}.part.taco"
        for stem, there in sorted(numbers.items())
        for number in sorted(set(range(max(there))) - there)
    ]


def public_table(name: str, place: Path) -> "pd.DataFrame":
    """The table of contents of a public data set, as :func:`read_tables`; kept in ``place``: it is fetched once.

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
    with atomic_file(kept) as temporary:
        table[[column for column in table.columns if not column.startswith("internal:")]].to_parquet(temporary)
    return table


def localised_path(name: str, place: Path) -> Path:
    """File of a localised sample; a name that is no safe file name is hashed."""
    safe = name if re.fullmatch(r"[\w.\-]{1,100}", name) else blake2b(name.encode(), digest_size=16).hexdigest()
    return place / f"{safe}.tortilla"


def localise(samples: Sequence[ByteRange], place: Path, progress: bool) -> None:
    """Downloads the samples that are not in the folder ``place`` yet.

    Raises:
        SourceUnreachable: Some could not be downloaded; the others are kept, and the next call goes on from there.
    """

    def missing() -> list[ByteRange]:
        paths = {localised_path(sample.name, place): sample for sample in samples}
        return [sample for path, sample in paths.items() if not path.is_file() or path.stat().st_size != sample.length]

    left = missing()
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
            list(progress_bar("Download", len(left), "samples", progress, iterable=pool.map(fetch, left)))
        except BaseException:
            stop.set()
            raise
    if failures:
        raise SourceUnreachable(
            f"{len(missing())} of {len(samples)} samples could not be downloaded to {place} ({failures[0]}). Run it "
            "again when the network is back: it goes on where it stopped."
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
        raise SourceUnreachable(f"{sample.source} ends inside sample {sample.name}. Download it again.")
    raise SourceUnreachable(f"{sample.name} from {sample.source}: {reason}")


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
