"""The command ``ray`` for a machine that is busy: a node has ten minutes to start, not half of one.

Ray waits for 30 seconds, which no setting changes, until a node's helpers have said which ports they listen on, and for
another 30 until the node is there. Here the ports are given, so they are said before the helpers start.
"""

import inspect
import time
from typing import Any

from ray._private import services
from ray._raylet import (
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    RUNTIME_ENV_AGENT_PORT_NAME,
    persist_port,
)
from ray.scripts.scripts import main

SECONDS = 600
PORTS = {
    "dashboard_agent_listen_port": DASHBOARD_AGENT_LISTEN_PORT_NAME,
    "metrics_agent_port": METRICS_AGENT_PORT_NAME,
    "metrics_export_port": METRICS_EXPORT_PORT_NAME,
    "runtime_env_agent_port": RUNTIME_ENV_AGENT_PORT_NAME,
}
_start_raylet, _get_node = services.start_raylet, services.get_node


def start_raylet(*arguments: Any, **further: Any) -> Any:
    """Ray's function, after the ports have been said."""
    given = inspect.signature(_start_raylet).bind(*arguments, **further).arguments
    for argument, name in PORTS.items():
        persist_port(given["session_dir"], given["node_id"], name, given[argument])
    return _start_raylet(*arguments, **further)


def get_node(*arguments: Any) -> Any:
    """Ray's function, asked again while it does not find the node."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            return _get_node(*arguments)
        except RuntimeError:
            if time.monotonic() > end:
                raise
        time.sleep(1)


services.start_raylet, services.get_node = start_raylet, get_node
main()
