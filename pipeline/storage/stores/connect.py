"""One client a store and process: connections are kept, and options are read once."""

from __future__ import annotations

import json
import threading

from pipeline.storage.address import OBJECT_STORES, Address
from pipeline.storage.stores.client import Client
from pipeline.storage.stores.endpoints import keep_credentials_apart
from pipeline.storage.stores.options import LOCAL, is_folder_named, options_for

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
                from pipeline.storage.stores.object_store import ObjectClient

                _CLIENTS[name] = ObjectClient(address, options)
            else:
                from pipeline.storage.stores.filesystem import FsspecClient

                _CLIENTS[name] = FsspecClient(address, options)
        return _CLIENTS[name]
