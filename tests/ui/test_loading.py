"""A model that loads while the user may type already."""

from __future__ import annotations

import threading

import pytest
from scripted_model import scripted_session

from selfee_cli.errors import NotFoundError
from selfee_cli.ui.loading import Loading


def test_how_far_it_is() -> None:
    go = threading.Event()
    told = threading.Event()
    session = scripted_session()

    def load(start, step):
        start(26_000_000_000)
        step(13_000_000_000)
        told.set()
        go.wait(60)
        return session

    loading = Loading(load)
    assert told.wait(60)
    assert not loading.is_over
    status = loading.status()
    assert status.startswith("loading 13.0 GB of 26.0 GB, ")
    assert status.endswith(" s left")
    with pytest.raises(KeyboardInterrupt):
        loading.result(quiet=True, cancelled=lambda: True)
    go.set()
    assert loading.result(quiet=True) is session
    assert loading.is_over


def test_what_went_wrong_is_told_by_who_waits() -> None:
    def load(start, step):
        raise NotFoundError("no model", hint="elsewhere")

    loading = Loading(load)
    with pytest.raises(NotFoundError, match="no model"):
        loading.result(quiet=True)
    assert isinstance(loading.error, NotFoundError)
    assert loading.status() == "loading the model"
