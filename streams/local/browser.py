"""Opens an address in a browser of the screen, where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from typing import Final

#: One of these says that there is a screen, or names the browser; elsewhere a browser of the terminal would be found.
_SCREENS: Final = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")


def can_open() -> bool:
    """Whether there is a browser that leaves the terminal alone."""
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _SCREENS):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def open_page(address: str) -> None:
    """Open it, without waiting for the browser; what that says does not come to this terminal."""
    subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", "webbrowser", address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
