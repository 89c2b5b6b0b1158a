"""One client a store and process: connections are kept, and options are read once."""

from __future__ import annotations

import json
import threading

from pipeline.storage._address import OBJECT_STORES, Address
from pipeline.storage._client import Client
from pipeline.storage._endpoints import keep_credentials_apart
from pipeline.storage._options import LOCAL, is_folder_named, options_for

_CLIENTS: dict[str, Client] = {}
_LOCK = threading.Lock()


def client_for(address: Address) -> Client:
    """The client of the store at `address`; object stores are obstore's, unless the option `driver` is fsspec."""
    options = options_for(address)
    if address.protocol in OBJECT_STORES and not is_folder_named():
        keep_credentials_apart(address, options, LOCAL)
    name = json.dumps([address.protocol, address.host, options], sort_keys=True, default=str)
    with _LOCK:
        if name not in _CLIENTS:
            if address.protocol in OBJECT_STORES and options.get("driver") != "fsspec":
                from pipeline.storage._objects import ObjectClient

                _CLIENTS[name] = ObjectClient(address, options)
            else:
                from pipeline.storage._fsspec import FsspecClient

                _CLIENTS[name] = FsspecClient(address, options)
        return _CLIENTS[name]
