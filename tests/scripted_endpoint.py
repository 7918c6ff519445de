"""A scripted OpenAI-compatible server on 127.0.0.1, for tests of those who ask one."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedEndpoint:
    """Gives the status and text that `script` says, by how many requests came before; `asked` holds them all.

    A text that is bytes is the whole body, whatever it is.
    """

    def __init__(self, script):
        self.script, self.asked, self.keys, self.lock = script, [], [], threading.Lock()

    @contextlib.contextmanager
    def running(self):
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint.lock:
                    number = len(endpoint.asked)
                    endpoint.asked.append(body)
                    endpoint.keys.append(self.headers["Authorization"])
                status, text = endpoint.script(number)
                reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "usage": {
                    "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}, "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}
                content = text if isinstance(text, bytes) else json.dumps(
                    reply if status == 200 else {"error": {"message": text}}).encode()
                with contextlib.suppress(ConnectionError):  # who asked may have lost patience
                    self.send_response(status)
                    self.send_header("Content-Type", "text/html" if content.startswith(b"<") else "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
