#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The other end of tests/test_pull.c: a small HTTP server with byte ranges, on 127.0.0.1 only.

    pull_server.py FOLDER     prints its port, serves FOLDER for at most two minutes, ends when stdin closes

It first makes the files: whole.bin, one.zip and two.zip (its halves as members), cut.zip (broken).
    /NAME          with ranges      /norange/NAME   ignores them      /flaky/NAME   cuts every first answer in half
    /busy/NAME     503 at first     /missing/NAME   404
Each request is a line of FOLDER/log: path, and the range asked for.
"""
import http.server
import os
import random
import re
import sys
import threading
import zipfile

folder = sys.argv[1]
seen = set()


def put(name, data):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def make_files():
    whole = b"GGUF" + random.Random(2026).randbytes(300000)
    put("whole.bin", whole)
    for name, data in (("one.zip", whole[:200000]), ("two.zip", whole[200000:])):
        with zipfile.ZipFile(os.path.join(folder, name), "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("package/__init__.py", "")
            z.writestr("package/data.bin", data)
    put("cut.zip", open(os.path.join(folder, "one.zip"), "rb").read()[:100000])


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range", "-")
        with open(os.path.join(folder, "log"), "a") as log:
            log.write(f"{self.path} {wanted}\n")
        how, _, name = self.path[1:].rpartition("/")
        first = self.path not in seen
        seen.add(self.path)
        if how == "missing" or not os.path.exists(os.path.join(folder, name)):
            return self.send_error(404)
        if how == "busy" and first:
            return self.send_error(503)
        data = open(os.path.join(folder, name), "rb").read()
        start = re.fullmatch(r"bytes=(\d+)-", wanted)
        start = int(start[1]) if start and how != "norange" else 0
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + (len(data) - start) // 2] if how == "flaky" and first else data[start:])


make_files()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
end.wait(120)
