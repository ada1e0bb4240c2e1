"""Opening the browser: the token is in no argument of a process."""

import os
import signal
import webbrowser
from threading import Timer

from starlette.applications import Starlette

from pointcover.labelling.access import Access
from pointcover.labelling.serve import REDIRECT, serve


def test_the_browser_gets_a_file_and_not_the_token(tmp_path, monkeypatch):
    opened = []

    def open_file(address):
        opened.append((address, (tmp_path / REDIRECT).read_text()))
        Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        return True

    monkeypatch.setattr(webbrowser, "open", open_file)
    access, said = Access(), []
    serve(lambda access: Starlette(), access, folder=tmp_path, say=said.append)
    ((address, text),) = opened
    assert address == (tmp_path / REDIRECT).as_uri()
    assert access.token not in address
    assert said[0] in text
    assert access.token in said[0]
    assert not (tmp_path / REDIRECT).exists()


def test_without_a_browser_no_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def end(address):
        Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    serve(lambda access: Starlette(), Access(), folder=None, say=end)
    assert list(tmp_path.iterdir()) == []
