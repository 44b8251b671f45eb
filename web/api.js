/** Speaks to the server that this page came from. A token lives as long as the tab. */
const KEY = "dpe-token";

/** Its message is empty where none was given yet. */
export class NeedsToken extends Error {}

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

async function answer(response) {
  if (response.status === 401) throw new NeedsToken(sessionStorage.getItem(KEY) === null ? "" : "The server does not take that token.");
  if (response.ok) return response;
  const { message = `HTTP ${response.status}` } = await response.json().catch(() => ({}));
  throw new Error(message);
}

export async function get(path, signal) {
  return (await answer(await fetch(path, { headers: headers(), signal }))).json();
}

export async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { ...headers(), "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await answer(response)).json();
}

/** Server-sent events by fetch, which unlike EventSource can show a token. Comes back by itself; `onState` is told. */
export async function follow(path, signal, onEvent, onState) {
  while (!signal.aborted) {
    try {
      const response = await answer(await fetch(path, { headers: headers(), signal }));
      onState(true);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const event = /^event: (.*)$/m.exec(block)?.[1];
          const data = /^data: (.*)$/m.exec(block)?.[1];
          if (event !== undefined && data !== undefined) onEvent(event, JSON.parse(data));
        }
      }
    } catch (error) {
      if (signal.aborted || error instanceof NeedsToken) return;
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
