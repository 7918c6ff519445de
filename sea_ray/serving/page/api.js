// The server's API: requests with the key, streams of server-sent events, and refusals in words.

const KEY = "sea_ray key"; // in sessionStorage: gone with the tab

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Takes the key of a link ".../#key=KEY" and wipes it from the address bar; the fragment never reaches a server. */
export function takeKeyFromLink() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) return false;
  history.replaceState(null, "", location.pathname + location.search);
  keepKey(key);
  return true;
}

export const keepKey = (key) => sessionStorage.setItem(KEY, key.trim());
export const forgetKey = () => sessionStorage.removeItem(KEY);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** Returns the response to a GET, or with a body to a POST; paths are relative, so that the page works behind a prefix. */
export async function call(path, body, signal) {
  const headers = {};
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  if (body) headers["Content-Type"] = "application/json";
  const sent = fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  const response = await orRefused(sent, "The server cannot be reached.");
  if (!response.ok) throw new Refused(response.status, await inWords(response));
  return response;
}

export const json = async (path, body) => (await call(path, body)).json();

/** Yields the chunks of a streamed answer. */
export async function* chunks(path, body, signal) {
  const response = await call(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await orRefused(reader.read(), "The server broke off.");
    if (done) throw new Refused(0, "The server broke off.");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(0, chunk.error.message);
      yield chunk;
    }
  }
}

/** Awaits what the network may fail at; what a person stopped is no failure. */
async function orRefused(promise, reason) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(0, reason);
  }
}

async function inWords(response) {
  if (response.status === 401) return "This key is not accepted here.";
  let reason = `The server answers with status ${response.status}`;
  try {
    reason = (await response.json()).error.message;
  } catch {
    // a proxy's page, not an answer of this application
  }
  return response.status === 429 ? `The server is busy: ${reason}.` : `${reason}.`;
}
