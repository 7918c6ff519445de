"""A small stand-in for W&B's HTTP API, as far as wandb 0.31 asks it while it sends runs, and a proxy that drops everything.

What the real service does beside this was never tried with this project; see docs/tracking.md.
"""

import contextlib
import gzip
import json
import socket
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "local-" + "0123456789abcdef" * 2 + "01234567"
"""As long as W&B asks."""


class FakeWandb:
    """Keeps what it is sent, by run."""

    def __init__(self, *, entities=("team",)):
        self.entities, self.keys = entities, {KEY}
        self.down = False
        self.runs, self.history, self.ended, self.files = {}, {}, {}, {}
        self.artifacts, self.made, self.used, self.asked = {}, [], [], []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """Say nothing."""

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if fake.down:
                    self.close_connection = True
                    return
                status, answer = fake.answer(self.path, self.headers.get("Authorization", ""), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = do_POST

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a sender that ends breaks its connections
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, authorization, body):
        if path == "/upload":
            return 200, {}
        if authorization not in {"Basic " + b64encode(f"api:{key}".encode()).decode() for key in self.keys}:
            return 401, {"errors": [{"message": "user is not logged in"}]}
        if path == "/graphql":
            question = json.loads(body)
            return 200, {"data": self.graphql(question["query"], question.get("variables") or {})}
        if path.endswith("/file_stream"):
            self.stream(path.split("/")[-2], json.loads(body))
        return 200, {}

    def stream(self, run, sent):
        for name, part in sent.get("files", {}).items():
            lines = self.files.setdefault((run, name), [])
            lines[part["offset"]:part["offset"] + len(part["content"])] = map(json.loads, part["content"])
        if sent.get("complete"):
            self.ended[run] = sent.get("exitcode")

    def points(self, run, figure):
        """Return (step of its part, value) of a figure in a run, in order, as W&B's history has them."""
        step = figure.rpartition("/")[0] + "/step" if "/" in figure else "step"
        return [(line[step], line[figure]) for line in self.files.get((run, "wandb-history.jsonl"), []) if figure in line]

    def summary(self, run):
        found = self.files.get((run, "wandb-summary.json"), [{}])
        return found[-1]

    def graphql(self, query, values):
        upload = {"uploadUrl": f"{self.url}/upload", "uploadHeaders": []}
        given = values.get("input", {})
        self.asked.append(query.split("(")[0].split("{")[0].strip())
        if "SeaRayAccess" in query:
            teams = [{"node": {"name": name}} for name in self.entities]
            found = {"name": values["entity"]} if values["entity"] in self.entities else None
            return {"viewer": {"username": "me", "entity": "team", "teams": {"edges": teams}}, "entity": found}
        if "UpsertBucket" in query:
            run = self.runs.setdefault(values["name"], {})
            run |= {name: value for name, value in values.items() if value is not None}
            project = {"id": "p", "name": values.get("project") or "p",
                       "entity": {"id": "e", "name": values.get("entity") or "team"}}
            return {"upsertBucket": {"inserted": True, "bucket": {
                "id": values["name"], "name": values["name"], "displayName": run.get("displayName"), "description": None,
                "config": "{}", "sweepName": None, "historyLineCount": 0, "project": project}}}
        if "CreateArtifactManifest" in query:
            return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": {
                "id": "f", "name": "m", "displayName": "m", **upload}}}}
        if "CreateArtifactFiles" in query:
            return {"createArtifactFiles": {"files": {"edges": [{"node": {
                "id": "f", "name": file["name"], "displayName": file["name"], "storagePath": "s", "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]}, **upload}} for file in given["artifactFiles"]]}}}
        if "CreateArtifact" in query:
            name = given["artifactCollectionName"]
            known = (name, given["digest"]) in self.artifacts
            place = self.artifacts.setdefault((name, given["digest"]), f"artifact-{len(self.artifacts)}")
            if given.get("runName"):
                self.made.append((given["runName"], name, [alias["alias"] for alias in given["aliases"]]))
            return {"createArtifact": {"artifact": {"id": place, "state": "COMMITTED" if known else "PENDING",
                                                    "artifactSequence": {"latestArtifact": None}}}}
        if "CommitArtifact" in query:
            return {"commitArtifact": {"artifact": {"id": values["artifactID"], "digest": "d"}}}
        if "UseArtifact" in query:
            name = next(name for (name, _), place in self.artifacts.items() if place == given["artifactID"])
            self.used.append((given["runName"], name))
            return {"useArtifact": {"artifact": {"id": given["artifactID"], "digest": "d", "description": None,
                                                 "state": "COMMITTED", "createdAt": "x", "metadata": None}}}
        if "CreateRunFiles" in query:
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": [
                {"name": name, "uploadUrl": f"{self.url}/upload"} for name in values["files"]]}}
        if "ServerFeatures" in query:
            return {"serverInfo": {"features": []}}
        return {}


@contextlib.contextmanager
def dropping_proxy():
    """Yield the URL of a proxy that accepts every connection and answers none, and a list that grows with each."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                taken.append(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
    finally:
        listener.close()
        for connection in taken:
            connection.close()
