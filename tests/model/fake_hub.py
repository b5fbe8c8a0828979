"""A hub on loopback with one repository, `some/model`, and what a user of it sees.

Run as a script with the folder to hand out: huggingface_hub reads its endpoint once, at import.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0" * 40
FILES = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}


class Hub(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/some/model/tree"):
            entries = [{"type": "file", "path": name, "size": len(data), "oid": name}
                       for name, data in FILES.items()]  # fmt: skip
            return json.dumps(entries).encode()
        if path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": name} for name in FILES]
            return json.dumps({"id": "some/model", "sha": COMMIT, "siblings": siblings}).encode()
        if path.startswith("/some/model/resolve/"):
            return FILES.get(path.split("/")[-1])
        return None

    def do_GET(self):
        body = self.answer()
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("ETag", f'"{self.path.split("/")[-1]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    do_HEAD = do_GET  # noqa: N815


def ask(md, name):
    try:
        model = md.from_pretrained(name, backend="numpy")
        print(model.task, len(model.params))
    except ValueError as error:
        print(error)


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
import minidistil  # noqa: E402

for name in ("some/model", "some/absent", "not a name!"):
    ask(minidistil, name)
server.shutdown()
server.server_close()
for name in ("some/model", "some/other"):  # the first is in the cache by now
    ask(minidistil, name)
