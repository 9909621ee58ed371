#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The other end of tests/test_http_scorer.c: an endpoint in the shape of /v1/moderations, on 127.0.0.1 only.

    moderation_server.py     prints its port, serves for at most two minutes, ends when stdin closes

A text's score is the share of its letters that are x; "rude" has it, "other" has half of it. The path says how:
    /good  /flagged (no scores)  /key (401 without the key "secret")  /short (one result too few)  /garbage  /empty
    /odd (scores of every wrong kind)  /flaky (503, then 429, then good)  /down (500 always)  /slow (answers after 3 s)
    /refuses (400 with a message)  /later (good once, then 500 always)  /count (score: how many requests came)
"""
import http.server
import json
import sys
import threading
import time

n_seen = {}


def result(text, how, i):
    share = text.count("x") / max(1, len(text))
    if how == "flagged":
        return {"flagged": share >= 0.5}
    if how == "odd":
        return [{"category_scores": {"rude": 1.5}}, {"category_scores": {"rude": "0.1"}}, {"category_scores": {}}, 7, {},
                {"category_scores": {"rude": None, "other": 0.25}, "flagged": True}][i % 6]
    if how == "count":
        share = n_seen["/count"] / 100
    return {"flagged": share >= 0.5, "category_scores": {"rude": share, "other": share / 2}}


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, code, text, headers=()):
        data = text.encode()
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        n_seen[self.path] = n = n_seen.get(self.path, 0) + 1
        how = self.path.strip("/").split("/")[0]
        if how == "key" and self.headers.get("Authorization") != "Bearer secret":
            key = self.headers.get("Authorization", "")  # an endpoint that gives secrets away
            return self.answer(401, json.dumps({"error": {"message": f"no such key {key}".strip()}}))
        if how == "refuses":
            return self.answer(400, json.dumps({"error": {"message": "unknown model " + request.get("model", "-")}}))
        if how == "down" or (how == "later" and n > 1):
            return self.answer(500, "<html>oops</html>")
        if how == "flaky" and n <= 2:
            return self.answer(503 if n == 1 else 429, "{}", [("Retry-After", "0")])
        if how == "garbage":
            return self.answer(200, "<html>what?")
        if how == "empty":
            return self.answer(200, "")
        if how == "slow":
            time.sleep(3)
        results = [result(text, how, i) for i, text in enumerate(request["input"])]
        self.answer(200, json.dumps({"id": "m", "results": results[:-1] if how == "short" else results}))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
end.wait(120)
