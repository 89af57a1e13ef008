"""A server of S3's kind in a process of its own on this machine, and buckets on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from uuid import uuid4

SERVER = """
import threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

app, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_at_a_time(environ, start):
    with lock:  # moto looks for an object and then writes it; S3 does both at once
        return list(app(environ, start))

class Silent(WSGIRequestHandler):
    def log_request(self, *_):
        pass

server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Silent)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """A running server, as the variables by which others find it."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # of an earlier server
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        process.kill()
        process.communicate()


@contextmanager
def bucket(variables: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The URL of an empty bucket, and the files of the server, while its variables are set."""
    from s3fs import S3FileSystem

    with patch.dict("os.environ", variables):
        files = S3FileSystem(use_listings_cache=False)
        name = f"bucket-{uuid4().hex}"
        files.mkdir(name)
        yield f"s3://{name}", files
