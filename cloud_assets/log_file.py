"""The log file: what a terminal is spared, such as warnings of libraries and every event of a run."""

import logging
import sys
import warnings
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any


class _LogFile(RotatingFileHandler):
    def _open(self) -> Any:
        path = log_path()  # not before there is something to write
        path.parent.mkdir(parents=True, exist_ok=True)
        self.baseFilename = str(path)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (a name of logging)
        """Nothing: a folder that cannot be written to, or a full disk, is told by the work itself."""


class _Terminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(f"  {record.getMessage()}", file=sys.stderr)


def log_path() -> Path:
    """``logs/cloud_assets.log`` at home, or in the folder of work where results go to an object store."""
    from cloud_assets.settings import settings

    found = settings()
    home = Path(found.home) if "://" not in found.home else found.work or Path()
    return (home / "logs" / "cloud_assets.log").expanduser().absolute()


def keep_log() -> logging.Handler:
    """From now on, warnings go to the log file, and only those of this package to the terminal as well."""
    root, own = logging.getLogger(), logging.getLogger(__package__)

    def warn(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        is_own = Path(__file__).parent in Path(filename).parents
        (own if is_own else logging.getLogger("py.warnings")).warning("%s", message)

    warnings.showwarning = warn
    own.setLevel(logging.INFO)
    file = _LogFile("cloud_assets.log", maxBytes=2_000_000, backupCount=3, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    for logger, handler in ((root, file), (own, _Terminal(logging.WARNING))):
        for earlier in [other for other in logger.handlers if type(other) is type(handler)]:
            logger.removeHandler(earlier)
            earlier.close()
        logger.addHandler(handler)
    return file
